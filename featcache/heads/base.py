"""Features of a batch → logits: what all heads have in common."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, TypeVar, cast

import torch
from torch import Tensor, nn

from featcache.errors import FeatcacheError, ModelError, in_one_line
from featcache.heads.layer_weights import LayerWeights
from featcache.heads.packed import Packed
from featcache.heads.spec import HeadSpec
from featcache.settings.field import Dataclass

Module = TypeVar("Module", bound=nn.Module)
Batch = Sequence[Sequence[Packed | Tensor]]

# What makes a single frame of 2 × hidden_size values of an utterance: the mean of its frames, then their maximum.
MEAN_AND_MAX = "mean+max"
POOLINGS = ("mean", "sum", "max", MEAN_AND_MAX)
# Most hidden units and layers of the heads here: a run folder from anybody may not ask for more.
MOST_UNITS, MOST_HIDDEN = 2**14, 16


class Head(nn.Module):
    """A small network on cached features, which begins with a weighted average of each store's layers.

    A head of your own has a ``spec``, :meth:`build` and :meth:`forward`. Frames are held without padding, those of all
    utterances one after another: (total_frames, size). No padding can enter a mean, and none is computed on.

    Args:
        num_layers: For each feature store its number of layers.
        hidden_sizes: For each feature store its hidden size.
        num_outputs: Classes, or targets of a regression.
        layer_weighting: How layer weights are normalised, see `LayerWeights`.
        pooling: How each utterance became a single frame before it came; None where it comes with its frames.
        options: An instance of ``spec.options``; by default one of the defaults.
        generator: Source of all initial weights and dropout masks, on the CPU.

    Attributes:
        spec: What a fit must know of the head before it makes one.
        unpaired: The head in its place where the frames of several stores do not pair; None where that does not matter.
        averages: For each feature store its `LayerWeights`; absent if the spec says ``learns_layers=False``.
        num_layers: For each feature store its number of layers.
        pooling: As given.
        options: As given.
        generator: As given, for random draws in training: `Dropout`.
        reference: How the user named a head from outside of featcache; empty for heads of featcache.

    Example:
        >>> class Attentive(Head):  # attention over frames, Mirsamadi et al. 2017
        ...     spec = HeadSpec(stores=(1, 1), inputs="frames", batch_size=32, learns_layers=True)
        ...
        ...     def build(self, frame_sizes, num_outputs, generator):
        ...         self.score = nn.Linear(frame_sizes[0], 1)
        ...         self.output = nn.Linear(frame_sizes[0], num_outputs)
        ...
        ...     def forward(self, features):
        ...         [utterances] = self.averaged(features)
        ...         pooled = [self.score(frames).softmax(dim=0).T @ frames for frames in utterances]
        ...         return self.output(torch.cat(pooled)).float()
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
        options: Dataclass | None = None,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.reference = ""
        self.num_layers = tuple(num_layers)
        self.pooling = pooling
        self.options: Any = self.spec.options() if options is None else options
        self.generator = generator
        if self.spec.learns_layers:
            averages = nn.ModuleList(LayerWeights(number, layer_weighting) for number in num_layers)
            self.averages = cast(Sequence[LayerWeights], averages)
        self.build(frame_sizes(hidden_sizes, pooling), num_outputs, generator)

    def build(self, frame_sizes: Sequence[int], num_outputs: int, generator: torch.Generator) -> None:
        """Make the layers that follow the weighted averages, as attributes.

        Standard layers of torch may be used as they are: their initial weights follow from the seed. Values of tensors
        must not be read here, because heads are also made on torch's device ``meta``, to find the shapes of weights.

        Args:
            frame_sizes: For each store how many values a frame has.
            num_outputs: Classes, or targets of a regression.
            generator: Source of randomness, for `Dropout` and for initial weights of your own.
        """
        raise NotImplementedError(f"{type(self).__name__} has no method build")

    @classmethod
    def hidden_sizes_of(
        cls, shapes: Mapping[str, tuple[int, ...]], num_stores: int, pooling: str | None
    ) -> list[int] | None:
        """Return the hidden size of each store that saved weights belong to; None where the weights do not say.

        It is for run folders of early releases alone, which did not record the sizes.

        Args:
            shapes: Name → shape of the saved weights.
            num_stores: How many feature stores there are.
            pooling: How each utterance became a single frame before it came.

        Raises:
            KeyError: the weights are not those of this head.
        """
        return None

    def forward(self, features: Batch) -> Tensor:
        """Compute the logits of a batch of utterances, each independently of the others.

        Args:
            features: For each feature store one (num_layers, num_frames, frame_size) per utterance, normalised;
                num_frames is each utterance's own, from 1 on, and the same in all stores where their frames pair. They
                may be packed: :meth:`averaged` and ``averages`` take them as they are. Heads with
                ``learns_layers=False`` get float32 tensors of their own.

        Returns:
            (batch, num_outputs) float32.
        """
        raise NotImplementedError(f"{type(self).__name__} has no method forward")

    def __call__(self, features: Batch) -> Tensor:
        """Compute the logits of a batch, see :meth:`forward`.

        Raises:
            ModelError: the code of a head from outside of featcache fails.
        """
        with errors_of(self.reference):
            logits: Any = super().__call__(features)
            return logits.float() if isinstance(logits, Tensor) and logits.is_floating_point() else logits

    def averaged(self, features: Batch) -> list[tuple[Tensor, ...]]:
        """Return for each feature store the weighted average of each utterance's layers: (num_frames, frame_size)."""
        return [
            torch.split(average(utterances), frames_of(utterances))
            for average, utterances in zip(self.averages, features, strict=True)
        ]

    def layer_weights(self) -> list[Tensor | None]:
        """For each feature store its normalised weights (num_layers,), or None where none are learned.

        That is where the store has a single layer, and everywhere if the spec says ``learns_layers=False``.
        """
        if not self.spec.learns_layers:
            return [None] * len(self.num_layers)
        return [average.weights().detach() if average.num_layers > 1 else None for average in self.averages]


@contextmanager
def errors_of(reference: str) -> Iterator[None]:
    """Turn what the code of a head from outside of featcache raises into one line.

    Args:
        reference: How the user named the head; empty for heads of featcache, whose errors are bugs and stay.

    Raises:
        ModelError: the code raised something else than an error of featcache; memory that runs out is not its fault.
    """
    try:
        yield
    except (FeatcacheError, MemoryError, torch.OutOfMemoryError):
        raise
    except (Exception, SystemExit) as error:
        if not reference:
            raise
        raise ModelError(f"head {reference!r} fails with {in_one_line(error)}") from error


def frame_sizes(hidden_sizes: Sequence[int], pooling: str | None) -> list[int]:
    """Return how many values a frame of each store has: twice its hidden size after ``mean+max``."""
    return [size * (2 if pooling == MEAN_AND_MAX else 1) for size in hidden_sizes]


def linear(num_inputs: int, num_outputs: int, generator: torch.Generator) -> nn.Linear:
    """A linear layer with Glorot-uniform weights and zero biases, as Keras starts it."""
    layer = undrawn(nn.Linear(num_inputs, num_outputs, device="meta"))
    nn.init.xavier_uniform_(layer.weight, generator=generator)
    nn.init.zeros_(layer.bias)
    return layer


def undrawn(layer: Module) -> Module:
    """Give a layer that was made on the device ``meta`` its memory, on torch's default device.

    Layers are made there because torch would draw initial weights from its global generator.
    """
    return layer.to_empty(device=torch.get_default_device())


def frames_of(utterances: Sequence[Packed | Tensor]) -> list[int]:
    """The number of frames of each utterance in one store."""
    return [item.num_frames if isinstance(item, Packed) else item.shape[1] for item in utterances]


def mean_over_frames(frames: Tensor, num_frames: Sequence[int]) -> Tensor:
    """(total_frames, size) → (batch, size) float32."""
    return torch.stack([part.mean(dim=0) for part in torch.split(frames.float(), list(num_frames))])
