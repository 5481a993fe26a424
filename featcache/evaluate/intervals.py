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

# Share (%) of 95 % intervals with five seeds that contained the true value, by number of speakers: minimum and maximum
# over all simulated scores and standard deviations of seeds.
# Source: python -m tests.evaluate.coverage, docs/coverage.md
COVERAGE = {4: (93.5, 95.5), 10: (93.3, 96.0), 24: (94.2, 96.0), 100: (93.7, 95.2)}

ONE_SEED = "With one seed, intervals and tests are valid for this one trained head, not for training it again"


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
    nearest = min(COVERAGE, key=lambda number: abs(number - count))
    low, high = COVERAGE[nearest]
    return (
        f"few speakers: in simulations, 95 % intervals over {nearest} speakers contained the true value in {low:.0f} "
        f"to {high:.0f} % of cases; {count} speakers cannot show whether other speakers are like the simulated ones"
    )


def described(metrics: Mapping[str, Any]) -> str:
    """Return a description of the intervals in a ``metrics.json``, without the last full stop."""
    unit, count = metrics["bootstrap"]["unit"], metrics["bootstrap"]["count"]
    over = f"{count} {unit}" if count >= FEWEST else f"{unit} (none: at least {FEWEST} are needed)"
    if metrics["num_seeds"] == 1:
        return f"95 % CI: over {over}. {ONE_SEED}"
    return f"95 % CI: over {over} and {metrics['num_seeds']} seeds, by variance components"
