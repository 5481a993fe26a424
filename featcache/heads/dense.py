"""Layers of each frame → weighted average → two hidden layers → mean over frames → logits."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from featcache.heads.base import Batch, Head, frame_sizes, frames_of, linear, mean_over_frames
from featcache.heads.dropout import Dropout

HIDDEN_UNITS = 128


class DenseLayer(nn.Module):
    """Dropout → linear → ReLU, each frame by itself, so that it does not matter whose frames they are."""

    def __init__(self, num_inputs: int, generator: torch.Generator) -> None:
        super().__init__()
        self.dropout = Dropout(generator)
        self.linear = linear(num_inputs, HIDDEN_UNITS, generator)

    def forward(self, frames: Tensor, num_frames: Sequence[int]) -> Tensor:
        """(total_frames, num_inputs) → (total_frames, HIDDEN_UNITS)."""
        hidden: Tensor = self.linear(self.dropout(frames))
        return hidden.relu()


class Dense(Head):
    """Weighted average → dense layer → dense layer → mean over valid frames → linear; arguments as for `Head`.

    Source: Pepino et al. 2021, section 2.3; dropout and initial weights as in the authors' released configuration.
    """

    second_layer: type[nn.Module] = DenseLayer

    def _build(self, frame_sizes: Sequence[int], num_outputs: int, generator: torch.Generator) -> None:
        self.branches = nn.ModuleList(DenseLayer(size, generator) for size in frame_sizes)
        self.hidden = self.second_layer(len(frame_sizes) * HIDDEN_UNITS, generator)
        self.output = linear(HIDDEN_UNITS, num_outputs, generator)

    @classmethod
    def first_shapes(cls, hidden_sizes: Sequence[int], pooling: str | None) -> dict[str, tuple[int, ...]]:
        sizes = frame_sizes(hidden_sizes, pooling)
        return {f"branches.{i}.linear.weight": (HIDDEN_UNITS, size) for i, size in enumerate(sizes)}

    @classmethod
    def hidden_sizes_of(
        cls, shapes: Mapping[str, tuple[int, ...]], num_stores: int, pooling: str | None
    ) -> list[int] | None:
        [values] = frame_sizes([1], pooling)
        return [shapes[f"branches.{i}.linear.weight"][1] // values for i in range(num_stores)]

    def forward(self, features: Batch) -> Tensor:
        num_frames = frames_of(features[0])
        branches = [
            branch(average(utterances), num_frames)
            for average, branch, utterances in zip(self.averages, self.branches, features, strict=True)
        ]
        hidden = self.hidden(torch.cat(branches, dim=1), num_frames)
        logits: Tensor = self.output(mean_over_frames(hidden, num_frames))
        return logits.float()
