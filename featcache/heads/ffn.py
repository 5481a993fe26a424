"""Layers of each frame of any stores → weighted averages → mean and maximum over frames → linear → tanh → linear."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from featcache.heads.base import MEAN_AND_MAX, Batch, Head, frame_sizes, frames_of, linear, mean_over_frames
from featcache.heads.dropout import Dropout
from featcache.heads.spec import HeadSpec

DROPOUT_RATE = 0.1


class FFN(Head):
    """Each store's weighted average → its mean and maximum over valid frames, all of them concatenated → two layers.

    The two fully connected layers have a hyperbolic tangent between them and dropout before each. Arguments as for
    `Head`; stores need not have the same frames. Utterances that come pooled are taken as they are: with ``mean+max``
    of a single layer the outputs are those from all frames. With several layers they would not be, because the maximum
    of a mixture is no mixture of maxima.

    Source: de Oliveira et al. 2023, sections 2 and 3.2. The paper does not say how mean and maximum are joined (here
        concatenated, as its stores are) nor how wide the hidden layer is, but that text only adds inputs to it. Here it
        is as wide as the largest hidden size, and dropout stands before each layer, as in the head that Wagner et al.
        2022 released: that one sees the mean alone, which is this head with ``mean`` pooling. Initial weights are
        drawn as for the other heads.
    """

    spec = HeadSpec(stores=(1, None), pooling=MEAN_AND_MAX, pairs_frames=False)

    def _build(self, frame_sizes: Sequence[int], num_outputs: int, generator: torch.Generator) -> None:
        hidden_size = max(frame_sizes) // (2 if self.pooling == MEAN_AND_MAX else 1)
        self.dropout = Dropout(generator, rate=DROPOUT_RATE)
        self.hidden = linear(sum(frame_sizes) * (1 if self.pooling else 2), hidden_size, generator)
        self.output = linear(hidden_size, num_outputs, generator)

    @classmethod
    def first_shapes(cls, hidden_sizes: Sequence[int], pooling: str | None) -> dict[str, tuple[int, ...]]:
        pooled = sum(frame_sizes(hidden_sizes, pooling)) * (1 if pooling else 2)
        return {"hidden.weight": (max(hidden_sizes, default=0), pooled)}

    @classmethod
    def hidden_sizes_of(
        cls, shapes: Mapping[str, tuple[int, ...]], num_stores: int, pooling: str | None
    ) -> list[int] | None:
        # the hidden layer is as wide as the largest store, so of several stores the others are not known
        return [shapes["hidden.weight"][0]] if num_stores == 1 else None

    def forward(self, features: Batch) -> Tensor:
        pooled = []
        for average, utterances in zip(self.averages, features, strict=True):
            num_frames = frames_of(utterances)
            frames = average(utterances)
            pooled.append(mean_over_frames(frames, num_frames))
            if not self.pooling:
                pooled.append(_max_over_frames(frames, num_frames))
        hidden = self.hidden(self.dropout(torch.cat(pooled, dim=1))).tanh()
        logits: Tensor = self.output(self.dropout(hidden))
        return logits.float()


def _max_over_frames(frames: Tensor, num_frames: Sequence[int]) -> Tensor:
    """(total_frames, size) → (batch, size) float32."""
    return torch.stack([part.amax(dim=0) for part in torch.split(frames.float(), list(num_frames))])
