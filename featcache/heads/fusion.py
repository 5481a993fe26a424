"""Layers of each frame of several stores → a dense layer each → one dense layer → mean over frames → logits."""

from featcache.heads.dense import Dense


class Fusion(Dense):
    """One weighted average and dense layer per feature store, concatenated frame by frame, then as `Dense`.

    Arguments as for `Head`; frame i of one store stands for the same moment as frame i of every other.

    Source: Pepino et al. 2021, section 2.3; dropout and initial weights as in the authors' released configuration.
    """
