"""A head with an option: attention over frames (Mirsamadi et al. 2017)."""

from dataclasses import dataclass

import torch
from torch import nn

from featcache.heads import Head, HeadSpec
from featcache.settings.field import setting


@dataclass(frozen=True, kw_only=True)
class AttentiveOptions:
    """Options of the head."""

    width: int = setting(4, "Number of hidden units.", minimum=1, maximum=64)


class Attentive(Head):
    """Head: weighted average of layers → attention over frames → hidden layer → logits."""

    spec = HeadSpec(stores=(1, 1), inputs="frames", batch_size=8, learns_layers=True, options=AttentiveOptions)

    def build(self, frame_sizes, num_outputs, generator):
        self.score = nn.Linear(frame_sizes[0], 1)
        self.hidden = nn.Linear(frame_sizes[0], self.options.width)
        self.output = nn.Linear(self.options.width, num_outputs)

    def forward(self, features):
        [utterances] = self.averaged(features)
        pooled = [self.score(frames).softmax(dim=0).T @ frames for frames in utterances]
        return self.output(self.hidden(torch.cat(pooled)).relu()).float()
