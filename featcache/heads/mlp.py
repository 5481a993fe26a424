"""Layers of pooled utterances of one or more stores → weighted averages → dense layers → logits."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from featcache.heads.base import MOST_HIDDEN, MOST_UNITS, Batch, Head, frames_of, linear, mean_over_frames
from featcache.heads.dense import DenseLayer, DenseOptions
from featcache.heads.dropout import DROPOUT_RATE, MOST_DROPPED
from featcache.heads.spec import POOLED, HeadSpec
from featcache.settings.field import setting


@dataclass(frozen=True, kw_only=True)
class MLPOptions:
    """Options of `MLP`."""

    hidden_units: int = setting(128, "Width of each hidden layer.", minimum=1, maximum=MOST_UNITS)
    dropout: float = setting(DROPOUT_RATE, "Dropout rate before each hidden layer.", minimum=0, maximum=MOST_DROPPED)
    num_hidden: int = setting(2, "Number of hidden layers.", minimum=1, maximum=MOST_HIDDEN)


class MLP(Head):
    """Multilayer perceptron on pooled utterances: dropout, a linear layer and ReLU for each hidden layer, then linear.

    Each store has its own layer weights, and the averages of all stores are concatenated. Utterances that are not
    pooled are averaged over their frames first. The arguments are those of `Head`.
    """

    spec = HeadSpec(stores=(1, None), inputs=POOLED, pairs_frames=False, options=MLPOptions)
    options: MLPOptions

    def build(self, frame_sizes: Sequence[int], num_outputs: int, generator: torch.Generator) -> None:
        units = self.options.hidden_units
        dense = DenseOptions(hidden_units=units, dropout=self.options.dropout)
        sizes = [sum(frame_sizes), *[units] * (self.options.num_hidden - 1)]
        self.layers = nn.ModuleList(DenseLayer(size, dense, generator) for size in sizes)
        self.output = linear(units, num_outputs, generator)

    def pooled(self, features: Batch) -> Tensor:
        vectors = [
            mean_over_frames(average(utterances), frames_of(utterances))
            for average, utterances in zip(self.averages, features, strict=True)
        ]
        return torch.cat(vectors, dim=1)

    def classify(self, pooled: Tensor) -> Tensor:
        for layer in self.layers:
            pooled = layer(pooled, [1] * len(pooled))
        logits: Tensor = self.output(pooled)
        return logits.float()
