"""Stored layer 0 → the same with some spans of frames replaced by a learned vector, as transformers trains."""

import numpy as np
import torch
from torch import Tensor, nn


class TimeMask(nn.Module):
    """Masking of spans of frames in training mode (SpecAugment over time).

    Args:
        embedding: (hidden_size,) vector that replaces masked frames; it is trained.
        probability: Share of frames that are masked, without overlaps of the spans.
        length: Length of a span, in frames.
        min_masks: Smallest number of spans per utterance.

    Source: Baevski et al. 2020, wav2vec 2.0; Park et al. 2019, SpecAugment.
    """

    def __init__(self, embedding: nn.Parameter, *, probability: float, length: int, min_masks: int) -> None:
        super().__init__()
        self.embedding = embedding
        self._options = {"mask_prob": probability, "mask_length": length, "min_masks": min_masks}

    def forward(self, states: Tensor, mask: Tensor | None) -> Tensor:
        """Return hidden states (batch, frames, hidden_size) with masked frames.

        Args:
            states: (batch, frames, hidden_size).
            mask: (batch, frames) bool, true for an utterance's own frames; None if nothing is padded.
        """
        if not self.training:
            return states
        chosen = self._spans(tuple(states.shape[:2]), mask).to(states.device)
        return torch.where(chosen[..., None], self.embedding.to(states.dtype), states)

    def _spans(self, shape: tuple[int, ...], mask: Tensor | None) -> Tensor:
        """Return which frames are masked, (batch, frames) bool."""
        from transformers.models.wav2vec2.modeling_wav2vec2 import _compute_mask_indices

        if shape[1] < self._options["mask_length"]:  # transformers refuses it.
            return torch.zeros(shape, dtype=torch.bool)
        attention_mask = None if mask is None else mask.long().cpu()
        # transformers draws from numpy's global generator; torch's generator alone must decide.
        before = np.random.get_state()
        np.random.seed(int(torch.randint(2**32, ()).item()))
        try:
            chosen = _compute_mask_indices(shape, attention_mask=attention_mask, **self._options)
        finally:
            np.random.set_state(before)
        return torch.from_numpy(chosen)
