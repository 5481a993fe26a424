"""Checked predictions → their metrics, for either task."""

from typing import Any

from featcache.evaluate.metrics import confusion_sums, summarise
from featcache.evaluate.predictions import Predictions
from featcache.evaluate.regression import moment_sums, summarise_regression
from featcache.evaluate.sums import Sums


def score(predictions: Predictions) -> dict[str, Any]:
    """What ``metrics.json`` holds for these predictions.

    Raises:
        PredictionsError: rows that cannot be scored.
    """
    if predictions.dimensions:
        return summarise_regression(predictions.table, predictions.dimensions)
    return summarise(predictions.table, predictions.classes)


def sums_of(predictions: Predictions) -> Sums:
    """The sums that the scores of these predictions are made of."""
    return moment_sums(predictions) if predictions.dimensions else confusion_sums(predictions)
