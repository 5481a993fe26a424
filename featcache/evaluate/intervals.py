"""Speakers → over what 95 % intervals are, and what their reader must know.

Utterances of one speaker are right or wrong together, so the units of an interval are whole speakers: one over single
utterances is too narrow for any other speaker. How intervals are computed stands in
:mod:`featcache.evaluate.variance`, how often they hold the true value in ``docs/coverage.md``.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Unit = Literal["speakers", "utterances"]

FEWEST = 3  # units of an interval
ENOUGH_SPEAKERS = 10

# Share (%) of 95 % intervals with five seeds that held the true value, by number of speakers: the lowest and the
# highest of all simulated scores and spreads of seeds.
# Source: python -m tests.evaluate.coverage, docs/coverage.md
COVERAGE = {4: (93.5, 95.5), 10: (93.3, 96.0), 24: (94.2, 96.0), 100: (93.7, 95.2)}

ONE_SEED = "With one seed, intervals and tests hold for this one trained head, not for training it again"


def units_of(speaker_ids: Sequence[str]) -> tuple[NDArray[np.intp], int, Unit]:
    """Return over what a table's intervals are.

    Args:
        speaker_ids: (num_utterances,) who speaks, "" for unknown.

    Returns: (num_utterances,) the position of each utterance's unit, how many there are, and what they are: speakers,
        or the utterances themselves where some speaker is unknown.
    """
    speakers, codes = np.unique(np.asarray(speaker_ids, dtype=str), return_inverse=True)
    if "" in speakers:
        return np.arange(len(codes)), len(codes), "utterances"
    return codes, len(speakers), "speakers"


def caution(unit: str, count: int, num_speakers: int) -> str | None:
    """Return what a reader of intervals must know, None if nothing.

    Args:
        unit: Over what they are, ``speakers`` or ``utterances``.
        count: How many of them there are.
        num_speakers: How many speakers are known.
    """
    over_utterances = "intervals over utterances say nothing about other speakers"
    if num_speakers in range(1, FEWEST):
        found = "ONLY ONE SPEAKER" if num_speakers == 1 else "ONLY TWO SPEAKERS"
        return f"{found}: an interval over speakers needs at least {FEWEST}; {over_utterances}"
    if unit == "utterances":
        return f"the speakers are not all known, so the intervals are over utterances; {over_utterances}"
    if count >= ENOUGH_SPEAKERS:
        return None
    nearest = min(COVERAGE, key=lambda number: abs(number - count))
    low, high = COVERAGE[nearest]
    return (
        f"few speakers: in simulations, 95 % intervals over {nearest} speakers held the true value in {low:.0f} to "
        f"{high:.0f} % of cases; {count} speakers cannot show whether others are like the simulated ones"
    )


def described(metrics: Mapping[str, Any]) -> str:
    """Return what the intervals of a ``metrics.json`` cover, without the last full stop."""
    unit, count = metrics["bootstrap"]["unit"], metrics["bootstrap"]["count"]
    over = f"{count} {unit}" if count >= FEWEST else f"{unit} (none: at least {FEWEST} are needed)"
    if metrics["num_seeds"] == 1:
        return f"95 % CI: over {over}. {ONE_SEED}"
    return f"95 % CI: over {over} and {metrics['num_seeds']} seeds, by variance components"
