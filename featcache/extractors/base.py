"""Signal or text → features. What every extractor has in common; extractors never see the cache."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

from featcache.extractors.footprint import DESCRIPTOR_BYTES, kept_bytes
from featcache.features import Description, Features, Tokens

SAME_IN_ANY_BATCH = {"float32": 1e-5, "bfloat16": 8 * 2.0**-8, "float16": 8 * 2.0**-10}
"""Precision → the largest difference between an utterance alone and in any batch, over the layer's largest value.

In a batch matrix products have other shapes, and are therefore summed in another order. In float32 that changes the
last digits. In half precision each operation rounds its result to 8 or 11 bits, so that a sum which falls to the other
side of a rounding is off by a step, and later layers carry it on. Eight steps at the layer's largest value are allowed;
three (float16) and four (bfloat16) were seen.
"""


class Extractor(ABC):
    """Turns signals into features, the same whatever else is in the batch, from any number of threads.

    "The same" is within :data:`SAME_IN_ANY_BATCH` of the precision that a model computes in.

    An extractor that reads text has tokens for signals: a token is a sample, and their rate is 1.

    Attributes:
        description: Plain data about the extractor, which is kept with its features.
        tokenise: Makes tokens of the text of an utterance; None where the extractor reads audio.
    """

    description: Description
    tokenise: Callable[[str], Tokens] | None = None

    @abstractmethod
    def num_frames(self, num_samples: int, sampling_rate: int) -> int:
        """The number of frames that :meth:`extract` will return for such a signal; 0 if it is too short."""

    @abstractmethod
    def hop(self, sampling_rate: int) -> int:
        """Samples between two frames: a signal without so many at its beginning has the same frames but the first."""

    def context(self, sampling_rate: int) -> int:
        """How many frames at either end of a signal reach beyond it; none unless an extractor says otherwise."""
        return 0

    def peak_bytes(self, batch: int, num_samples: int, sampling_rate: int) -> int:
        """Estimate the host memory that equally long signals take at their peak, in bytes, beside the model itself.

        Args:
            batch: How many go through the extractor together.
            num_samples: Samples or tokens of each, as the extractor sees it.
            sampling_rate: In Hz, or 1.
        """
        frames = self.num_frames(num_samples, sampling_rate)
        layers, size = len(self.description.layer_names), self.description.hidden_size
        return batch * (DESCRIPTOR_BYTES * num_samples + kept_bytes(layers, frames, size))

    @abstractmethod
    def extract(self, signals: Sequence[Any]) -> list[Features]:
        """Features of each signal: (num_layers, num_frames, hidden_size) float32.

        Args:
            signals: Each a :class:`~featcache.audio.Signal` or, where it has ``tokenise``, the
                :class:`~featcache.features.Tokens` of a text.

        Raises:
            AudioError: a signal is too short for a single frame, or too long for the model.
        """
