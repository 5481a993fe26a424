"""Facts about utterances → findings on silence, clipping, DC offset, durations, sampling rates and channels."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from featcache.checks.findings import Finding, finding_on
from featcache.checks.sound import SILENT_DB
from featcache.manifest import Manifest
from featcache.units import counted

MOST_SILENT = 0.95
"""Share of silent frames from which an utterance counts as silent."""
MOST_CLIPPED = 0.001
"""Share of clipped samples from which an utterance counts as clipped."""
MOST_OFFSET = 0.01
"""Absolute mean of the samples, relative to full scale, from which an utterance has a DC offset."""
SHORTEST = 0.1
"""Duration in seconds below which an utterance is too short: models have about 50 frames per second."""
OUTSIDE = 3.0
"""Number of interquartile ranges outside the quartiles from which a duration is unusual.

Source: Tukey 1977, Exploratory Data Analysis: "far out". The logarithm is used, because durations are skewed.
"""
# Smallest interquartile range of the logarithm: a factor of 1.6. With less, corpora of about equal durations would have
# many outliers.
_NARROWEST = 0.5
# Fewer utterances show no usual duration.
_FEWEST = 20
USUAL_RATE = 16_000
"""Sampling rate of speech models, in Hz."""


def sound_findings(manifest: Manifest, facts: npt.NDArray[Any]) -> Iterator[Finding]:
    """Yield the findings on the sound of utterances.

    Args:
        manifest: The utterances.
        facts: (num_utterances,) rows of ``FACTS``.
    """
    measured = facts["measured"]
    for row in np.flatnonzero(measured & (facts["silent"] >= MOST_SILENT)):
        found = f"{100 * facts['silent'][row]:.0f} % of the frames are below {SILENT_DB:g} dB"
        yield finding_on(manifest[int(row)], "silence", found)
    for row in np.flatnonzero(measured & (facts["clipped"] >= MOST_CLIPPED)):
        yield finding_on(
            manifest[int(row)], "clipping", f"{100 * facts['clipped'][row]:.1f} % of the samples are clipped"
        )
    for row in np.flatnonzero(measured & (facts["offset"] >= MOST_OFFSET)):
        found = f"the mean of the samples is {100 * float(facts['offset'][row]):.1f} % of full scale"
        yield finding_on(manifest[int(row)], "dc-offset", found)
    yield from _durations(manifest, facts)
    yield from _different(manifest, facts, "sampling_rate", "sampling-rate", "{} Hz")
    yield from _low_rates(facts)
    yield from _different(manifest, facts, "channels", "channels", "number of channels: {}")


def usual_durations(facts: npt.NDArray[Any]) -> tuple[float, float] | None:
    """Return the lowest and highest usual duration in seconds; None if there are too few utterances."""
    durations = facts["duration"][facts["measured"] & (facts["duration"] > 0)]
    if len(durations) < _FEWEST:
        return None
    low, high = np.quantile(np.log(durations), [0.25, 0.75])
    reach = OUTSIDE * max(high - low, _NARROWEST)
    return float(np.exp(low - reach)), float(np.exp(high + reach))


def _durations(manifest: Manifest, facts: npt.NDArray[Any]) -> Iterator[Finding]:
    usual = usual_durations(facts)
    low, high = usual or (0.0, np.inf)
    durations = facts["duration"]
    outside = (durations < max(low, SHORTEST)) | (durations > high)
    known = f" (usual: {low:.2f} to {high:.1f} s)" if usual else f" (shorter than {SHORTEST} s)"
    for row in np.flatnonzero(facts["measured"] & outside):
        yield finding_on(manifest[int(row)], "duration", f"{durations[row]:.2f} s{known}")


def _different(manifest: Manifest, facts: npt.NDArray[Any], column: str, kind: str, text: str) -> Iterator[Finding]:
    """Yield a finding on each utterance whose value differs from the most common one."""
    numbers = Counter(facts[column][facts["measured"]].tolist())
    if len(numbers) < 2:
        return
    [(usual, number)] = numbers.most_common(1)
    for row in np.flatnonzero(facts["measured"] & (facts[column] != usual)):
        found = f"{text.format(facts[column][row])} ({counted(number, 'utterance', 'have')} {usual})"
        yield finding_on(manifest[int(row)], kind, found)


def _low_rates(facts: npt.NDArray[Any]) -> Iterator[Finding]:
    rates = Counter(facts["sampling_rate"][facts["measured"]].tolist())
    for rate, number in sorted(rates.items()):
        if rate < USUAL_RATE:
            yield Finding(kind="low-sampling-rate", found=f"{counted(number, 'utterance', 'have')} {rate} Hz")
