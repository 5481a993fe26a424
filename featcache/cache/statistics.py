"""Features → count, mean, M2 and maximum per utterance, layer and dimension; and their merging.

Statistics are computed from the float32 features, before these are rounded to the storage dtype.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Rows = Callable[[range], npt.NDArray[np.float32]]

# Number of utterances merged at a time, which limits the memory for a corpus of any size.
CHUNK = 256


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """Statistics over the frames of one utterance.

    Attributes:
        count: Number of frames.
        mean: Mean, (num_layers, hidden_size) float32.
        m2: Sum of squared differences from the mean, (num_layers, hidden_size) float32.
        max: Maximum, (num_layers, hidden_size) float32.
        step: Quantisation scale, (num_layers, hidden_size) float32, see :mod:`featcache.cache.quantise`; None unless
            the features are stored as int8.
    """

    count: int
    mean: npt.NDArray[np.float32]
    m2: npt.NDArray[np.float32]
    max: npt.NDArray[np.float32]
    step: npt.NDArray[np.float32] | None = None


class RunningStatistics:
    """Statistics of an utterance whose frames are added piece by piece.

    Source: Chan, Golub & LeVeque 1983, Algorithms for Computing the Sample Variance, eq. 2.1.
    """

    def __init__(self) -> None:
        self._count = 0
        self._mean: npt.NDArray[np.float64] = np.zeros(())
        self._m2: npt.NDArray[np.float64] = np.zeros(())
        self._max: npt.NDArray[np.float32] = np.zeros((), dtype=np.float32)

    def add(self, features: npt.NDArray[np.float32]) -> None:
        """Add (num_layers, num_frames, hidden_size) float32 features with at least one frame."""
        count = features.shape[1]
        mean = features.mean(axis=1, dtype=np.float64)
        deviations = features - mean[:, None].astype(np.float32)
        m2 = np.einsum("ltd,ltd->ld", deviations, deviations).astype(np.float64)
        highest = features.max(axis=1)
        if self._count:
            shift = mean - self._mean
            mean = self._mean + shift * (count / (self._count + count))
            m2 += self._m2 + np.square(shift) * (self._count * count / (self._count + count))
            highest = np.maximum(highest, self._max)
        self._count, self._mean, self._m2, self._max = self._count + count, mean, m2, highest

    def result(self) -> Statistics:
        """Return the statistics of all added frames."""
        return Statistics(
            count=self._count, mean=self._mean.astype(np.float32), m2=self._m2.astype(np.float32), max=self._max
        )


def of_frames(features: npt.NDArray[np.float32]) -> Statistics:
    """Return the statistics of (num_layers, num_frames, hidden_size) float32 features."""
    running = RunningStatistics()
    running.add(features)
    return running.result()


def merge(
    count: npt.NDArray[np.int64], mean_of: Rows, m2_of: Rows
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the mean and population standard deviation over all frames of several utterances; no frame is read.

    Args:
        count: Number of frames of each utterance, (num_utterances,).
        mean_of: Function from positions of utterances to their means, (len(positions), num_layers, hidden_size).
        m2_of: Function from positions of utterances to their sums of squared differences, of the same shape.

    Returns:
        Mean and standard deviation, (num_layers, hidden_size) float64 each.

    Source: Chan, Golub & LeVeque 1983, Algorithms for Computing the Sample Variance, eq. 2.1 for any number of parts.
    """
    weights = count / count.sum()
    chunks = [range(first, min(first + CHUNK, len(count))) for first in range(0, len(count), CHUNK)]
    mean = np.sum([np.tensordot(weights[chunk.start : chunk.stop], mean_of(chunk), axes=1) for chunk in chunks], axis=0)
    variance = np.zeros_like(mean)
    for chunk in chunks:
        variance += m2_of(chunk).sum(axis=0, dtype=np.float64) / count.sum()
        variance += np.tensordot(weights[chunk.start : chunk.stop], np.square(mean_of(chunk) - mean), axes=1)
    return mean, np.sqrt(variance)
