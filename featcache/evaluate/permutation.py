"""Two runs on the same units → the chance of such a difference if the runs were alike."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]

SAME = 1e-9  # scores that differ by less are the same: sums in another order
NUM_SWAPS = 9999  # of more units than can all be tried
_NUMBERS_AT_ONCE = 4_000_000  # 32 MB


def swap_test(first: Numbers, second: Numbers, score: Callable[[Numbers], Numbers]) -> tuple[float, float]:
    """Two-sided p of the difference of two runs, against swapping them in some units, speakers or utterances.

    Up to 13 units that differ, every swap is tried, and the p is exact; of more, 9999 random ones.

    Args:
        first, second: (num_units, num_sums) float64, what each unit adds to the sums of either run.
        score: (…, num_sums) → (…).

    Returns: the p, and the lowest that so many units can reach.
    """
    from scipy import stats

    differing = (np.abs(first - second) > SAME).any(axis=1)
    number = int(differing.sum())  # swapping the others changes nothing
    if number == 0:
        return 1.0, 1.0
    change = (second - first)[differing]
    totals = first.sum(axis=0), second.sum(axis=0)

    def statistic(signs: NDArray[Any], axis: int = -1) -> Numbers:
        moved = (1 - signs) / 2 @ change
        found = score(totals[0] + moved) - score(totals[1] - moved)
        # a swap after which nothing varies has no score, and shows no difference
        return np.nan_to_num(found).round(9)

    result = stats.permutation_test(
        (np.ones(number),),
        statistic,
        permutation_type="samples",
        vectorized=True,
        n_resamples=NUM_SWAPS,
        batch=max(1, _NUMBERS_AT_ONCE // max(change.shape)),
        random_state=np.random.default_rng(0),
    )
    exact = 2**number <= NUM_SWAPS
    return float(result.pvalue), 2.0 ** (1 - number) if exact else 2 / (NUM_SWAPS + 1)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's correction: the lowest p times their number, the next times one less, …, never falling, at most 1."""
    order = np.argsort(p_values, kind="stable")
    corrected = np.maximum.accumulate(np.asarray(p_values)[order] * np.arange(len(order), 0, -1)).clip(max=1)
    return [float(p) for p in corrected[np.argsort(order)]]
