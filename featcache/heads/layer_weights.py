"""Layers of each utterance → their weighted average."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from featcache.errors import ModelError, unknown_name

LAYER_WEIGHTINGS = ("abs", "softmax")

# Makes the weights of all-zero scalars equal instead of 0 / 0; float32 scalars above 2e-5 are left exactly as they are.
_TINY = 1e-12


class LayerWeights(nn.Module):
    """Averages the layers with one learned scalar a per layer, shared by all frames and dimensions.

    A single layer needs no weight: there is then no parameter, and the layer passes unchanged.

    Args:
        num_layers: Number of layers, from 1 on.
        kind: ``abs``, w = |a| / Σ|a| with a starting at 1, or ``softmax`` with a starting at 0.

    Raises:
        ModelError: the kind is unknown.

    Source: abs: Pepino et al. 2021, eq. 1, with magnitudes as in the authors' released configuration; softmax:
        Yang et al. 2021 (SUPERB).
    """

    def __init__(self, num_layers: int, kind: str = "abs") -> None:
        super().__init__()
        if kind not in LAYER_WEIGHTINGS:
            raise ModelError(unknown_name("layer weighting", kind, LAYER_WEIGHTINGS))
        self.num_layers = num_layers
        self.kind = kind
        start = torch.ones(num_layers) if kind == "abs" else torch.zeros(num_layers)
        self.scalars: Tensor
        if num_layers > 1:
            self.scalars = nn.Parameter(start)
        else:
            self.register_buffer("scalars", start, persistent=False)

    def weights(self) -> Tensor:
        """The normalised weights, (num_layers,), summing to 1; they carry gradients."""
        if self.kind == "softmax":
            return self.scalars.softmax(dim=0)
        magnitudes = self.scalars.abs() + _TINY
        return magnitudes / magnitudes.sum()

    def forward(self, utterances: Iterable[Tensor]) -> list[Tensor]:
        """Average each utterance's layers.

        One matrix product per utterance reads every frame once.

        Args:
            utterances: Each (num_layers, num_frames, hidden_size), num_frames its own.

        Returns:
            For each utterance (num_frames, hidden_size).
        """
        weights = self.weights()
        return [torch.mv(layers.flatten(1).t(), weights).view(layers.shape[1:]) for layers in utterances]
