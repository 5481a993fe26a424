"""Predictions of continuous dimensions → CCC, Pearson correlation and RMSE, over folds and seeds.

All scores are computed from sums of moments: both values, their squares and their product, for each dimension.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from featcache.evaluate.predictions import Predictions, checked
from featcache.evaluate.scores import find_score
from featcache.evaluate.sums import Sums, ratio
from featcache.evaluate.variance import Numbers

if TYPE_CHECKING:
    import pandas as pd

SCORES = ("ccc", "rmse", "pearson")
# Name of the RMSE of labels scaled to [0, 1], which needs their range.
SCALED = "scaled_rmse"
_NUM_MOMENTS = 7

Ranges = Mapping[str, tuple[float, float]]

# A variance below this share of the mean square is a rounding error of equal values.
_ROUNDING = 1e-13


def summarise_regression(
    predictions: "pd.DataFrame", dimensions: Sequence[str], ranges: Ranges | None = None
) -> dict[str, Any]:
    """Compute the content of ``metrics.json`` for a regression.

    ``ccc`` and ``pearson`` are in [-1, 1], ``rmse`` is in the labels' unit, and ``scaled_rmse`` is for labels scaled to
    [0, 1]. These are means over the dimensions; ``ccc_<dim>`` and so on are for one dimension. Seeds, folds and
    intervals are as in :func:`~featcache.evaluate.metrics.summarise`. CCC is None if neither targets nor predictions
    vary (for example, with one utterance). Pearson correlation is None if one of them does not vary. CCC and Pearson
    correlation do not depend on the scale of the labels.

    Args:
        predictions: Rows of ``predictions.csv``: ``target_<dim>`` and ``prediction_<dim>`` for every dimension.
        dimensions: Names of the dimensions, in the order of the tables.
        ranges: Dimension → lowest and highest possible label; without ranges, ``scaled_rmse`` is left out.

    Returns:
        Numbers, text, lists and dictionaries that can be written as JSON, without NaN.

    Raises:
        PredictionsError: rows cannot be scored, see :func:`~featcache.evaluate.predictions.checked`.

    Source: Lin 1989, A concordance correlation coefficient to evaluate reproducibility; with moments over n, not n − 1.
    """
    sums = moment_sums(checked(predictions, dimensions=dimensions), ranges)
    told = {"label_ranges": {name: list(ranges[name]) for name in dimensions}} if ranges else {}
    return sums.summary() | {"dimensions": list(dimensions)} | told


def moment_sums(predictions: Predictions, ranges: Ranges | None = None) -> Sums:
    """Return the moments of predictions as (num_dimensions · 7) sums.

    Args:
        predictions: Checked predictions of a regression.
        ranges: Dimension → lowest and highest possible label, see :func:`summarise_regression`.
    """
    from scipy import sparse

    table, dimensions = predictions.table, predictions.dimensions
    target = table[[f"target_{name}" for name in dimensions]].to_numpy(float)
    prediction = table[[f"prediction_{name}" for name in dimensions]].to_numpy(float)
    # The origin is close to the mean, because moments about distant values lose digits.
    x_origin, y_origin = np.median(target, axis=0), np.median(prediction, axis=0)
    x, y = target - x_origin, prediction - y_origin
    squared_error = (target - prediction) ** 2
    moments = np.stack([np.ones_like(x), x, y, x * x, y * y, x * y, squared_error], axis=-1)
    shift = x_origin - y_origin

    width = np.array([high - low for low, high in (ranges[name] for name in dimensions)]) if ranges else None

    def score(sums: Numbers) -> Numbers:
        return scores_of_moments(sums.reshape(*sums.shape[:-1], len(dimensions), _NUM_MOMENTS), shift, width)

    scores = (*SCORES, SCALED) if ranges else SCORES
    names = tuple(f"{score}_{name}" for score in scores for name in dimensions)
    every = (*scores, *names)
    scales = tuple(find_score(name)[0].bounds for name in every)
    return Sums.of(table, sparse.csr_array(moments.reshape(len(table), -1)), score, every, scales)


def scores_of_moments(sums: Numbers, shift: Numbers, width: Numbers | None = None) -> Numbers:
    """Compute scores from moments.

    Args:
        sums: (…, num_dimensions, 7) n, Σx, Σy, Σx², Σy², Σxy and Σ(target − prediction)², where x are targets and y are
            predictions, minus their origins.
        shift: (num_dimensions,) origin of x minus origin of y.
        width: (num_dimensions,) width of the labels' range; adds ``scaled_rmse``.

    Returns:
        (…, num_scores · (1 + num_dimensions)): the means over dimensions, then the scores of each dimension.
    """
    number = sums[..., :1]
    x, y, xx, yy, xy, error = np.moveaxis(ratio(sums[..., 1:], np.broadcast_to(number, sums[..., 1:].shape)), -1, 0)
    x_variance, y_variance = _variance(x, xx), _variance(y, yy)
    covariance = np.where((x_variance > 0) & (y_variance > 0), xy - x * y, 0.0)
    spread = x_variance + y_variance
    # Agreement is undefined for a single utterance or constant values.
    ccc = ratio(2 * covariance, np.where(spread > 0, spread + (x - y + shift) ** 2, 0.0))
    pearson = ratio(covariance, np.sqrt(x_variance * y_variance))
    scores = [np.clip(ccc, -1, 1), np.sqrt(error), np.clip(pearson, -1, 1)]
    scores += [] if width is None else [np.sqrt(error) / width]
    return np.concatenate([np.stack([values.mean(axis=-1) for values in scores], axis=-1), *scores], axis=-1)


def _variance(mean: Numbers, mean_square: Numbers) -> Numbers:
    variance = mean_square - mean**2
    return np.where(variance > _ROUNDING * mean_square, variance, 0.0)
