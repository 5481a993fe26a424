"""Table of predictions → the same table, checked, with the columns that all scores need."""

import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from featcache.errors import ManifestError, PredictionsError, did_you_mean, listed
from featcache.files.spreadsheets import open_table
from featcache.labels import lookalikes
from featcache.units import counted

if TYPE_CHECKING:
    import pandas as pd


log = logging.getLogger(__name__)

KEYS = ("seed", "fold", "utterance_id", "speaker_id")
COLUMNS = (*KEYS, "target", "prediction")
OPTIONS = {
    "seed": "--seed",
    "fold": "--fold",
    "utterance_id": "--id",
    "speaker_id": "--speaker",
    "target": "--target",
    "prediction": "--prediction",
}
_MOST_CLASSES = 100  # more labels are probably numbers or names, unless the user lists them as classes


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """Predictions that can be scored.

    Attributes:
        table: Table with one row per seed, fold and tested utterance. Its columns are seed, fold, utterance_id and
            speaker_id ("" for unknown), then target and prediction, or for a regression ``target_<dim>`` and
            ``prediction_<dim>``, or for several labels ``target_<label>`` and ``prediction_<label>``, which are 0 or 1.
        classes: All labels, in the order of the tables; empty for other tasks.
        dimensions: Dimensions of a regression, in the order of the tables; empty for other tasks.
        labels: Labels that do not exclude each other, in the order of the tables; empty for other tasks.
    """

    table: "pd.DataFrame"
    classes: tuple[str, ...] = ()
    dimensions: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()

    @property
    def targets(self) -> tuple[str, ...]:
        """Columns of the table that contain the targets."""
        return tuple(f"target_{name}" for name in (*self.dimensions, *self.labels)) or ("target",)


def read_predictions(
    path: str | os.PathLike[str],
    *,
    columns: Mapping[str, str] | None = None,
    classes: Sequence[str] | None = None,
    task: str | None = None,
    options: bool = True,
) -> Predictions:
    """Read a CSV table of predictions from any source.

    Args:
        path: The table. Without a column for seeds or folds, all rows belong to one seed or fold. Without a column for
            speakers, speakers are unknown.
        columns: Names of the columns in the table, if they differ from ``seed``, ``fold``, ``utterance_id``,
            ``speaker_id``, ``target`` and ``prediction``, which are the keys.
        classes: All labels, in the order of the tables; by default, the labels in the table, sorted.
        task: ``classification``, ``regression`` or ``multilabel``. By default, a table with columns ``target_<name>``
            and no column for the target is multilabel if it has ``p_<name>`` for all of them, otherwise a regression.
        options: Whether messages name the options of ``featcache score`` for columns with other names.

    Returns:
        The checked predictions.

    Raises:
        PredictionsError: the file is not a table, columns are missing, or rows contradict each other.
    """
    try:
        table = _read_table(Path(path), [*(columns or {}).values(), *COLUMNS])
    except ManifestError as error:
        told = str(error).removeprefix(f"{path}: ")
        raise PredictionsError(f"{path}: not readable as a table ({told}); expected a CSV with a header") from error
    columns = {role: name for role, name in (columns or {}).items() if name}
    absent = [f"{OPTIONS[role]} {name}" for role, name in columns.items() if name not in table]
    if absent:
        unknown = next(name for name in columns.values() if name not in table)
        raise PredictionsError(
            f"{path} has no column for {', '.join(absent)}; there are: {', '.join(table.columns)}"
            f"{did_you_mean(unknown, table.columns)}"
        )
    dimensions = dimensions_of(table)
    target, prediction = (columns.get(role, role) for role in ("target", "prediction"))
    several = target not in table and bool(dimensions)
    multilabel = task == "multilabel" or (task is None and several and labels_of(table) == dimensions)
    regression = task == "regression" or (task is None and several and not multilabel)
    if multilabel and not dimensions:
        raise PredictionsError(
            f"{path} has no columns target_LABEL and prediction_LABEL, which --task multilabel needs"
        )
    if regression and (not dimensions or "target" in columns):
        table = table.rename(columns={target: f"target_{target}", prediction: f"prediction_{target}"})
        dimensions = (target,)
    names = {columns.get(role, role): role for role in COLUMNS}
    there = list(table.columns)
    # If the user assigns a role, such as speaker_id, to another column, drop the column that has the role's name.
    table = table.drop(columns=[role for role in columns if role in table and role not in names]).rename(columns=names)
    try:
        expected = ("utterance_id", *(columns_of(dimensions) if regression or multilabel else COLUMNS[-2:]))
        _require(table, expected, there, options=options)
        table = table.assign(
            seed=_whole_numbers(table["seed"]) if "seed" in table else 0,
            fold=_whole_numbers(table["fold"]) if "fold" in table else 1,
            speaker_id=table.get("speaker_id", ""),
        )
        if multilabel:
            found = checked(table, labels=dimensions)
        else:
            found = checked(table, classes=classes or (), dimensions=dimensions if regression else None)
    except PredictionsError as error:
        raise PredictionsError(f"{path}: {error}") from error
    for told in doubts(found):
        log.warning("%s: %s", path, told)
    return found


def doubts(predictions: Predictions) -> list[str]:
    """Return warnings about labels or speakers that look like mistakes, although they can be scored."""
    table, told = predictions.table, []
    speakers = lookalikes(sorted(set(table["speaker_id"])))
    told += [f"speakers {listed(group)} look alike but count as different speakers" for group in speakers]
    if not predictions.classes:
        return told
    targets, predicted = set(table["target"]), table["prediction"]
    alike = lookalikes(sorted({*predictions.classes, *targets, *predicted}))
    told += [f"labels {listed(group)} look alike but count as different classes" for group in alike]
    for label in predictions.classes:
        if label in targets:
            continue
        rows = int((predicted == label).sum())
        counts = f"it is predicted ({rows} ×) and counts as 0 in macro-F1" if rows else "it is not predicted either"
        told.append(f"class {label!r} is never the target, so it has no recall; {counts}")
    return told


def _read_table(path: Path, expected: Sequence[str]) -> "pd.DataFrame":
    """Read a table with all cells as text.

    Raises:
        ManifestError: the file is not a table, or a row does not have as many fields as the header.
    """
    import pandas as pd

    with open_table(path, expected) as table:
        rows = []
        for place, cells in table.rows:
            if len(cells) != len(table.columns):
                raise ManifestError(f"{path}: {place} has {len(cells)} fields, the header has {len(table.columns)}")
            rows.append(cells)
        return pd.DataFrame(rows, columns=table.columns, dtype=str)


def recognised(table: "pd.DataFrame", classes: Sequence[str] = ()) -> Predictions:
    """Check predictions that a run wrote, whose columns show the task.

    Args:
        table: Rows of ``predictions.csv`` or ``validation_predictions.csv``.
        classes: All labels of a classification; by default, the labels in the table, sorted.

    Raises:
        PredictionsError: see :func:`checked`.
    """
    dimensions = dimensions_of(table)
    if "target" in table or not dimensions:
        return checked(table, classes=classes)
    if labels_of(table) == dimensions:
        return checked(table, labels=dimensions)
    return checked(table, dimensions=dimensions)


def checked(
    table: "pd.DataFrame",
    *,
    classes: Sequence[str] = (),
    dimensions: Sequence[str] | None = None,
    labels: Sequence[str] = (),
) -> Predictions:
    """Check that predictions can be scored.

    Args:
        table: The rows. Labels and ids are converted to text, values of a regression to numbers.
        classes: All labels; by default, the labels in the table, sorted.
        dimensions: Dimensions of a regression; None for other tasks.
        labels: Labels that do not exclude each other; empty for other tasks.

    Returns:
        The checked predictions.

    Raises:
        PredictionsError: there are no rows; columns or values are missing; labels are unknown, or not 0 or 1; an
            utterance occurs twice in a seed and fold, or has two targets; seeds test different utterances; or targets
            and predictions share no class, unless classes are given.
    """
    several = columns_of(labels or dimensions or ())
    _require(table, (*KEYS, *several) if several else COLUMNS, table.columns)
    if table.empty:
        raise PredictionsError("there are no predictions to score; expected one row per tested utterance")
    table = table.assign(
        utterance_id=_texts(table["utterance_id"]),
        speaker_id=table["speaker_id"].astype(object).where(table["speaker_id"].notna(), "").astype(str),
    )
    if several:
        numbers = {column: _numbers(table[column], table["utterance_id"]) for column in several}
        for column, values in numbers.items() if labels else ():
            _refuse(~values.isin((0, 1)), table[column], "0 or 1", table["utterance_id"])
        table = table.assign(**numbers)
        _check_rows(table, several[::2])
        return Predictions(table=table, dimensions=() if labels else tuple(dimensions or ()), labels=tuple(labels))
    table = table.assign(**{column: _texts(table[column], table["utterance_id"]) for column in COLUMNS[-2:]})
    there = sorted({*table["target"], *table["prediction"]})
    if not classes and len(there) > _MOST_CLASSES:
        raise PredictionsError(
            f"found {len(there)} different labels such as {there[0]!r}, too many for classes; if they are numbers, "
            "use --task regression; if they are classes, list them with --classes"
        )
    if not classes:
        _check_shared(table)
    classes = tuple(dict.fromkeys(classes)) or tuple(there)
    for column in ("target", "prediction"):
        unknown = sorted(set(table[column]) - set(classes))
        if unknown:
            raise PredictionsError(f"unknown {column} {listed(unknown)}, expected one of: {', '.join(classes)}")
    _check_rows(table, ["target"])
    return Predictions(table=table, classes=classes)


def codes_of(labels: "pd.Series[Any]", classes: Sequence[str]) -> np.ndarray[Any, np.dtype[np.intp]]:
    """Return the position of each label among the classes: (num_rows,); -1 for a label that is not a class."""
    import pandas as pd

    return pd.Index(classes).get_indexer(pd.Index(labels.astype(str)))


def _require(table: "pd.DataFrame", columns: Sequence[str], there: Iterable[object], *, options: bool = True) -> None:
    missing = [column for column in columns if column not in table]
    if missing:
        named = [f"{OPTIONS[column]} COLUMN" for column in missing if column in OPTIONS]
        hint = f"; name yours with {', '.join(named)}" if named and options else ""
        raise PredictionsError(f"no column {listed(missing)}; there are: {', '.join(map(str, there)) or 'none'}{hint}")


def _check_rows(table: "pd.DataFrame", targets: Sequence[str]) -> None:
    if _is_consistent(table, targets):  # much faster than finding a fault
        return
    keys = ["seed", "fold", "utterance_id"]
    twice = table.loc[table.duplicated(keys), keys]
    if len(twice):
        seed, fold, utterance_id = twice.iloc[0]
        more = f", and {counted(len(twice) - 1, 'more row')} like it" if len(twice) > 1 else ""
        raise PredictionsError(
            f"utterance {utterance_id!r} occurs twice in seed {seed} and fold {fold}{more}; expected one row each"
        )
    for column in ("speaker_id", *targets):
        differing = table.drop_duplicates(["utterance_id", column])
        several = differing.loc[differing.duplicated("utterance_id", keep=False), ["utterance_id", column]]
        if len(several):
            utterance_id = several["utterance_id"].iloc[0]
            values = several.loc[several["utterance_id"] == utterance_id, column]
            raise PredictionsError(f"utterance {utterance_id!r} has several values of {column}: {listed(values)}")
    num_utterances = table["utterance_id"].nunique()
    for seed, tested in table.groupby("seed")["utterance_id"].nunique().items():
        if tested < num_utterances:
            raise PredictionsError(
                f"seed {seed} tested {tested} of {num_utterances} utterances; "
                "all seeds must test the same utterances, so complete this seed or remove it"
            )


def _is_consistent(table: "pd.DataFrame", targets: Sequence[str]) -> bool:
    """Check that each seed has each utterance in one row per fold, and each utterance one speaker and one target."""
    import pandas as pd

    def codes(column: str) -> np.ndarray[Any, np.dtype[np.int64]]:
        return pd.factorize(table[column], use_na_sentinel=False)[0].astype(np.int64)

    utterances, seeds = codes("utterance_id"), codes("seed")
    num_utterances, num_seeds = int(utterances.max()) + 1, int(seeds.max()) + 1
    tested = utterances + num_utterances * seeds
    if len(pd.unique(tested)) < num_utterances * num_seeds:
        return False
    if len(pd.unique(tested + num_utterances * num_seeds * codes("fold"))) < len(table):
        return False
    values = (utterances + num_utterances * codes(column) for column in ("speaker_id", *targets))
    return all(len(pd.unique(pairs)) == num_utterances for pairs in values)


def _check_shared(table: "pd.DataFrame") -> None:
    """Refuse tables in which targets and predictions share no class, for example because of different spelling."""
    targets, predictions = (sorted(set(table[column])) for column in ("target", "prediction"))
    if set(targets) & set(predictions):
        return
    alike = lookalikes([*targets, *predictions])
    same = f"; {listed(alike[0])} look alike" if alike else ""
    raise PredictionsError(
        f"targets ({listed(targets)}) and predictions ({listed(predictions)}) share no class{same}; write both in the "
        "same way, or, if every prediction is wrong, list all classes with --classes"
    )


def _texts(values: "pd.Series[Any]", utterance_ids: "pd.Series[Any] | None" = None) -> "pd.Series[Any]":
    texts = values.astype(object).where(values.notna(), "").astype(str)
    _refuse(texts.str.strip() == "", values, "a value", utterance_ids)
    return texts


def _numbers(values: "pd.Series[Any]", utterance_ids: "pd.Series[Any]") -> "pd.Series[Any]":
    import pandas as pd

    numbers = pd.to_numeric(values, errors="coerce").astype(float)
    _refuse(~numbers.abs().lt(np.inf), values, "a finite number", utterance_ids)
    return numbers


def _refuse(
    faulty: "pd.Series[Any]", values: "pd.Series[Any]", expected: str, utterance_ids: "pd.Series[Any] | None" = None
) -> None:
    if faulty.any():
        row = int(np.flatnonzero(faulty)[0])
        more = f" ({int(faulty.sum())} such rows)" if faulty.sum() > 1 else ""
        found = str(values.iloc[row])
        utterance = "" if utterance_ids is None else f"utterance {utterance_ids.iloc[row]!r}, "
        raise PredictionsError(f"{utterance}row {row + 1}: {values.name} is {found!r}, expected {expected}{more}")


def _whole_numbers(texts: "pd.Series[Any]") -> "pd.Series[Any]":
    """Convert texts to whole numbers, so that seed 2 is sorted before seed 10; other texts stay unchanged."""
    _refuse(texts.str.lower().isin({"", "nan"}), texts, "a value")
    try:
        return texts.astype(np.int64)
    except ValueError:
        return texts


def dimensions_of(table: "pd.DataFrame") -> tuple[str, ...]:
    """Return the dimensions for which a table has columns ``target_<dim>`` and ``prediction_<dim>``."""
    names = [str(column).removeprefix("target_") for column in table.columns if str(column).startswith("target_")]
    return tuple(name for name in names if f"prediction_{name}" in table)


def labels_of(table: "pd.DataFrame") -> tuple[str, ...]:
    """Return the labels for which a table has columns ``target_<label>``, ``prediction_<label>`` and ``p_<label>``."""
    return tuple(name for name in dimensions_of(table) if f"p_{name}" in table)


def columns_of(dimensions: Sequence[str]) -> list[str]:
    """Return the columns of targets and predictions for the dimensions of a regression."""
    return [f"{kind}_{name}" for name in dimensions for kind in ("target", "prediction")]
