"""p values of several tests → corrected ones."""

from collections.abc import Sequence

import numpy as np


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's correction: the lowest p times their number, the next times one less, …, never falling, at most 1."""
    order = np.argsort(p_values, kind="stable")
    corrected = np.maximum.accumulate(np.asarray(p_values)[order] * np.arange(len(order), 0, -1)).clip(max=1)
    return [float(p) for p in corrected[np.argsort(order)]]
