"""Checked predictions → metrics, for every task."""

from typing import Any

from featcache.evaluate.label_sets import label_sums, summarise_labels
from featcache.evaluate.metrics import confusion_sums, summarise
from featcache.evaluate.predictions import Predictions
from featcache.evaluate.regression import Ranges, moment_sums, summarise_regression
from featcache.evaluate.sums import Sums


def score(predictions: Predictions) -> dict[str, Any]:
    """Compute the content of ``metrics.json`` for predictions.

    Raises:
        PredictionsError: rows cannot be scored.
    """
    if predictions.labels:
        return summarise_labels(predictions.table, predictions.labels)
    if predictions.dimensions:
        return summarise_regression(predictions.table, predictions.dimensions)
    return summarise(predictions.table, predictions.classes)


def scores_over_seeds(predictions: Predictions, ranges: Ranges | None = None) -> dict[str, dict[str, Any]]:
    """Compute the scores of ``metrics.json`` without intervals: ``mean``, ``std`` and ``per_seed``.

    Args:
        predictions: Checked predictions.
        ranges: For a regression: dimension → lowest and highest possible label, see
            :func:`~featcache.evaluate.regression.summarise_regression`.
    """
    return sums_of(predictions, ranges).scores()


def sums_of(predictions: Predictions, ranges: Ranges | None = None) -> Sums:
    """Return the sums from which the scores of predictions are computed.

    Args:
        predictions: Checked predictions.
        ranges: For a regression: dimension → lowest and highest possible label; without ranges, ``scaled_rmse`` is left
            out.
    """
    if predictions.labels:
        return label_sums(predictions)
    return moment_sums(predictions, ranges) if predictions.dimensions else confusion_sums(predictions)
