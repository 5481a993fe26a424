"""Features of a batch → logits: what all heads have in common."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar, cast

import torch
from torch import Tensor, nn

from featcache.heads.layer_weights import LayerWeights
from featcache.heads.packed import Packed
from featcache.heads.spec import HeadSpec

Batch = Sequence[Sequence[Packed | Tensor]]

# What makes a single frame of 2 × hidden_size values of an utterance: the mean of its frames, then their maximum.
MEAN_AND_MAX = "mean+max"
POOLINGS = ("mean", "sum", "max", MEAN_AND_MAX)


class Head(nn.Module):
    """A small network on cached features, which begins with a weighted average of each store's layers.

    Frames are held without padding, those of all utterances one after another: (total_frames, size). No padding can
    enter a mean, and none is computed on.

    Args:
        num_layers: For each feature store its number of layers.
        hidden_sizes: For each feature store its hidden size.
        num_outputs: Classes, or targets of a regression.
        layer_weighting: How layer weights are normalised, see `LayerWeights`.
        pooling: How each utterance became a single frame before it came; None where it comes with its frames.
        generator: Source of all initial weights and dropout masks, on the CPU.

    Attributes:
        spec: What a fit must know of the head before it makes one.
        unpaired: The head in its place where the frames of several stores do not pair; None where that does not matter.
    """

    spec: ClassVar[HeadSpec] = HeadSpec()
    unpaired: ClassVar[type["Head"] | None] = None

    def __init__(
        self,
        num_layers: Sequence[int],
        hidden_sizes: Sequence[int],
        num_outputs: int,
        *,
        layer_weighting: str = "abs",
        pooling: str | None = None,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        averages = nn.ModuleList(LayerWeights(number, layer_weighting) for number in num_layers)
        self.averages = cast(Sequence[LayerWeights], averages)
        self.pooling = pooling
        self._build(frame_sizes(hidden_sizes, pooling), num_outputs, generator)

    @abstractmethod
    def _build(self, frame_sizes: Sequence[int], num_outputs: int, generator: torch.Generator) -> None:
        """Make the layers that follow the weighted averages; frame sizes are how many values a store's frames have."""

    @classmethod
    @abstractmethod
    def first_shapes(cls, hidden_sizes: Sequence[int], pooling: str | None) -> dict[str, tuple[int, ...]]:
        """Return name → shape of the weights that follow the weighted averages, for checks before a head is made.

        Args:
            hidden_sizes: For each feature store its hidden size.
            pooling: How each utterance became a single frame before it came.
        """

    @classmethod
    @abstractmethod
    def hidden_sizes_of(
        cls, shapes: Mapping[str, tuple[int, ...]], num_stores: int, pooling: str | None
    ) -> list[int] | None:
        """Return the hidden size of each store that saved weights belong to; None where the weights do not say.

        Args:
            shapes: Name → shape of the saved weights.
            num_stores: How many feature stores there are.
            pooling: How each utterance became a single frame before it came.

        Raises:
            KeyError: the weights are not those of this head.
        """

    @abstractmethod
    def forward(self, features: Batch) -> Tensor:
        """Logits of a batch of utterances.

        Args:
            features: For each feature store one (num_layers, num_frames, frame_size) per utterance, normalised;
                num_frames is each utterance's own, from 1 on, and the same in all stores where their frames pair.

        Returns:
            (batch, num_outputs) float32.
        """

    def layer_weights(self) -> list[Tensor | None]:
        """For each feature store its normalised weights (num_layers,), or None where it has a single layer."""
        return [average.weights().detach() if average.num_layers > 1 else None for average in self.averages]


def frame_sizes(hidden_sizes: Sequence[int], pooling: str | None) -> list[int]:
    """Return how many values a frame of each store has: twice its hidden size after ``mean+max``."""
    return [size * (2 if pooling == MEAN_AND_MAX else 1) for size in hidden_sizes]


def linear(num_inputs: int, num_outputs: int, generator: torch.Generator) -> nn.Linear:
    """A linear layer with Glorot-uniform weights and zero biases, as Keras starts it."""
    # made on the meta device first, because torch would draw initial weights from its global generator
    layer = nn.Linear(num_inputs, num_outputs, device="meta").to_empty(device="cpu")
    nn.init.xavier_uniform_(layer.weight, generator=generator)
    nn.init.zeros_(layer.bias)
    return layer


def frames_of(utterances: Sequence[Packed | Tensor]) -> list[int]:
    """The number of frames of each utterance in one store."""
    return [item.num_frames if isinstance(item, Packed) else item.shape[1] for item in utterances]


def mean_over_frames(frames: Tensor, num_frames: Sequence[int]) -> Tensor:
    """(total_frames, size) → (batch, size) float32."""
    return torch.stack([part.mean(dim=0) for part in torch.split(frames.float(), list(num_frames))])
