"""Signal → features. What every extractor has in common; extractors never see the cache."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from featcache.audio import ChannelPolicy, Recording, Signal

Features = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Description:
    """What an extractor is and what it writes; kept with the features.

    Attributes:
        dataset: ``hidden_states`` for the layers of a model, ``frames`` for anything with a single layer.
        layer_names: One name per layer; a single empty name where there are no layers to choose from.
        hidden_size: Values per frame and layer.
        frame_shift: In seconds; None where there are no frames in time (functionals).
        sampling_rate: In Hz of the signals it wants; None takes each file's own.
        channel: How it wants several channels mixed down.
        max_seconds: How much of each utterance it wants, from the beginning; None is all.
        settings: All that changes numbers. Equal settings, equal features: this is a store's identity.
        provenance: What else is worth knowing: versions, revisions, feature names.
    """

    dataset: Literal["hidden_states", "frames"]
    layer_names: tuple[str, ...] = ("",)
    hidden_size: int
    frame_shift: float | None
    sampling_rate: int | None
    channel: ChannelPolicy
    max_seconds: float | None = None
    settings: dict[str, Any]
    provenance: dict[str, Any] = field(default_factory=dict)


def signal_for(description: Description, recording: Recording) -> Signal:
    """A recording as an extractor wants it."""
    return recording.signal(
        channel=description.channel, sampling_rate=description.sampling_rate, max_seconds=description.max_seconds
    )


class Extractor(ABC):
    """Turns signals into features, the same whatever else is in the batch, from any number of threads."""

    description: Description

    @abstractmethod
    def num_frames(self, num_samples: int, sampling_rate: int) -> int:
        """The number of frames that :meth:`extract` will return for such a signal; 0 if it is too short."""

    @abstractmethod
    def extract(self, signals: Sequence[Signal]) -> list[Features]:
        """Features of each signal: (num_layers, num_frames, hidden_size) float32.

        Raises:
            AudioError: a signal is too short for a single frame, or too long for the model.
        """
