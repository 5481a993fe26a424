"""Layers of each frame of one or more stores → weighted averages → mean and maximum over frames → two linear layers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from featcache.heads.base import (
    MEAN_AND_MAX,
    MOST_UNITS,
    Batch,
    Head,
    frames_of,
    linear,
    mean_over_frames,
)
from featcache.heads.dropout import MOST_DROPPED, Dropout
from featcache.heads.spec import HeadSpec
from featcache.settings.field import setting


@dataclass(frozen=True, kw_only=True)
class FFNOptions:
    """Options of `FFN`."""

    hidden_units: int | None = setting(
        None, "Width of the hidden layer; by default, the largest hidden size.", minimum=1, maximum=MOST_UNITS
    )
    dropout: float = setting(0.1, "Dropout rate before each of the two layers.", minimum=0, maximum=MOST_DROPPED)


class FFN(Head):
    """Weighted average of each store → mean and maximum over frames, concatenated over stores → two linear layers.

    There is a hyperbolic tangent between the two layers, and dropout before each. The arguments are those of `Head`.
    Stores may have different frames. Pooled utterances are used unchanged: with ``mean+max`` of a single layer, the
    outputs equal those from all frames. With several layers, they would differ, because the maximum of an average is
    not the average of the maxima.

    Source: de Oliveira et al. 2023, sections 2 and 3.2. The paper does not say how mean and maximum are combined (here:
        concatenated, like the stores in the paper), nor how wide the hidden layer is. It says only that text adds
        inputs to it. Here, the hidden layer is as wide as the largest hidden size, with dropout before each layer, as
        in the head released by Wagner et al. 2022. Their head uses the mean only, like this head with ``mean`` pooling.
        Initial weights are drawn as for the other heads.
    """

    spec = HeadSpec(stores=(1, None), pooling=MEAN_AND_MAX, pairs_frames=False, options=FFNOptions)
    options: FFNOptions

    def build(self, frame_sizes: Sequence[int], num_outputs: int, generator: torch.Generator) -> None:
        largest = max(frame_sizes) // (2 if self.pooling == MEAN_AND_MAX else 1)
        hidden_units = self.options.hidden_units or largest
        self.dropout = Dropout(generator, rate=self.options.dropout)
        self.hidden = linear(sum(frame_sizes) * (1 if self.pooling else 2), hidden_units, generator)
        self.output = linear(hidden_units, num_outputs, generator)

    @classmethod
    def hidden_sizes_of(
        cls, shapes: Mapping[str, tuple[int, ...]], num_stores: int, pooling: str | None
    ) -> list[int] | None:
        # The hidden layer is as wide as the largest store, so the sizes of several stores cannot be inferred.
        return [shapes["hidden.weight"][0]] if num_stores == 1 else None

    def pooled(self, features: Batch) -> Tensor:
        pooled = []
        for average, utterances in zip(self.averages, features, strict=True):
            num_frames = frames_of(utterances)
            frames = average(utterances)
            pooled.append(mean_over_frames(frames, num_frames))
            if not self.pooling:
                pooled.append(_max_over_frames(frames, num_frames))
        return torch.cat(pooled, dim=1)

    def classify(self, pooled: Tensor) -> Tensor:
        hidden = self.hidden(self.dropout(pooled)).tanh()
        logits: Tensor = self.output(self.dropout(hidden))
        return logits.float()


def _max_over_frames(frames: Tensor, num_frames: Sequence[int]) -> Tensor:
    """Return the maximum over frames of each utterance: (total_frames, size) → (batch, size) float32."""
    return torch.stack([part.amax(dim=0) for part in torch.split(frames.float(), list(num_frames))])
