"""Features → count, mean, M2 and maximum per utterance, layer and dimension; and their merging.

Statistics are taken from the float32 features, before they are rounded to the storage dtype.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Rows = Callable[[range], npt.NDArray[np.float32]]

# Utterances merged at a time: bounds the working memory, whatever the size of the corpus.
CHUNK = 256


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """Of the frames of one utterance.

    Attributes:
        count: Number of frames.
        mean: (num_layers, hidden_size) float32.
        m2: (num_layers, hidden_size) float32, sum of squared deviations from the mean.
        max: (num_layers, hidden_size) float32.
        step: (num_layers, hidden_size) float32, see :mod:`featcache.cache.quantise`; None unless stored in 8 bits.
    """

    count: int
    mean: npt.NDArray[np.float32]
    m2: npt.NDArray[np.float32]
    max: npt.NDArray[np.float32]
    step: npt.NDArray[np.float32] | None = None


class RunningStatistics:
    """The statistics of an utterance whose frames come piece by piece.

    Source: Chan, Golub & LeVeque 1983, Algorithms for Computing the Sample Variance, eq. 2.1.
    """

    def __init__(self) -> None:
        self._count = 0
        self._mean: npt.NDArray[np.float64] = np.zeros(())
        self._m2: npt.NDArray[np.float64] = np.zeros(())
        self._max: npt.NDArray[np.float32] = np.zeros((), dtype=np.float32)

    def add(self, features: npt.NDArray[np.float32]) -> None:
        """Take in (num_layers, num_frames, hidden_size) float32, at least one frame."""
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
        """The statistics of all that was added."""
        return Statistics(
            count=self._count, mean=self._mean.astype(np.float32), m2=self._m2.astype(np.float32), max=self._max
        )


def of_frames(features: npt.NDArray[np.float32]) -> Statistics:
    """The statistics of (num_layers, num_frames, hidden_size) float32 features."""
    running = RunningStatistics()
    running.add(features)
    return running.result()


def merge(
    count: npt.NDArray[np.int64], mean_of: Rows, m2_of: Rows
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Mean and population standard deviation over all frames of several utterances, without reading a frame.

    Args:
        count: (num_utterances,) frames of each utterance.
        mean_of: Gives the means of some utterances, by their positions: (len(positions), num_layers, hidden_size).
        m2_of: Likewise their sums of squared deviations.

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
