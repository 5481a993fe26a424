"""Layers of each utterance → their weighted average."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from featcache.errors import ModelError, unknown_name
from featcache.heads.packed import Packed

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

    def forward(self, utterances: Sequence[Packed | Tensor]) -> Tensor:
        """Average each utterance's layers.

        Args:
            utterances: Each (num_layers, num_frames, hidden_size), num_frames its own.

        Returns:
            (total_frames, hidden_size), the utterances one after another, float32 or what autocast computes in.
        """
        packed = [item if isinstance(item, Packed) else Packed(values=item) for item in utterances]
        dtype = _compute_dtype(packed[0].values.device.type)
        averages: Tensor = _Average.apply(self.weights(), packed, dtype)  # type: ignore[no-untyped-call]
        return averages


class _Average(torch.autograd.Function):
    """Matrix-vector products over packed utterances, which are unpacked one at a time in each direction.

    Utterances stay small enough for the processor's caches, so that their bytes are read once in each direction, and
    what they unpack to is never written to memory. A GPU takes them all at once, because each call costs it as much.
    """

    @staticmethod
    def forward(ctx: Any, weights: Tensor, utterances: list[Packed], dtype: torch.dtype) -> Tensor:
        ctx.utterances = utterances
        num_frames = sum(utterance.num_frames for utterance in utterances)
        averages = weights.new_empty(num_frames, utterances[0].values.shape[2], dtype=dtype)
        for stretch, layers in _unpacked(utterances):
            averages[stretch] = torch.mv(layers.flatten(1).t(), weights).view(layers.shape[1:])
        return averages

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = gradients
        of_weights = torch.zeros(ctx.utterances[0].values.shape[0], device=gradient.device)
        for stretch, layers in _unpacked(ctx.utterances):
            of_weights.addmv_(layers.flatten(1), gradient[stretch].flatten().float())
        return of_weights, None, None


def _unpacked(utterances: list[Packed]) -> Any:
    """Which frames of a batch come next, and their layers."""
    if utterances[0].values.device.type != "cpu":
        layers = torch.cat(
            [utterance.unpack() if utterance.step is not None else utterance.values for utterance in utterances], dim=1
        )
        yield slice(None), layers.float()
        return
    first = 0
    for utterance in utterances:
        last = first + utterance.num_frames
        yield slice(first, last), utterance.unpack()
        first = last


def _compute_dtype(device: str) -> torch.dtype:
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else torch.float32
