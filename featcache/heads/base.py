"""Features of a batch → logits: the base class of all heads."""

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

# Pooling to a single frame of 2 × hidden_size values: the mean over frames, followed by the maximum.
MEAN_AND_MAX = "mean+max"
POOLINGS = ("mean", "sum", "max", MEAN_AND_MAX)
# Upper limits of the options of built-in heads, so that a manipulated run folder cannot exhaust memory.
MOST_UNITS, MOST_HIDDEN = 2**14, 16


class Head(nn.Module):
    """A small network on cached features that starts with a weighted average of each store's layers.

    To write your own head, define ``spec``, :meth:`build` and :meth:`forward`. Frames have no padding: the frames of
    all utterances of a batch are concatenated to (total_frames, size).

    Args:
        num_layers: Number of layers of each feature store.
        hidden_sizes: Hidden size of each feature store.
        num_outputs: Number of classes, or of targets of a regression.
        layer_weighting: Normalisation of the layer weights, ``abs`` or ``softmax``, see `LayerWeights`.
        pooling: Pooling that was applied to each utterance before the head, which left a single frame; None if
            utterances have all their frames.
        options: An instance of ``spec.options``; by default, all options have their defaults.
        generator: Source of all initial weights and dropout masks, on the CPU.

    Attributes:
        spec: The head's `HeadSpec`.
        unpaired: Class that replaces this head if the frames of several stores are not aligned in time; None if there
            is no such class.
        averages: `LayerWeights` of each feature store; missing if the spec has ``learns_layers=False``.
        num_layers: Number of layers of each feature store.
        pooling: The argument ``pooling``.
        options: The options, with defaults filled in.
        generator: The argument ``generator``, for random draws in training, see `Dropout`.
        reference: Reference by which the user named a head from outside of featcache; empty for built-in heads.

    Raises:
        ModelError: the layer weighting is unknown.

    Example:
        >>> class Attention(Head):  # attention over frames, Mirsamadi et al. 2017
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
        """Make the layers after the weighted averages, and assign them to attributes.

        You can use standard layers of torch: the seed fixes their initial weights. Do not read values of tensors here,
        because heads are also made on torch's device ``meta``, to find the shapes of their weights.

        Args:
            frame_sizes: Number of values of a frame in each store.
            num_outputs: Number of classes, or of targets of a regression.
            generator: Source of randomness, for `Dropout` and for your own initial weights.
        """
        raise NotImplementedError(f"{type(self).__name__} has no method build")

    @classmethod
    def hidden_sizes_of(
        cls, shapes: Mapping[str, tuple[int, ...]], num_stores: int, pooling: str | None
    ) -> list[int] | None:
        """Return the hidden size of each store, inferred from saved weights.

        Only run folders of early releases need this, because they did not record the sizes.

        Args:
            shapes: Name → shape of the saved weights.
            num_stores: Number of feature stores.
            pooling: Pooling that was applied to each utterance before the head, or None.

        Returns:
            The hidden sizes, or None if they cannot be inferred.

        Raises:
            KeyError: the weights do not belong to this head.
        """
        return None

    def forward(self, features: Batch) -> Tensor:
        """Compute the logits of a batch, each utterance independently of the others.

        Args:
            features: For each feature store, the normalised features of each utterance, (num_layers, num_frames,
                frame_size). num_frames is at least 1 and differs between utterances; it is the same in all stores if
                their frames are aligned. Features may be packed; :meth:`averaged` and ``averages`` accept both forms.
                Heads with ``learns_layers=False`` always receive float32 tensors, which they may change.

        Returns:
            (batch, num_outputs) float32.
        """
        return self.classify(self.pooled(features))

    def pooled(self, features: Batch) -> Tensor:
        """Compute one vector per utterance: the layers of the head up to its pooling over frames.

        A head may define this method and :meth:`classify` in place of :meth:`forward`. Training can then use the
        vectors, for example to mix those of two utterances.

        Args:
            features: Features of the utterances, see :meth:`forward`.

        Returns:
            (batch, size).
        """
        raise NotImplementedError(f"{type(self).__name__} has no method forward")

    def classify(self, pooled: Tensor) -> Tensor:
        """Compute the logits of a batch from the vectors of its utterances.

        Args:
            pooled: (batch, size) vectors of :meth:`pooled`, which may be mixtures of several utterances.

        Returns:
            (batch, num_outputs) float32.
        """
        raise NotImplementedError(f"{type(self).__name__} has no method classify")

    @classmethod
    def is_in_two_steps(cls) -> bool:
        """Check whether the head computes its logits with :meth:`pooled` and :meth:`classify`."""
        return cls.forward is Head.forward

    def __call__(self, features: Batch) -> Tensor:
        """Compute the logits of a batch, see :meth:`forward`.

        Args:
            features: Features of the utterances, see :meth:`forward`.

        Returns:
            (batch, num_outputs) float32.

        Raises:
            ModelError: the code of a head from outside of featcache fails.
        """
        with errors_of(self.reference):
            logits: Any = super().__call__(features)
            return logits.float() if isinstance(logits, Tensor) and logits.is_floating_point() else logits

    def averaged(self, features: Batch) -> list[tuple[Tensor, ...]]:
        """Average the layers of each utterance with the learned layer weights.

        Args:
            features: Features of the utterances, see :meth:`forward`.

        Returns:
            For each feature store, one tensor per utterance: (num_frames, frame_size).
        """
        return [
            torch.split(average(utterances), frames_of(utterances))
            for average, utterances in zip(self.averages, features, strict=True)
        ]

    def layer_weights(self) -> list[Tensor | None]:
        """Return the normalised layer weights of each feature store, without gradients.

        Returns:
            For each store (num_layers,), or None if no weights are learned: for stores with a single layer, and for all
            stores if the spec has ``learns_layers=False``.
        """
        if not self.spec.learns_layers:
            return [None] * len(self.num_layers)
        return [average.weights().detach() if average.num_layers > 1 else None for average in self.averages]


@contextmanager
def errors_of(reference: str) -> Iterator[None]:
    """Convert errors in the code of a head from outside of featcache into messages of one line.

    Args:
        reference: Reference by which the user named the head; empty for built-in heads, whose errors are not changed.

    Raises:
        ModelError: the code raised an error other than a FeatcacheError or a lack of memory.
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
    """Return the number of values of a frame in each store: the hidden size, or twice as many after ``mean+max``."""
    return [size * (2 if pooling == MEAN_AND_MAX else 1) for size in hidden_sizes]


def linear(num_inputs: int, num_outputs: int, generator: torch.Generator, *, bias: bool = True) -> nn.Linear:
    """Make a linear layer with Glorot-uniform weights and zero biases, as Keras does by default."""
    layer = undrawn(nn.Linear(num_inputs, num_outputs, bias=bias, device="meta"))
    nn.init.xavier_uniform_(layer.weight, generator=generator)
    if bias:
        nn.init.zeros_(layer.bias)
    return layer


def undrawn(layer: Module) -> Module:
    """Allocate the memory of a layer made on the device ``meta``, on torch's default device.

    Layers are made on ``meta`` because torch would otherwise draw initial weights from its global generator.
    """
    return layer.to_empty(device=torch.get_default_device())


def frames_of(utterances: Sequence[Packed | Tensor]) -> list[int]:
    """Return the number of frames of each utterance in one store.

    Args:
        utterances: Features of each utterance, (num_layers, num_frames, frame_size).
    """
    return [item.num_frames if isinstance(item, Packed) else item.shape[1] for item in utterances]


def mean_over_frames(frames: Tensor, num_frames: Sequence[int]) -> Tensor:
    """Average the frames of each utterance.

    Args:
        frames: (total_frames, size), the utterances concatenated.
        num_frames: Number of frames of each utterance.

    Returns:
        (batch, size) float32.
    """
    return torch.stack([part.mean(dim=0) for part in torch.split(frames.float(), list(num_frames))])
