"""Predictions with probabilities → expected calibration error, Brier score, and the bins of a reliability diagram.

A classifier is calibrated if, of all utterances that it predicts with a confidence of 80 %, 80 % are predicted
correctly. The confidence is the probability of the predicted class.

Source: Guo et al. 2017, On calibration of modern neural networks; Brier 1950, Verification of forecasts expressed in
terms of probability.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from featcache.errors import listed
from featcache.evaluate.predictions import Predictions, codes_of
from featcache.evaluate.sums import over_seeds, ratio
from featcache.evaluate.variance import Numbers

if TYPE_CHECKING:
    import pandas as pd

KEY = "calibration"
"""Key in ``metrics.json``."""
PSEUDO = "pseudo_probabilities"
"""Key of the calibration that is true if a head was not trained to give probabilities."""
NUM_BINS = 15
# Heads that are not trained to give probabilities.
_WITHOUT = ("svm",)
# Probabilities of a row that add up to 1 within this tolerance are probabilities; files may keep three decimals each.
_TOLERANCE = 0.01


def calibration_of(predictions: Predictions) -> dict[str, Any] | None:
    """Compute the calibration of predictions, for ``metrics.json``.

    Args:
        predictions: Checked predictions.

    Returns:
        ``ece`` in percent, and ``brier``, the mean squared difference between the probabilities and the true class,
        summed over classes, in [0, 2]: each with ``mean``, ``std`` (ddof = 1 over seeds) and ``per_seed``. ``bins`` has
        ``edges`` (16 confidences in percent), and for each of the 15 bins, over all seeds together: ``count``,
        ``confidence`` and ``accuracy``, both means in percent, None for an empty bin. A bin contains its upper edge.
        None if there are no usable probabilities, see :func:`without_probabilities`.
    """
    if without_probabilities(predictions):
        return None
    table, classes = predictions.table, predictions.classes
    probabilities = _probabilities(table, classes)
    target, predicted = (codes_of(table[column], classes) for column in ("target", "prediction"))
    confidence = probabilities[np.arange(len(table)), predicted]
    correct = (target == predicted).astype(float)
    squared = ((probabilities - (target[:, np.newaxis] == np.arange(len(classes)))) ** 2).sum(axis=1)
    edges = np.arange(NUM_BINS + 1) / NUM_BINS
    of_seeds = [np.asarray(rows) for rows in table.reset_index(drop=True).groupby("seed").groups.values()]
    ece = [100 * _ece(confidence[rows], correct[rows], edges) for rows in of_seeds]
    brier = [squared[rows].mean() for rows in of_seeds]
    count, accuracy, mean = _bins(confidence, correct, edges)
    return {
        "ece": over_seeds(np.array(ece)),
        "brier": over_seeds(np.array(brier)),
        "bins": {
            "edges": (100 * edges).tolist(),
            "count": count.astype(int).tolist(),
            "confidence": _listed(100 * mean),
            "accuracy": _listed(100 * accuracy),
        },
    }


def without_probabilities(predictions: Predictions) -> str:
    """Return why predictions have no calibration, as part of a sentence; empty if they have one."""
    if not predictions.classes:
        return "it needs classes with probabilities"
    columns = [f"p_{label}" for label in predictions.classes]
    missing = [column for column in columns if column not in predictions.table]
    if missing:
        return f"there is no column {listed(missing)}"
    values = _probabilities(predictions.table, predictions.classes)
    if not (np.isfinite(values) & (values >= 0) & (values <= 1)).all():
        return "a probability is not a number from 0 to 1"
    if (np.abs(values.sum(axis=1) - 1) > _TOLERANCE).any():
        return "the probabilities of an utterance do not add up to 1"
    return ""


def mark_pseudo(metrics: Mapping[str, Any], config: Mapping[str, Any]) -> None:
    """Mark the calibration of a run whose head gives pseudo-probabilities.

    The softmax of the distances of a support vector machine, and the shares of a hard vote, only rank the classes.

    Args:
        metrics: Content of ``metrics.json``; its calibration is changed.
        config: Content of ``config.yaml``.
    """
    if KEY in metrics and (config.get("head") in _WITHOUT or config.get("vote") == "hard"):
        metrics[KEY][PSEUDO] = True


def _probabilities(table: "pd.DataFrame", classes: tuple[str, ...]) -> Numbers:
    """Return (num_rows, num_classes) probabilities; NaN for text."""
    import pandas as pd

    columns = [pd.to_numeric(table[f"p_{label}"], errors="coerce") for label in classes]
    return np.stack([column.to_numpy(float) for column in columns], axis=1)


def _bins(confidence: Numbers, correct: Numbers, edges: Numbers) -> tuple[Numbers, Numbers, Numbers]:
    """Return number of rows, accuracy and mean confidence of each bin, (num_bins,); NaN for an empty bin."""
    bins: NDArray[np.intp] = np.maximum(np.searchsorted(edges, confidence, side="left") - 1, 0)
    count, right, sure = (
        np.bincount(bins, weights=weights, minlength=len(edges) - 1) for weights in (None, correct, confidence)
    )
    return count.astype(float), ratio(right, count), ratio(sure, count)


def _ece(confidence: Numbers, correct: Numbers, edges: Numbers) -> float:
    """Return the mean distance between accuracy and confidence of the bins, weighted by their sizes."""
    count, accuracy, mean = _bins(confidence, correct, edges)
    filled = count > 0
    return float((count[filled] * np.abs(accuracy - mean)[filled]).sum() / len(confidence))


def _listed(values: Numbers) -> list[float | None]:
    return [None if np.isnan(value) else float(value) for value in values]
