"""Predictions → UAR, WA, macro-F1 and recall per class, over folds and seeds.

All scores come from confusion counts (…, num_classes, num_classes), rows the targets and columns the predictions, so
that one list of labels, every seed and fold, and every speaker pass through the same few lines.

The classes that a score averages over are fixed once, from all seeds and folds: the classes among the targets, and for
F1 those among the predictions too. One that is predicted in some seed and never true has an F1 of 0 in every seed and
fold. A fold without utterances of a class is scored on the others. Intervals change the weights of speakers or of
utterances without leaving any out, so that they are of the same classes.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from featcache.evaluate.predictions import Predictions, checked, codes_of
from featcache.evaluate.scores import SCORES
from featcache.evaluate.sums import Sums, mean, over_seeds, ratio
from featcache.evaluate.variance import Numbers

if TYPE_CHECKING:
    import pandas as pd


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


def confusion_sums(predictions: Predictions) -> Sums:
    """The confusion counts of checked predictions, (num_classes · num_classes) sums, rows the targets."""
    from scipy import sparse

    classes, table = predictions.classes, predictions.table
    cells = np.ravel_multi_index(
        (codes_of(table["target"], classes), codes_of(table["prediction"], classes)), (len(classes),) * 2
    )
    shape = (len(table), len(classes) ** 2)
    rows = sparse.csr_array((np.ones(len(table)), (np.arange(len(table)), cells)), shape=shape)

    never = never_true(rows.sum(axis=0).reshape(len(classes), -1))

    def score(sums: Numbers) -> Numbers:
        counts = sums.reshape(*sums.shape[:-1], len(classes), len(classes))
        return 100 * np.stack([_uar(counts), _wa(counts), _macro_f1(counts, never)], axis=-1)

    return Sums.of(table, rows, score, tuple(FUNCTIONS), tuple(SCORES[name].bounds for name in FUNCTIONS))


def summarise(predictions: "pd.DataFrame", classes: Sequence[str]) -> dict[str, Any]:
    """What ``metrics.json`` holds for a classification, all scores in percent.

    The folds of one seed are concatenated and scored once; ``mean`` and ``std`` (ddof = 1, None for one seed) are over
    seeds. ``mean_over_folds`` scores every fold alone instead. ``ci95`` is the interval of the score averaged over
    seeds, for other speakers and other seeds, see :mod:`featcache.evaluate.variance`; over utterances where speakers
    are unknown, which ``bootstrap`` tells; None for fewer than three speakers. With one seed it holds for this one
    trained head. ``ci95_utterances`` is the narrower one over utterances, for comparison.

    Args:
        predictions: The rows of ``predictions.csv``: one per seed and tested utterance.
        classes: All labels, in the order of the tables; one that no target carries has recall None.

    Returns: numbers, text, lists and dictionaries that JSON can hold; never NaN.

    Raises:
        PredictionsError: rows that cannot be scored, see :func:`~featcache.evaluate.predictions.checked`.
    """
    found = checked(predictions, classes=classes)
    classes, sums = found.classes, confusion_sums(found)
    counts = sums.of_seeds().reshape(-1, len(classes), len(classes))
    recalls = 100 * _recall(counts).T
    return sums.summary() | {
        "recall": {label: over_seeds(recall) for label, recall in zip(classes, recalls, strict=True)},
        "confusion": {"classes": list(classes), "counts": counts.mean(axis=0).tolist()},
        "chance_uar": 100 / np.count_nonzero(counts.sum(axis=(0, 2))),
    }


def _confusion_of_labels(target: ArrayLike, prediction: ArrayLike) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """The sorted labels, and how often each was predicted as each: (num_classes, num_classes)."""
    target, prediction = np.asarray(target), np.asarray(prediction)
    classes, codes = np.unique(np.concatenate([target, prediction]), return_inverse=True)
    shape = (len(classes), len(classes))
    cells = np.ravel_multi_index((codes[: len(target)], codes[len(target) :]), shape)
    return classes, np.bincount(cells, minlength=np.prod(shape)).reshape(shape)


def _recall(counts: NDArray[Any]) -> Numbers:
    """(…, num_classes) NaN for a class that no target carries."""
    return ratio(np.diagonal(counts, axis1=-2, axis2=-1), counts.sum(axis=-1))


def _uar(counts: NDArray[Any]) -> Numbers:
    return mean(_recall(counts))


def _wa(counts: NDArray[Any]) -> Numbers:
    return ratio(np.trace(counts, axis1=-2, axis2=-1), counts.sum(axis=(-2, -1)))


def never_true(counts: NDArray[Any]) -> NDArray[np.bool_]:
    """(num_classes,) which are predicted and never true, from (num_classes, num_classes) counts of a whole table."""
    never: NDArray[np.bool_] = (counts.sum(axis=1) == 0) & (counts.sum(axis=0) > 0)
    return never


def _macro_f1(counts: NDArray[Any], never: NDArray[np.bool_] | None = None) -> Numbers:
    """never: (num_classes,) which count as 0 even where they are not predicted."""
    correct = np.diagonal(counts, axis1=-2, axis2=-1)
    f1 = ratio(2 * correct, counts.sum(axis=-1) + counts.sum(axis=-2))
    return mean(f1 if never is None else np.where(never, 0.0, f1))


FUNCTIONS: dict[str, Callable[[NDArray[Any]], Numbers]] = {"uar": _uar, "wa": _wa, "macro_f1": _macro_f1}
