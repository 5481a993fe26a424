"""Layers of each frame → weighted average → hidden layers → mean over frames → logits."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from featcache.heads.base import (
    MOST_HIDDEN,
    MOST_UNITS,
    Batch,
    Head,
    frame_sizes,
    frames_of,
    linear,
    mean_over_frames,
)
from featcache.heads.dropout import DROPOUT_RATE, MOST_DROPPED, Dropout
from featcache.heads.spec import HeadSpec
from featcache.settings.field import setting


@dataclass(frozen=True, kw_only=True)
class DenseOptions:
    """Options of `Dense` and `Fusion`."""

    hidden_units: int = setting(128, "Width of each hidden layer.", minimum=1, maximum=MOST_UNITS)
    dropout: float = setting(DROPOUT_RATE, "Dropout rate before each hidden layer.", minimum=0, maximum=MOST_DROPPED)
    num_hidden: int = setting(
        2,
        "Number of hidden layers; each store has its own first layer, and all stores share the others.",
        minimum=1,
        maximum=MOST_HIDDEN,
    )


class HiddenLayer(nn.Module):
    """Hidden layer of a head: (total_frames, num_inputs) → (total_frames, num_outputs).

    ``forward`` receives the frames of all utterances, concatenated, and the number of frames of each utterance.

    Attributes:
        num_outputs: Number of values of each output frame.
    """

    num_outputs: int


class DenseLayer(HiddenLayer):
    """Dropout → linear → ReLU, for each frame separately.

    Args:
        num_inputs: Number of values of an input frame.
        options: Options of the head.
        generator: Source of initial weights and dropout masks.
    """

    def __init__(self, num_inputs: int, options: DenseOptions, generator: torch.Generator) -> None:
        super().__init__()
        self.num_outputs = options.hidden_units
        self.dropout = Dropout(generator, rate=options.dropout)
        self.linear = linear(num_inputs, options.hidden_units, generator)

    def forward(self, frames: Tensor, num_frames: Sequence[int]) -> Tensor:
        """Compute the layer: (total_frames, num_inputs) → (total_frames, hidden_units)."""
        hidden: Tensor = self.linear(self.dropout(frames))
        return hidden.relu()


class Dense(Head):
    """Weighted average → dense layers → mean over frames → linear.

    The arguments are those of `Head`.

    Source: Pepino et al. 2021, section 2.3; dropout and initial weights as in the authors' released configuration.
    """

    spec = HeadSpec(options=DenseOptions)
    options: DenseOptions

    def build(self, frame_sizes: Sequence[int], num_outputs: int, generator: torch.Generator) -> None:
        self.branches = nn.ModuleList(DenseLayer(size, self.options, generator) for size in frame_sizes)
        size = len(frame_sizes) * self.options.hidden_units
        later: list[nn.Module] = []
        for _ in range(self.options.num_hidden - 1):
            layer = self.later_layer(size, generator)
            later.append(layer)
            size = layer.num_outputs
        # The second hidden layer has its own attribute, for compatibility with run folders of earlier releases.
        self.hidden = later[0] if later else None
        self.further = nn.ModuleList(later[1:])
        self.output = linear(size, num_outputs, generator)

    def later_layer(self, num_inputs: int, generator: torch.Generator) -> HiddenLayer:
        """Make a hidden layer after the first."""
        return DenseLayer(num_inputs, self.options, generator)

    def after_branches(self, frames: Tensor, num_frames: Sequence[int]) -> Tensor:
        """Apply the hidden layers after the first: (total_frames, num_inputs) → (total_frames, num_outputs)."""
        for layer in [] if self.hidden is None else [self.hidden, *self.further]:
            frames = layer(frames, num_frames)
        return frames

    @classmethod
    def hidden_sizes_of(
        cls, shapes: Mapping[str, tuple[int, ...]], num_stores: int, pooling: str | None
    ) -> list[int] | None:
        [values] = frame_sizes([1], pooling)
        return [shapes[f"branches.{i}.linear.weight"][1] // values for i in range(num_stores)]

    def pooled(self, features: Batch) -> Tensor:
        num_frames = frames_of(features[0])
        branches = [
            branch(average(utterances), num_frames)
            for average, branch, utterances in zip(self.averages, self.branches, features, strict=True)
        ]
        hidden = self.after_branches(torch.cat(branches, dim=1), num_frames)
        return mean_over_frames(hidden, num_frames)

    def classify(self, pooled: Tensor) -> Tensor:
        logits: Tensor = self.output(pooled)
        return logits.float()
