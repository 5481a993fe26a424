"""Speakers → resamples → 95 % confidence intervals.

Utterances of one speaker are right or wrong together, so whole speakers are drawn: an interval over single utterances
would be too narrow.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class Intervals:
    """95 % intervals of one or several scores, and what was drawn to get them.

    Attributes:
        bounds: (num_scores, 2) float64, the lower and upper bound of each score, in the unit of the score.
        unit: What was drawn with replacement.
        count: How many of them there are.
    """

    bounds: NDArray[np.float64]
    unit: Literal["speakers", "utterances"]
    count: int


def bootstrap(
    score: Callable[[NDArray[np.int64]], NDArray[np.float64]],
    speaker_ids: Sequence[str],
    *,
    num_resamples: int = 1000,
    random_state: int = 0,
) -> Intervals:
    """Percentile intervals from drawing speakers, and then utterances of each speaker drawn, with replacement.

    Single utterances are drawn when the speakers cannot be: fewer than two of them, or some unknown.

    Args:
        score: Takes how often each utterance was drawn, (num_utterances,) int64, and gives (num_scores,) float64.
        speaker_ids: (num_utterances,) who speaks; empty when unknown.
        num_resamples: How many resamples are scored.
        random_state: Seed of the draws; numpy's global state is neither used nor changed.

    Source: Ferrer & Riera, Confidence Intervals for evaluation in machine learning,
        https://github.com/luferrer/ConfidenceIntervals.
    """
    import sklearn
    from confidence_intervals import get_bootstrap_indices, get_conf_int

    num_utterances = len(speaker_ids)
    speakers, speaker_of_utterance = np.unique(np.asarray(speaker_ids, dtype=str), return_inverse=True)
    over_speakers = len(speakers) > 1 and "" not in speakers
    conditions = speaker_of_utterance if over_speakers else None
    # One generator for all draws. The package's own loop restarts from the same integer for every speaker, which gives
    # speakers of equal size the same draw: in a corpus of parallel sentences the intervals become half as wide again.
    generator = np.random.RandomState(random_state)
    scores = []
    with sklearn.config_context(skip_parameter_validation=True):  # halves the time of the thousands of tiny draws
        for _ in range(num_resamples):
            drawn = get_bootstrap_indices(num_utterances, conditions, generator)
            scores.append(score(np.bincount(drawn, minlength=num_utterances)))
    return Intervals(
        bounds=np.array([get_conf_int(values, alpha=5) for values in np.transpose(scores)]),
        unit="speakers" if over_speakers else "utterances",
        count=len(speakers) if over_speakers else num_utterances,
    )
