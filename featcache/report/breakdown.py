"""Predictions → scores of each speaker, of each group such as gender, and what happened to each utterance."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from featcache.evaluate.predictions import Predictions, codes_of
from featcache.evaluate.scoring import sums_of
from featcache.evaluate.sums import Sums, over_seeds
from featcache.manifest import Manifest
from featcache.utterances import VOTES

if TYPE_CHECKING:
    import pandas as pd

# Labels with more values are numbers, texts or names of files, not groups.
_MOST_VALUES = 12
_MOST_COLUMNS = 8


@dataclass(frozen=True, kw_only=True)
class GroupScore:
    """Score of the utterances of one speaker or group.

    Attributes:
        name: The speaker, or the value of the label.
        num_utterances: Number of its utterances.
        score: Mean over seeds, in the unit of ``metrics.json``; None if it is undefined.
        std: Standard deviation over seeds (ddof = 1); None for one seed.
    """

    name: str
    num_utterances: int
    score: float | None
    std: float | None


def group_scores(predictions: Predictions, groupings: Mapping[str, Mapping[str, str]]) -> dict[str, list[GroupScore]]:
    """Score each group of utterances by itself: UAR over the classes that it contains, or mean over labels, or CCC.

    Args:
        predictions: Checked predictions.
        groupings: Name of the grouping → utterance id → group. Utterances without a group are left out.

    Returns:
        Name of the grouping → its groups, sorted by name; empty if no utterance has a group.
    """
    sums = sums_of(predictions)
    return {name: _scores(sums, of_utterance) for name, of_utterance in groupings.items()}


def _scores(sums: Sums, of_utterance: Mapping[str, str]) -> list[GroupScore]:
    names = [of_utterance.get(utterance_id, "") for utterance_id in sums.utterance_ids]
    found, codes = np.unique(np.asarray(names, dtype=object).astype(str), return_inverse=True)
    scored = sums.score(sums.of_units(codes).toarray().reshape(len(found), len(sums.seeds), -1))[..., 0]
    counts = np.bincount(codes, minlength=len(found))
    told = [over_seeds(values) for values in scored]
    return [
        GroupScore(name=str(name), num_utterances=int(count), score=one["mean"], std=one["std"])
        for name, count, one in zip(found, counts, told, strict=True)
        if name != ""
    ]


def speaker_grouping(predictions: Predictions) -> dict[str, str]:
    """Return utterance id → speaker."""
    first = predictions.table.drop_duplicates("utterance_id")
    return dict(zip(first["utterance_id"], first["speaker_id"], strict=True))


def label_groupings(manifest: Manifest, targets: Sequence[str]) -> dict[str, dict[str, str]]:
    """Return the labels of a manifest that divide it into a few groups: name → utterance id → value.

    A label that follows from a predicted one, or the other way round, is no group, and neither is another name of the
    speaker.

    Args:
        manifest: The utterances.
        targets: Labels that are predicted.
    """
    found = {}
    for column in manifest.label_columns:
        if column.startswith(VOTES):
            continue
        values = {u.utterance_id: u.labels[column] for u in manifest if u.labels.get(column, "") != ""}
        if not 2 <= len(set(values.values())) <= _MOST_VALUES:
            continue
        speakers = {(u.speaker_id, u.labels.get(column, "")) for u in manifest}
        is_speaker = len(speakers) == len(manifest.speaker_ids) == len(set(values.values()))
        if not is_speaker and not any(_is_determined(manifest, column, target) for target in targets):
            found[column] = values
    return dict(list(found.items())[:_MOST_COLUMNS])


def _is_determined(manifest: Manifest, column: str, target: str) -> bool:
    """Return whether one of two labels follows from the other."""
    pairs = {(u.labels.get(column, ""), u.labels.get(target, "")) for u in manifest}
    known = {pair for pair in pairs if all(pair)}
    return len(known) in (len({one for one, _ in known}), len({other for _, other in known})) and bool(known)


def utterance_outcomes(predictions: Predictions) -> "pd.DataFrame":
    """Return one row per utterance: how often it is recognised, and how confident the heads are.

    A head is a training with one seed and fold.

    Args:
        predictions: Checked predictions.

    Returns:
        The columns utterance_id, speaker_id, heads (number), and for a classification: target, prediction (the class
        that most heads predict), right (share of heads in percent), agreement (share of heads that predict this class,
        in percent) and confidence (mean probability of the true class in percent; NaN without probabilities). For
        several labels, a class is a set of labels, such as ``anger;joy`` or ``none``, without agreement; confidence is
        the mean probability of the true state of each label. For a regression and each dimension: target, mean
        prediction, std over heads (ddof = 0) and absolute error of the mean prediction, named ``target_<dim>``,
        ``prediction_<dim>``, ``std_<dim>`` and ``error_<dim>``. The rows with the worst outcomes come first.
    """
    import pandas as pd

    table = predictions.table
    codes, ids = pd.factorize(table["utterance_id"])
    first = table.iloc[np.unique(codes, return_index=True)[1]]
    heads = np.bincount(codes)
    rows = pd.DataFrame({"utterance_id": ids, "speaker_id": first["speaker_id"].to_numpy(), "heads": heads})
    if predictions.dimensions:
        return _errors(rows, predictions, codes, first)
    if predictions.labels:
        return _of_labels(rows, predictions, codes, first)
    classes = predictions.classes
    target, predicted = (codes_of(table[column], classes) for column in ("target", "prediction"))
    counts = np.zeros((len(ids), len(classes)))
    np.add.at(counts, (codes, predicted), 1)
    of_utterance = target[np.unique(codes, return_index=True)[1]]
    names = np.asarray(classes, dtype=object)
    rows["target"], rows["prediction"] = names[of_utterance], names[counts.argmax(axis=1)]
    rows["right"] = 100 * counts[np.arange(len(ids)), of_utterance] / heads
    rows["agreement"] = 100 * counts.max(axis=1) / heads
    rows["confidence"] = 100 * np.bincount(codes, _probabilities(table, classes, target)) / heads
    return rows.sort_values(["right", "confidence"], kind="stable", ignore_index=True)


def _of_labels(
    rows: "pd.DataFrame", predictions: Predictions, codes: NDArray[np.intp], first: "pd.DataFrame"
) -> "pd.DataFrame":
    """Return the outcomes of several labels; a head is right if it predicts exactly the labels of the utterance."""
    import pandas as pd

    table, names, heads = predictions.table, predictions.labels, rows["heads"].to_numpy()
    target, predicted = (
        table[[f"{kind}_{name}" for name in names]].to_numpy(float) for kind in ("target", "prediction")
    )
    shares = np.stack([np.bincount(codes, column) for column in predicted.T], axis=1) / heads[:, None]
    rows["target"] = _sets(first[[f"target_{name}" for name in names]].to_numpy(float), names)
    rows["prediction"] = _sets(shares > 0.5, names)
    rows["right"] = 100 * np.bincount(codes, (target == predicted).all(axis=1)) / heads
    rows["agreement"] = np.nan
    columns = [f"p_{name}" for name in names]
    given = table[columns] if set(columns) <= set(table.columns) else pd.DataFrame(np.full(target.shape, np.nan))
    probabilities = given.apply(pd.to_numeric, errors="coerce").to_numpy(float)
    true = np.where(target > 0, probabilities, 1 - probabilities).mean(axis=1)
    rows["confidence"] = 100 * np.bincount(codes, true) / heads
    return rows.sort_values(["right", "confidence"], kind="stable", ignore_index=True)


def _sets(present: NDArray[Any], names: Sequence[str]) -> list[str]:
    """Return each row of (num_utterances, num_labels) as text: ``anger;joy``, or ``none``."""
    found = (";".join(name for name, there in zip(names, row, strict=True) if there) for row in present)
    return [text or "none" for text in found]


def _probabilities(table: "pd.DataFrame", classes: Sequence[str], target: NDArray[np.intp]) -> NDArray[Any]:
    """Return the probability of the true class in each row, (num_rows,); NaN if it is unknown."""
    import pandas as pd

    columns = [f"p_{name}" for name in classes]
    if not set(columns) <= set(table.columns):
        return np.full(len(table), np.nan)
    values = table[columns].apply(pd.to_numeric, errors="coerce").to_numpy(float)
    return np.asarray(values[np.arange(len(table)), target])


def _errors(
    rows: "pd.DataFrame", predictions: Predictions, codes: NDArray[np.intp], first: "pd.DataFrame"
) -> "pd.DataFrame":
    heads, worst = rows["heads"].to_numpy(), np.zeros(len(rows))
    for name in predictions.dimensions:
        values = predictions.table[f"prediction_{name}"].to_numpy(float)
        mean = np.bincount(codes, values) / heads
        rows[f"target_{name}"] = first[f"target_{name}"].to_numpy(float)
        rows[f"prediction_{name}"] = mean
        rows[f"std_{name}"] = np.sqrt(np.bincount(codes, (values - mean[codes]) ** 2) / heads)
        rows[f"error_{name}"] = (rows[f"target_{name}"] - mean).abs()
        worst = worst + rows[f"error_{name}"].to_numpy() / (rows[f"error_{name}"].max() or 1)
    return rows.iloc[np.argsort(-worst, kind="stable")].reset_index(drop=True)
