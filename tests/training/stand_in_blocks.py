"""A stand-in for the upper blocks of a model: one linear layer and the dropout of torch."""

import torch
from torch import nn


class StandInBlocks(nn.Module):
    """Linear layer, hyperbolic tangent and dropout, whose input and output have the same size."""

    fixed_frames = None

    def __init__(self, size, *, rate=0.0, seed=0):
        super().__init__()
        self.linear = nn.Linear(size, size, device="meta").to_empty(device="cpu")
        generator = torch.Generator().manual_seed(seed)
        for values in self.linear.parameters():
            nn.init.normal_(values, std=0.5, generator=generator)
        self.dropout = nn.Dropout(rate)

    def tuned_parameters(self):
        return list(self.parameters())

    def forward(self, utterances):
        return [self.dropout(self.linear(frames).tanh())[None] for frames in utterances]
