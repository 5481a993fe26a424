"""Predictions → UAR, WA, macro-F1 and recall per class, over folds and seeds.

All scores are computed from confusion counts (…, num_classes, num_classes): rows are targets, columns are predictions.
Lists of labels, seeds, folds and speakers therefore share the same code.

The classes over which a score averages are determined once, from all seeds and folds: all classes among the targets,
and for F1 also all classes among the predictions. A class that is predicted in some seed but never the target has an F1
of 0 in every seed and fold. A fold without utterances of a class is scored on the other classes. Intervals change the
weights of speakers or utterances, but leave none out, so the classes stay the same.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from featcache.evaluate.calibration import KEY as CALIBRATION
from featcache.evaluate.calibration import calibration_of
from featcache.evaluate.predictions import Predictions, checked, codes_of
from featcache.evaluate.scores import SCORES
from featcache.evaluate.sums import Sums, mean, over_seeds, ratio
from featcache.evaluate.variance import Numbers

if TYPE_CHECKING:
    import pandas as pd


def uar(target: ArrayLike, prediction: ArrayLike) -> float:
    """Compute unweighted average recall (balanced accuracy): the mean recall of the classes among the targets.

    Args:
        target: (num_utterances,) true labels.
        prediction: (num_utterances,) predicted labels.

    Returns:
        UAR in [0, 1].
    """
    return float(_uar(_confusion_of_labels(target, prediction)[1]))


def wa(target: ArrayLike, prediction: ArrayLike) -> float:
    """Compute weighted accuracy, which is plain accuracy: the share of utterances that are predicted correctly.

    Args:
        target: (num_utterances,) true labels.
        prediction: (num_utterances,) predicted labels.

    Returns:
        WA in [0, 1].
    """
    return float(_wa(_confusion_of_labels(target, prediction)[1]))


def macro_f1(target: ArrayLike, prediction: ArrayLike) -> float:
    """Compute macro-F1: the mean F1 of the classes among the targets or predictions.

    Args:
        target: (num_utterances,) true labels.
        prediction: (num_utterances,) predicted labels.

    Returns:
        Macro-F1 in [0, 1].
    """
    return float(_macro_f1(_confusion_of_labels(target, prediction)[1]))


def recall_per_class(target: ArrayLike, prediction: ArrayLike) -> dict[Any, float]:
    """Compute the recall of each class among the targets.

    Args:
        target: (num_utterances,) true labels.
        prediction: (num_utterances,) predicted labels.

    Returns:
        Class → recall in [0, 1], classes in sorted order.
    """
    classes, counts = _confusion_of_labels(target, prediction)
    recalls = zip(classes.tolist(), _recall(counts).tolist(), strict=True)
    return {label: recall for label, recall in recalls if not np.isnan(recall)}


def confusion_sums(predictions: Predictions) -> Sums:
    """Return the confusion counts of predictions as (num_classes · num_classes) sums; rows are targets."""
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
    """Compute the content of ``metrics.json`` for a classification, with all scores in percent.

    The folds of a seed are concatenated and scored once; ``mean`` and ``std`` (ddof = 1, None for one seed) are over
    seeds. ``mean_over_folds`` is the mean of the scores of single folds. ``ci95`` is the interval of the mean over
    seeds, valid for other speakers and other seeds, see :mod:`featcache.evaluate.variance`. It is None for fewer than
    three speakers, and over utterances if speakers are unknown; ``bootstrap`` contains its unit. With one seed, it is
    valid only for this one trained head. ``ci95_utterances`` is the narrower interval over utterances, for comparison.
    ``calibration`` is only there if the rows have probabilities, see
    :func:`~featcache.evaluate.calibration.calibration_of`.

    Args:
        predictions: Rows of ``predictions.csv``: one per seed and tested utterance.
        classes: All labels, in the order of the tables; the recall of a class that is never the target is None.

    Returns:
        Numbers, text, lists and dictionaries that can be written as JSON, without NaN.

    Raises:
        PredictionsError: rows cannot be scored, see :func:`~featcache.evaluate.predictions.checked`.
    """
    found = checked(predictions, classes=classes)
    classes, sums = found.classes, confusion_sums(found)
    counts = sums.of_seeds().reshape(-1, len(classes), len(classes))
    recalls = 100 * _recall(counts).T
    return sums.summary() | {
        "recall": {label: over_seeds(recall) for label, recall in zip(classes, recalls, strict=True)},
        "confusion": {"classes": list(classes), "counts": counts.mean(axis=0).tolist()},
        "chance_uar": 100 / np.count_nonzero(counts.sum(axis=(0, 2))),
        **({CALIBRATION: calibration} if (calibration := calibration_of(found)) else {}),
    }


def _confusion_of_labels(target: ArrayLike, prediction: ArrayLike) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Return the sorted labels, and the confusion counts: (num_classes, num_classes)."""
    target, prediction = np.asarray(target), np.asarray(prediction)
    classes, codes = np.unique(np.concatenate([target, prediction]), return_inverse=True)
    shape = (len(classes), len(classes))
    cells = np.ravel_multi_index((codes[: len(target)], codes[len(target) :]), shape)
    return classes, np.bincount(cells, minlength=np.prod(shape)).reshape(shape)


def _recall(counts: NDArray[Any]) -> Numbers:
    """Return the recalls, (…, num_classes); NaN for a class that is never the target."""
    return ratio(np.diagonal(counts, axis1=-2, axis2=-1), counts.sum(axis=-1))


def _uar(counts: NDArray[Any]) -> Numbers:
    return mean(_recall(counts))


def _wa(counts: NDArray[Any]) -> Numbers:
    return ratio(np.trace(counts, axis1=-2, axis2=-1), counts.sum(axis=(-2, -1)))


def never_true(counts: NDArray[Any]) -> NDArray[np.bool_]:
    """Return which classes are predicted but never the target: (num_classes,).

    Args:
        counts: (num_classes, num_classes) confusion counts of a whole table.
    """
    never: NDArray[np.bool_] = (counts.sum(axis=1) == 0) & (counts.sum(axis=0) > 0)
    return never


def _macro_f1(counts: NDArray[Any], never: NDArray[np.bool_] | None = None) -> Numbers:
    """Return macro-F1; classes in ``never``, (num_classes,), count as 0 even if they are not predicted."""
    correct = np.diagonal(counts, axis1=-2, axis2=-1)
    f1 = ratio(2 * correct, counts.sum(axis=-1) + counts.sum(axis=-2))
    return mean(f1 if never is None else np.where(never, 0.0, f1))


FUNCTIONS: dict[str, Callable[[NDArray[Any]], Numbers]] = {"uar": _uar, "wa": _wa, "macro_f1": _macro_f1}
