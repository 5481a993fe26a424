"""Speakers → the units of 95 % intervals, and cautions for their readers.

Predictions for utterances of the same speaker are correlated, so the units of an interval are whole speakers. An
interval over single utterances is too narrow for other speakers. :mod:`featcache.evaluate.variance` computes the
intervals; ``docs/coverage.md`` shows how often they contain the true value.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Unit = Literal["speakers", "utterances"]

FEWEST = 3  # minimum number of units of an interval
ENOUGH_SPEAKERS = 10

ONE_SEED = "With one seed, intervals and tests are valid for the heads of this seed, not for other seeds"


def units_of(speaker_ids: Sequence[str]) -> tuple[NDArray[np.intp], int, Unit]:
    """Return the units over which the intervals of a table are computed.

    Args:
        speaker_ids: (num_utterances,) speakers, "" for unknown.

    Returns:
        (num_utterances,) position of each utterance's unit, the number of units, and their kind: ``speakers``, or
        ``utterances`` if a speaker is unknown.
    """
    speakers, codes = np.unique(np.asarray(speaker_ids, dtype=str), return_inverse=True)
    if "" in speakers:
        return np.arange(len(codes)), len(codes), "utterances"
    return codes, len(speakers), "speakers"


def caution(unit: str, count: int, num_speakers: int) -> str | None:
    """Return a caution for readers of intervals, or None.

    Args:
        unit: Kind of the units, ``speakers`` or ``utterances``.
        count: Number of units.
        num_speakers: Number of known speakers.
    """
    over_utterances = "intervals treat utterances as independent and are probably too narrow for other speakers"
    if num_speakers in range(1, FEWEST):
        found = "ONLY ONE SPEAKER" if num_speakers == 1 else "ONLY TWO SPEAKERS"
        return f"{found}: an interval over speakers needs at least {FEWEST}; {over_utterances}"
    if unit == "utterances":
        return f"not all speakers are known: {over_utterances}"
    if count >= ENOUGH_SPEAKERS:
        return None
    return f"only {count} speakers: the intervals are rough"


def described(metrics: Mapping[str, Any]) -> str:
    """Return a description of the intervals in a ``metrics.json``, without the last full stop."""
    unit, count = metrics["bootstrap"]["unit"], metrics["bootstrap"]["count"]
    over = f"{count} {unit}" if count >= FEWEST else f"{unit} (none: at least {FEWEST} are needed)"
    if metrics["num_seeds"] == 1:
        return f"95 % CI: over {over}. {ONE_SEED}"
    return f"95 % CI: over {over} and {metrics['num_seeds']} seeds, by variance components"
