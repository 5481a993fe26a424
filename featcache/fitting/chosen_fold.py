"""Folds × ``--fold`` → the chosen fold, and a note for the report."""

from collections.abc import Sequence

from featcache.errors import ProtocolError
from featcache.protocols import Fold

NOTE = "Only fold {} of {} is trained and tested: {!r}. It is fold 1 of this run."


def only_fold(folds: Sequence[Fold], number: int | None) -> tuple[list[Fold], list[str]]:
    """Return the chosen fold and a note on it; all folds and no note if none is chosen.

    Args:
        folds: The folds of a protocol.
        number: Number of the chosen fold, from 1 on; None for all.

    Raises:
        ProtocolError: there is no such fold.
    """
    if number is None:
        return list(folds), []
    if number > len(folds):
        raise ProtocolError(f"--fold {number}: the protocol has {len(folds)} folds; expected 1 to {len(folds)}")
    fold = folds[number - 1]
    return [fold], [NOTE.format(number, len(folds), fold.name)]
