"""Validation predictions of a run → its validation scores, to choose among runs without looking at test scores.

The validation part has been used before: early stopping chose the epoch of a network on it, and out-of-fold
predictions, of which these are a part, chose C of a head that a solver fits. The combination of an ensemble was chosen
on it as well. Validation scores are therefore slightly optimistic. They are for the choice of settings, not for
reporting.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from featcache.errors import PredictionsError
from featcache.evaluate.predictions import recognised
from featcache.evaluate.regression import Ranges
from featcache.evaluate.scoring import scores_over_seeds
from featcache.runs.file_names import VALIDATION_PREDICTIONS
from featcache.runs.identity import VALIDATION
from featcache.runs.reader import RunFolder

if TYPE_CHECKING:
    import pandas as pd

Scores = dict[str, dict[str, Any]]


def validation_scores(run: RunFolder) -> Scores:
    """Return the validation scores of a run; all folds of a seed are scored together.

    Args:
        run: A finished fit or ensemble. Runs of earlier releases did not record these scores. For them, the scores are
            computed from ``validation_predictions.csv``.

    Returns:
        Name of the score, as in ``metrics.json`` → ``mean``, ``std`` (ddof = 1, None for one seed) and ``per_seed``.
        UAR, WA and macro-F1 are in percent. Empty if the run has no validation predictions.

    Raises:
        StoreError: the file is damaged, or has changed since it was written.
        PredictionsError: the predictions cannot be scored.
    """
    recorded: Scores | None = run.metrics.get(VALIDATION)
    if recorded is not None:
        return recorded
    path = run.path / VALIDATION_PREDICTIONS
    if not path.is_file():
        return {}
    try:
        return score_validation(run.validation_predictions, run.config)
    except PredictionsError as error:
        raise PredictionsError(f"{path}: {error}") from error


def score_validation(predictions: "pd.DataFrame", config: Mapping[str, Any]) -> Scores:
    """Compute the validation scores, as ``metrics.json`` has them.

    Args:
        predictions: Rows of ``validation_predictions.csv``.
        config: Content of ``config.yaml``, with the classes or the ranges of the dimensional labels.

    Raises:
        PredictionsError: the predictions cannot be scored.
    """
    found = recognised(predictions, config.get("classes") or ())
    return scores_over_seeds(found, _ranges(config, found.dimensions))


def _ranges(config: Mapping[str, Any], dimensions: tuple[str, ...]) -> Ranges | None:
    """Return the ranges of the labels; None if the configuration does not have them."""
    found: dict[str, Any] = config.get("label_ranges", {})
    if not dimensions or set(found) != set(dimensions) or not all(_is_pair(bounds) for bounds in found.values()):
        return None
    return {name: (bounds[0], bounds[1]) for name, bounds in found.items()}


def _is_pair(bounds: Any) -> bool:
    """Return whether bounds are two numbers of which the first is lower; a configuration may come from anybody."""
    return (
        isinstance(bounds, list | tuple)
        and len(bounds) == 2
        and all(isinstance(one, int | float) for one in bounds)
        and bounds[0] < bounds[1]
    )
