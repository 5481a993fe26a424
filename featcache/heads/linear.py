"""Layers of each frame → weighted average → mean over frames → linear → linear → logits, without non-linearity."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from featcache.heads.base import MOST_UNITS, Batch, Head, frame_sizes, frames_of, linear, mean_over_frames
from featcache.heads.spec import POOLED, HeadSpec
from featcache.settings.field import setting


@dataclass(frozen=True, kw_only=True)
class LinearOptions:
    """Options of `Linear`."""

    projection: int = setting(256, "Number of dimensions of the projection.", minimum=1, maximum=MOST_UNITS)


class Linear(Head):
    """Emotion classifier of SUPERB: a projection to 256 dimensions, the mean over frames, and a linear layer.

    All operations are linear, so the mean can be computed first: training on mean-pooled features (a single frame per
    utterance) is equivalent to training on all frames. The arguments are those of `Head`.

    Source: Yang et al. 2021, SUPERB, and s3prl's downstream ``emotion``.
    """

    spec = HeadSpec(inputs=POOLED, options=LinearOptions)
    options: LinearOptions

    def build(self, frame_sizes: Sequence[int], num_outputs: int, generator: torch.Generator) -> None:
        self.projection = linear(frame_sizes[0], self.options.projection, generator)
        self.output = linear(self.options.projection, num_outputs, generator)

    @classmethod
    def hidden_sizes_of(
        cls, shapes: Mapping[str, tuple[int, ...]], num_stores: int, pooling: str | None
    ) -> list[int] | None:
        [values] = frame_sizes([1], pooling)
        return [shapes["projection.weight"][1] // values]

    def pooled(self, features: Batch) -> Tensor:
        return mean_over_frames(self.averages[0](features[0]), frames_of(features[0]))

    def classify(self, pooled: Tensor) -> Tensor:
        logits: Tensor = self.output(self.projection(pooled))
        return logits.float()
