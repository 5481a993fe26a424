"""Resolved fit × fold → the loss that its trainings minimise."""

from featcache.fitting.resolve import ResolvedFit
from featcache.protocols import Fold
from featcache.targets.losses import Objective


def objective_of(setup: ResolvedFit, fold: Fold) -> Objective:
    """Return loss and validation score for the trainings of a fold.

    Args:
        setup: The resolved request.
        fold: Training, validation and test part; only labels of the training part may affect the loss.
    """
    return setup.target.objective
