"""Speakers → resamples → 95 % confidence intervals.

Utterances of one speaker are right or wrong together, so whole speakers are drawn: an interval over single utterances
is too narrow for any other speaker. Every score here is a function of sums over utterances (confusion counts, or
moments), so that a resample is one row of a matrix product.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]

ENOUGH_SPEAKERS = 20

# Share (%) of 95 % intervals that held the true UAR, by number of speakers: drawing speakers, drawing utterances.
# Of the two spreads between speakers that are simulated, the one with the lower share.
# Source: python -m tests.evaluate.coverage
COVERAGE = {2: (49.6, 52.0), 4: (84.7, 51.4), 10: (93.1, 53.5), 20: (94.2, 53.0), 40: (94.5, 53.5)}

_NUMBERS_AT_ONCE = 4_000_000  # 32 MB


@dataclass(frozen=True, kw_only=True)
class Intervals:
    """95 % intervals of one or several scores, and what was drawn to get them.

    Attributes:
        bounds: (num_scores, 2) float64, the lower and upper bound of each score, in the unit of the score; NaN for a
            score that no resample has.
        unit: What was drawn with replacement.
        count: How many of them there are.
    """

    bounds: Numbers
    unit: Literal["speakers", "utterances"]
    count: int


def bootstrap(
    sums: Any,
    score: Callable[[Numbers], Numbers],
    *,
    speaker_ids: Sequence[str] | None = None,
    num_resamples: int = 2000,
    random_state: int = 0,
) -> Intervals:
    """Expanded percentile intervals from drawing whole speakers, or single utterances, with replacement.

    Utterances are drawn when no speakers are given, or when they cannot be drawn: fewer than two, or some unknown.

    The percentiles are not 2.5 and 97.5 but Φ(∓ sqrt(n / (n − 1)) · t), with t the 97.5 % quantile of Student's t with
    n − 1 degrees of freedom and n the number of units drawn. Plain percentiles are too narrow for few units, by
    sqrt((n − 1) / n) and by normal instead of t quantiles: with 20 speakers they held the true value in 91 to 93 % of
    simulations, expanded ones in 93 to 95 %. BCa did as the plain ones. Drawing utterances within the drawn speakers
    as well counts their scatter twice and held it in up to 99.7 %. See ``python -m tests.evaluate.coverage``.

    Args:
        sums: (num_utterances, num_sums) array or scipy.sparse array, what each utterance adds to the sums.
        score: Takes the sums of resamples, (num_resamples, num_sums) float64, and gives (num_resamples, num_scores);
            a resample whose score is NaN is left out.
        speaker_ids: (num_utterances,) who speaks, "" for unknown.
        num_resamples: How many resamples are scored.
        random_state: Seed of the draws; numpy's global state is neither used nor changed.

    Source: Hesterberg 2015, What Teachers Should Know About the Bootstrap, section 5.3 (expanded percentile interval);
        drawing clusters only: Davison & Hinkley 1997, Bootstrap Methods and their Application, section 3.8.
    """
    units, unit = _units(sums, speaker_ids)
    count = units.shape[0]
    generator = np.random.default_rng(random_state)
    at_once = max(1, min(num_resamples, _NUMBERS_AT_ONCE // max(units.shape)))
    scores = [
        score(_times_drawn(generator, count, min(at_once, num_resamples - done)) @ units)
        for done in range(0, num_resamples, at_once)
    ]
    return Intervals(bounds=_percentiles(np.concatenate(scores), expanded_tail(count)), unit=unit, count=count)


def expanded_tail(count: int) -> float:
    """The share of resamples to leave out on each side, for so many units; below 0.025."""
    from scipy import stats

    if count < 2:
        return 0.025  # one unit: all resamples are the same
    return float(stats.norm.cdf(np.sqrt(count / (count - 1)) * stats.t.ppf(0.025, count - 1)))


def caution(unit: str, count: int, num_speakers: int) -> str | None:
    """What a reader of intervals must be told, None if nothing.

    Args:
        unit: What was drawn, ``speakers`` or ``utterances``.
        count: How many of them there are.
        num_speakers: How many speakers are known.
    """
    if unit == "utterances":
        known = "there is one speaker" if num_speakers == 1 else "the speakers are not all known"
        return f"{known}, so the intervals are over utterances: they say nothing about other speakers"
    if count >= ENOUGH_SPEAKERS:
        return None
    of_speakers = np.interp(1 / count, [1 / n for n in reversed(COVERAGE)], [c for c, _ in reversed(COVERAGE.values())])
    told = f"in simulations, 95 % intervals over {count} speakers held the true value in {of_speakers:.0f} % of cases"
    if count == 2:
        return f"ONLY TWO SPEAKERS: {told}; they describe these two speakers and nobody else"
    return f"few speakers: {told}"


def _units(sums: Any, speaker_ids: Sequence[str] | None) -> tuple[Any, Literal["speakers", "utterances"]]:
    """(num_units, num_sums), the sums of each speaker, or of each utterance."""
    from scipy import sparse

    if speaker_ids is None:
        return sums, "utterances"
    speakers, codes = np.unique(np.asarray(speaker_ids, dtype=str), return_inverse=True)
    if len(speakers) < 2 or "" in speakers:
        return sums, "utterances"
    members = sparse.csr_array((np.ones(len(codes)), (codes, np.arange(len(codes)))))
    return members @ sums, "speakers"


def _times_drawn(generator: np.random.Generator, count: int, num_resamples: int) -> Numbers:
    """(num_resamples, count) how often each unit is drawn; every row sums to ``count``."""
    drawn = generator.integers(count, size=(num_resamples, count)) + count * np.arange(num_resamples)[:, np.newaxis]
    times = np.bincount(drawn.ravel(), minlength=count * num_resamples)
    return times.reshape(num_resamples, count).astype(np.float64)


def _percentiles(scores: Numbers, tail: float) -> Numbers:
    """scores: (num_resamples, num_scores), may be NaN; returns (num_scores, 2)."""
    defined = [values[~np.isnan(values)] for values in scores.T]
    return np.array([np.quantile(values, [tail, 1 - tail]) if len(values) else [np.nan] * 2 for values in defined])
