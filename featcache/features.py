"""What extractors yield and the cache keeps: features, and the description of what made them."""

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from featcache.settings.extractor_configs import ChannelPolicy, Chunks

Features = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """A text as a model sees it.

    Attributes:
        inputs: Name of a model's input → a number for each token: ``input_ids``, and what else its tokenizer gives.
        is_cut: Whether the text has more tokens than the model can read.
    """

    inputs: dict[str, list[int]]
    is_cut: bool = False

    def __len__(self) -> int:
        return len(self.inputs["input_ids"])


@dataclass(frozen=True, kw_only=True)
class Description:
    """Plain data about an extractor and what it writes; kept with the features.

    Attributes:
        dataset: ``hidden_states`` for the layers of a model, ``frames`` for anything with a single layer.
        layer_names: One name per layer; a single empty name where there are no layers to choose from.
        hidden_size: Values per frame and layer.
        frame_shift: In seconds; None where frames are no steps in time (functionals, tokens).
        sampling_rate: In Hz of the signals it wants; None takes each file's own.
        channel: How it wants several channels mixed down; None where it reads no audio.
        max_seconds: How much of each utterance it wants, from the beginning; None is all.
        chunks: How long utterances are computed; None is whole.
        settings: All that changes numbers. Equal settings, equal features: this is a store's identity.
        provenance: What else is worth knowing: versions, revisions, feature names.
    """

    dataset: Literal["hidden_states", "frames"]
    layer_names: tuple[str, ...] = ("",)
    hidden_size: int
    frame_shift: float | None
    sampling_rate: int | None
    channel: ChannelPolicy | None
    max_seconds: float | None = None
    chunks: Chunks | None = None
    settings: dict[str, Any]
    provenance: dict[str, Any] = field(default_factory=dict)

    def in_windows(self, seconds: float) -> bool:
        """Whether an utterance of this length is computed in windows."""
        used = seconds if self.max_seconds is None else min(seconds, self.max_seconds)
        return self.chunks is not None and used > self.chunks.seconds
