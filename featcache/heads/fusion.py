"""Layers of each frame of several stores → a dense layer per store → dense layers → mean over frames → logits."""

import torch
from torch import Tensor

from featcache.heads.base import Batch, frames_of, mean_over_frames
from featcache.heads.dense import Dense, DenseOptions
from featcache.heads.spec import HeadSpec


class PooledFusion(Dense):
    """`Fusion` of stores whose frames are not aligned: different frame shifts, tokens, or one vector per utterance.

    The mean over the frames of each store is computed before the concatenation, not after the last dense layer. The
    layers, their sizes and their initial weights are the same as in `Fusion`.
    """

    def pooled(self, features: Batch) -> Tensor:
        branches = []
        for average, branch, utterances in zip(self.averages, self.branches, features, strict=True):
            num_frames = frames_of(utterances)
            branches.append(mean_over_frames(branch(average(utterances), num_frames), num_frames))
        return torch.cat(branches, dim=1)

    def classify(self, pooled: Tensor) -> Tensor:
        return super().classify(self.after_branches(pooled, [1] * len(pooled)))


class Fusion(Dense):
    """Weighted average and dense layer per feature store → concatenation of frames → further layers as in `Dense`.

    The arguments are those of `Head`. The frames of all stores must be aligned: frame i covers the same time in each.

    Source: Pepino et al. 2021, section 2.3; dropout and initial weights as in the authors' released configuration.
    """

    spec = HeadSpec(stores=(2, None), beside=("egemaps",), options=DenseOptions)
    unpaired = PooledFusion
