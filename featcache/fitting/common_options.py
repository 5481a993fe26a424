"""Options of several heads → the options of one of them: a head that a solver fits has no training steps."""

from collections.abc import Mapping, Sequence
from typing import Any

from featcache.heads import SOLVERS
from featcache.settings.fits import TRAINING_STEPS


def are_solved(heads: Sequence[str]) -> bool:
    """Return whether solvers fit all of the heads."""
    return all(head in SOLVERS for head in heads)


def options_for(head: str, common: Mapping[str, Any]) -> dict[str, Any]:
    """Return options that several heads have in common, without those that one head does not have.

    Args:
        head: Name of the head.
        common: Options of a fit, by name.
    """
    return {name: value for name, value in common.items() if head not in SOLVERS or name not in TRAINING_STEPS}
