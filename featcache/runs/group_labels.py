"""Table of predictions → the labels of its utterances: from the table, a file, or the manifest of its run."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from featcache.cache.joint import joint_utterances
from featcache.errors import ManifestError, PredictionsError, StoreError, did_you_mean, listed
from featcache.files.spreadsheets import open_table
from featcache.manifest import Manifest
from featcache.runs.file_names import CONFIG, METRICS
from featcache.runs.identity import TEST, TRAIN
from featcache.runs.reader import RunFolder
from featcache.utterances import Utterance
from featcache.workspace import Workspace

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)

_ID = "utterance_id"


def run_of(path: Path) -> RunFolder | None:
    """Return the run to which a table of predictions belongs; None if its folder is no run.

    Args:
        path: The table, or a run folder.
    """
    folder = path if path.is_dir() else path.parent
    if not ((folder / CONFIG).is_file() and (folder / METRICS).is_file()):
        return None
    try:
        return RunFolder(folder)
    except StoreError as error:
        log.warning("the settings of the run are not used: %s", error)
        return None


def group_labels(
    names: Sequence[str],
    table: "pd.DataFrame",
    *,
    columns: Mapping[str, str],
    run: RunFolder | None = None,
    file: Path | None = None,
) -> dict[str, dict[str, str]]:
    """Return the labels that divide the utterances of a table into groups.

    A label comes from the file if it has such a column, else from the table, else from the manifest of the corpus.

    Args:
        names: Names of the labels.
        table: Checked predictions.
        columns: Role → name of the column in the user's table, if it is another name.
        run: The run that made the predictions; None if unknown.
        file: Table with a column ``utterance_id`` and a column for each label; None if there is none.

    Returns:
        Name of a label → utterance id → value, without empty values.

    Raises:
        PredictionsError: a name is empty, a label is not found, or an utterance has several values of it.
        ManifestError: the file is not a table, or has no column ``utterance_id``.
    """
    if "" in names:
        raise PredictionsError("--by has an empty name; expected labels separated by commas, such as gender,intensity")
    ids = set(table[_ID])
    sources = [] if file is None else [_of_file(file, ids)]
    sources.append(_of_table(names, table, columns))
    if any(not any(name in source for source in sources) for name in names):
        sources.append(_of_manifest(run, ids))
    found = {}
    for name in dict.fromkeys(names):
        source = next((source for source in sources if name in source), None)
        if source is None:
            known = [*dict.fromkeys([*(label for one in sources for label in one), *_columns(table)])]
            more = "" if file or sources[-1] else "; name a table of labels with --labels FILE"
            raise PredictionsError(
                f"--by {name}: no such column or label; there are: {', '.join(known)}{did_you_mean(name, known)}{more}"
            )
        found[name] = {utterance_id: value for utterance_id, value in source[name].items() if value != ""}
    return found


def _columns(table: "pd.DataFrame") -> dict[str, None]:
    """Return the columns of a table that may be labels, as keys."""
    silent = {_ID, "seed", "prediction"}
    others = ("p_", "prediction_")
    return {str(name): None for name in table.columns if name not in silent and not str(name).startswith(others)}


def _of_table(names: Sequence[str], table: "pd.DataFrame", columns: Mapping[str, str]) -> dict[str, dict[str, str]]:
    roles = {name: role for role, name in columns.items()}
    found = {}
    for name in names:
        column = roles.get(name, name)
        if column not in table or (table[column] == "").all():
            continue
        values: dict[str, str] = {}
        for utterance_id, value in zip(table[_ID], table[column].astype(str), strict=True):
            if values.setdefault(utterance_id, value) != value:
                raise PredictionsError(
                    f"--by {name}: utterance {utterance_id!r} has several values, expected one for all seeds and folds"
                )
        found[name] = values
    return found


def _of_file(path: Path, ids: set[str]) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    seen: set[str] = set()
    with open_table(path, [_ID]) as records:
        if _ID not in records.columns:
            raise ManifestError(f"{path}: no column {_ID}; there are: {', '.join(records.columns) or 'none'}")
        for place, cells in records.rows:
            if len(cells) != len(records.columns):
                raise ManifestError(f"{path}: {place} has {len(cells)} fields, the header has {len(records.columns)}")
            row = dict(zip(records.columns, cells, strict=True))
            if row[_ID] in seen:
                raise ManifestError(f"{path}: {place}: utterance {row[_ID]!r} occurs twice; keep one row")
            seen.add(row[_ID])
            for name, value in row.items():
                found.setdefault(name, {})[row[_ID]] = value
    if not seen:
        raise ManifestError(f"{path}: no rows below the header; expected a row for each utterance")
    if not seen & ids:
        raise PredictionsError(
            f"{path} has none of the utterances of the predictions; it has {listed(sorted(seen))}, and the predictions "
            f"have {listed(sorted(ids))}"
        )
    return {name: values for name, values in found.items() if name != _ID}


def _of_manifest(run: RunFolder | None, ids: set[str]) -> dict[str, dict[str, str]]:
    """Return the labels of the corpus or corpora of a run; empty if their caches are not here."""
    if run is None:
        return {}
    several = [str(name) for key in (TRAIN, TEST) for name in run.config.get(key, ())]
    read = {name: _manifest(name) for name in several or [str(run.config.get("corpus", ""))]}
    joined = {name: joint_utterances(name, found) if several else found for name, found in read.items()}
    utterances = [one for found in joined.values() for one in found if one.utterance_id in ids]
    names = dict.fromkeys(name for utterance in utterances for name in utterance.labels)
    return {name: {one.utterance_id: one.labels.get(name, "") for one in utterances} for name in names}


def _manifest(corpus: str) -> Sequence[Utterance]:
    """Return the utterances of a cached corpus; none if its cache is not here."""
    path = Workspace.at().cache(corpus) / "manifest.csv"
    return list(Manifest.read(path)) if path.is_file() else []
