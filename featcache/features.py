"""Data types of extractor outputs: features, tokens, and the description of an extractor that the cache stores."""

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from featcache.settings.extractor_configs import ChannelPolicy, Chunks

Features = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """Tokens of a text, as a model reads them.

    Attributes:
        inputs: Name of a model input → one number per token: ``input_ids`` and other outputs of the tokenizer.
        is_cut: Whether the text was cut because it has more tokens than the model can read.
    """

    inputs: dict[str, list[int]]
    is_cut: bool = False

    def __len__(self) -> int:
        return len(self.inputs["input_ids"])


@dataclass(frozen=True, kw_only=True)
class Description:
    """Plain data about an extractor and its features; stored with the features.

    Attributes:
        dataset: ``hidden_states`` for the layers of a model, ``frames`` for features with a single layer.
        layer_names: One name per layer; a single empty name if there are no layers to choose from.
        hidden_size: Number of values per frame and layer.
        frame_shift: Time between frames in seconds; None if frames are not steps in time (functionals, tokens).
        sampling_rate: Sampling rate of the signals in Hz; None keeps the sampling rate of each file.
        channel: Method to mix several channels down; None if the extractor reads no audio.
        max_seconds: Maximum duration in seconds, from the beginning of each utterance; None uses all of it.
        chunks: Windows for long utterances; None processes each utterance as a whole.
        padded_frames: Number of frames of every utterance with its padding, which is kept; None if it is not kept.
        settings: All settings that affect the features. Equal settings give equal features, so they identify a store.
        provenance: Further information: versions, revisions, feature names.
    """

    dataset: Literal["hidden_states", "frames"]
    layer_names: tuple[str, ...] = ("",)
    hidden_size: int
    frame_shift: float | None
    sampling_rate: int | None
    channel: ChannelPolicy | None
    max_seconds: float | None = None
    chunks: Chunks | None = None
    padded_frames: int | None = None
    settings: dict[str, Any]
    provenance: dict[str, Any] = field(default_factory=dict)

    def in_windows(self, seconds: float) -> bool:
        """Check whether an utterance of this duration is processed in windows.

        Args:
            seconds: Duration of the utterance in seconds.
        """
        used = seconds if self.max_seconds is None else min(seconds, self.max_seconds)
        return self.chunks is not None and used > self.chunks.seconds
