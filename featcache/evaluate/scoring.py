"""Checked predictions → metrics, for classification and regression."""

from typing import Any

from featcache.evaluate.metrics import confusion_sums, summarise
from featcache.evaluate.predictions import Predictions
from featcache.evaluate.regression import moment_sums, summarise_regression
from featcache.evaluate.sums import Sums


def score(predictions: Predictions) -> dict[str, Any]:
    """Compute the content of ``metrics.json`` for predictions.

    Raises:
        PredictionsError: rows cannot be scored.
    """
    if predictions.dimensions:
        return summarise_regression(predictions.table, predictions.dimensions)
    return summarise(predictions.table, predictions.classes)


def sums_of(predictions: Predictions) -> Sums:
    """Return the sums from which the scores of predictions are computed."""
    return moment_sums(predictions) if predictions.dimensions else confusion_sums(predictions)
