"""Predictions → UAR, WA, macro-F1 and recall per class, over folds and seeds.

All scores come from confusion counts (…, num_classes, num_classes), rows the targets and columns the predictions, so
that one list of labels, every seed and fold, and a thousand resamples pass through the same few lines.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from featcache.errors import StoreError, listed
from featcache.evaluate.intervals import bootstrap

if TYPE_CHECKING:
    import pandas as pd

Numbers = NDArray[np.float64]
COLUMNS = ("seed", "fold", "utterance_id", "speaker_id", "target", "prediction")


def uar(target: ArrayLike, prediction: ArrayLike) -> float:
    """Unweighted average recall, also called balanced accuracy: the mean recall of the classes among the targets.

    Args:
        target: (num_utterances,) the true labels.
        prediction: (num_utterances,) the predicted labels.

    Returns: in [0, 1].
    """
    return float(_uar(_confusion_of_labels(target, prediction)[1]))


def wa(target: ArrayLike, prediction: ArrayLike) -> float:
    """Weighted accuracy, which is plain accuracy: the share of utterances predicted rightly, in [0, 1].

    Args:
        target: (num_utterances,) the true labels.
        prediction: (num_utterances,) the predicted labels.
    """
    return float(_wa(_confusion_of_labels(target, prediction)[1]))


def macro_f1(target: ArrayLike, prediction: ArrayLike) -> float:
    """The mean F1 of the classes among the targets or the predictions, in [0, 1].

    Args:
        target: (num_utterances,) the true labels.
        prediction: (num_utterances,) the predicted labels.
    """
    return float(_macro_f1(_confusion_of_labels(target, prediction)[1]))


def recall_per_class(target: ArrayLike, prediction: ArrayLike) -> dict[Any, float]:
    """The recall of each class among the targets, in [0, 1], in sorted order of the classes.

    Args:
        target: (num_utterances,) the true labels.
        prediction: (num_utterances,) the predicted labels.
    """
    classes, counts = _confusion_of_labels(target, prediction)
    recalls = zip(classes.tolist(), _recall(counts).tolist(), strict=True)
    return {label: recall for label, recall in recalls if not np.isnan(recall)}


def summarise(predictions: "pd.DataFrame", classes: Sequence[str]) -> dict[str, Any]:
    """What ``metrics.json`` holds for a classification, all scores in percent.

    The folds of one seed are concatenated and scored once; ``mean`` and ``std`` (ddof = 1, None for one seed) are over
    seeds. ``mean_over_folds`` scores every fold alone instead. ``ci95`` is the interval of the score averaged over
    seeds; ``bootstrap`` tells what was drawn for it.

    Args:
        predictions: The rows of ``predictions.csv``: one per seed and tested utterance.
        classes: All labels, in the order of the tables; one that no target carries has recall None.

    Returns: numbers, text, lists and dictionaries that JSON can hold; never NaN.

    Raises:
        StoreError: no rows, missing columns, labels outside ``classes``, or seeds that test different utterances.
    """
    _check(predictions, classes)
    seeds, seed = np.unique(predictions["seed"], return_inverse=True)
    folds, fold = np.unique(predictions["fold"], return_inverse=True)
    utterances, first_row, utterance = np.unique(
        predictions["utterance_id"].to_numpy(str), return_index=True, return_inverse=True
    )
    speakers = predictions["speaker_id"].iloc[first_row]
    speaker_ids = np.where(speakers.isna(), "", speakers.astype(str)).tolist()
    target, prediction = (_codes(predictions[column], classes) for column in ("target", "prediction"))
    shape = (len(seeds), len(folds), len(classes), len(classes))
    cells = np.ravel_multi_index((seed, fold, target, prediction), shape)

    counts_of_folds = np.bincount(cells, minlength=np.prod(shape)).reshape(shape)
    counts = counts_of_folds.sum(axis=1)

    def mean_over_seeds(times_drawn: NDArray[np.int64]) -> Numbers:
        weighted = np.bincount(cells, weights=times_drawn[utterance], minlength=np.prod(shape))
        resampled = weighted.reshape(shape).sum(axis=1)
        return np.array([100 * score(resampled).mean() for score in SCORES.values()])

    intervals = bootstrap(mean_over_seeds, speaker_ids)
    scores = {
        name: _over_seeds(100 * score(counts))
        | {"ci95": bounds.tolist(), "mean_over_folds": float(_mean(100 * score(counts_of_folds)).mean())}
        for (name, score), bounds in zip(SCORES.items(), intervals.bounds, strict=True)
    }
    recalls = 100 * _recall(counts).T
    return {
        **scores,
        "recall": {label: _over_seeds(recall) for label, recall in zip(classes, recalls, strict=True)},
        "confusion": {"classes": list(classes), "counts": counts.mean(axis=0).tolist()},
        "chance_uar": 100 / len(np.unique(target)),
        "num_seeds": len(seeds),
        "num_folds": len(folds),
        "num_utterances": len(utterances),
        "num_speakers": len(set(speaker_ids) - {""}),
        "bootstrap": {"unit": intervals.unit, "count": intervals.count},
    }


def _check(predictions: "pd.DataFrame", classes: Sequence[str]) -> None:
    missing = [column for column in COLUMNS if column not in predictions]
    if missing:
        raise StoreError(f"predictions lack the columns {listed(missing)}; expected: {', '.join(COLUMNS)}")
    if predictions.empty:
        raise StoreError("there are no predictions to score; fit the run again")
    for column in ("target", "prediction"):
        unknown = predictions[column][_codes(predictions[column], classes) < 0].unique()
        if len(unknown):
            known = ", ".join(classes)
            raise StoreError(f"predictions hold the {column} {listed(unknown)}, expected one of: {known}")
    num_utterances = predictions["utterance_id"].nunique()
    for seed, tested in predictions.groupby("seed")["utterance_id"].nunique().items():
        if tested < num_utterances:
            raise StoreError(
                f"seed {seed} tested {tested} of {num_utterances} utterances; "
                "all seeds must test the same ones to be compared, so finish or leave out this seed"
            )


def _codes(labels: "pd.Series[Any]", classes: Sequence[str]) -> NDArray[np.intp]:
    """(num_rows,) the position of each label among the classes, -1 for one that is not there."""
    import pandas as pd

    return pd.Index(classes).get_indexer(pd.Index(labels.astype(str)))


def _confusion_of_labels(target: ArrayLike, prediction: ArrayLike) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """The sorted labels, and how often each was predicted as each: (num_classes, num_classes)."""
    target, prediction = np.asarray(target), np.asarray(prediction)
    classes, codes = np.unique(np.concatenate([target, prediction]), return_inverse=True)
    shape = (len(classes), len(classes))
    cells = np.ravel_multi_index((codes[: len(target)], codes[len(target) :]), shape)
    return classes, np.bincount(cells, minlength=np.prod(shape)).reshape(shape)


def _recall(counts: NDArray[Any]) -> Numbers:
    """(…, num_classes) NaN for a class that no target carries."""
    return _ratio(np.diagonal(counts, axis1=-2, axis2=-1), counts.sum(axis=-1))


def _uar(counts: NDArray[Any]) -> Numbers:
    return _mean(_recall(counts))


def _wa(counts: NDArray[Any]) -> Numbers:
    return _ratio(np.trace(counts, axis1=-2, axis2=-1), counts.sum(axis=(-2, -1)))


def _macro_f1(counts: NDArray[Any]) -> Numbers:
    correct = np.diagonal(counts, axis1=-2, axis2=-1)
    return _mean(_ratio(2 * correct, counts.sum(axis=-1) + counts.sum(axis=-2)))


SCORES: dict[str, Callable[[NDArray[Any]], Numbers]] = {"uar": _uar, "wa": _wa, "macro_f1": _macro_f1}


def _ratio(part: NDArray[Any], whole: NDArray[Any]) -> Numbers:
    """part / whole, NaN where whole is 0."""
    ratio: Numbers = np.divide(part, whole, out=np.full(np.shape(whole), np.nan), where=whole > 0)
    return ratio


def _mean(values: Numbers) -> Numbers:
    """Mean over the last axis of what is not NaN; NaN, without numpy's warning, where nothing is left."""
    return _ratio(np.nansum(values, axis=-1), np.sum(~np.isnan(values), axis=-1))


def _over_seeds(values: Numbers) -> dict[str, Any]:
    """values: (num_seeds,), all NaN when the score has no meaning."""
    if np.isnan(values).any():
        return {"mean": None, "std": None, "per_seed": [None] * len(values)}
    std = float(values.std(ddof=1)) if len(values) > 1 else None
    return {"mean": float(values.mean()), "std": std, "per_seed": values.tolist()}
