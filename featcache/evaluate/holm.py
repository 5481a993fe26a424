"""p values of several tests → corrected p values."""

from collections.abc import Sequence

import numpy as np


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p values for the number of tests by Holm's step-down method.

    The lowest of n p values is multiplied by n, the next one by n − 1, and so on. Corrected values never decrease in
    this order, and are at most 1.
    """
    order = np.argsort(p_values, kind="stable")
    corrected = np.maximum.accumulate(np.asarray(p_values)[order] * np.arange(len(order), 0, -1)).clip(max=1)
    return [float(p) for p in corrected[np.argsort(order)]]
