"""Layers of each utterance → their weighted average."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from featcache.errors import ModelError, unknown_name
from featcache.heads.packed import Packed

LAYER_WEIGHTINGS = ("abs", "softmax")

# Avoids 0 / 0 if all scalars are 0, where all weights become equal; float32 scalars above 2e-5 are not changed by it.
_TINY = 1e-12


class LayerWeights(nn.Module):
    """Weighted average of layers with one learned scalar a per layer, shared by all frames and dimensions.

    With a single layer, there is no parameter, and the layer is returned unchanged.

    Args:
        num_layers: Number of layers, at least 1.
        kind: ``abs`` (w = |a| / Σ|a|, initial a = 1) or ``softmax`` (initial a = 0).

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
        """Return the normalised weights, (num_layers,), with sum 1; gradients flow through them."""
        if self.kind == "softmax":
            return self.scalars.softmax(dim=0)
        magnitudes = self.scalars.abs() + _TINY
        return magnitudes / magnitudes.sum()

    def forward(self, utterances: Sequence[Packed | Tensor]) -> Tensor:
        """Average the layers of each utterance.

        Args:
            utterances: Features of each utterance, (num_layers, num_frames, hidden_size); num_frames may differ.

        Returns:
            (total_frames, hidden_size), the utterances concatenated, in float32 or the dtype of autocast.
        """
        tensors = [item for item in utterances if isinstance(item, Tensor) and item.requires_grad]
        if tensors:  # of a model that is trained, too
            layers = torch.cat(tensors, dim=1)
            return layers[0] if self.num_layers == 1 else torch.tensordot(self.weights(), layers.float(), dims=1)
        packed = [item if isinstance(item, Packed) else Packed(values=item) for item in utterances]
        dtype = _compute_dtype(packed[0].values.device.type)
        averages: Tensor = _Average.apply(self.weights(), packed, dtype)  # type: ignore[no-untyped-call]
        return averages


class _Average(torch.autograd.Function):
    """Matrix-vector products over packed utterances, which are unpacked one at a time, forward and backward.

    A single utterance fits into the caches of the CPU, so its bytes are read from memory only once per direction, and
    its unpacked values are never written to memory. A GPU processes all utterances at once, because each call has the
    same overhead.
    """

    @staticmethod
    def forward(ctx: Any, weights: Tensor, utterances: list[Packed], dtype: torch.dtype) -> Tensor:
        ctx.utterances = utterances
        num_frames = sum(utterance.num_frames for utterance in utterances)
        averages = weights.new_empty(num_frames, utterances[0].values.shape[2], dtype=dtype)
        for stretch, layers, of_it in _unpacked(utterances):
            averages[stretch] = torch.mv(layers.flatten(1).t(), weights).view(layers.shape[1:])
            for utterance, frames in _split(averages[stretch], of_it):
                utterance.change.apply_(frames)
        return averages

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = gradients
        of_weights = torch.zeros(ctx.utterances[0].values.shape[0], device=gradient.device)
        for stretch, layers, of_it in _unpacked(ctx.utterances):
            part = gradient[stretch]
            if any(utterance.change.masks for utterance in of_it):
                part = part.clone()  # other functions may still need the gradient
                for utterance, frames in _split(part, of_it):
                    utterance.change.mask_(frames)
            of_weights.addmv_(layers.flatten(1), part.flatten().float())
        return of_weights, None, None


def _split(frames: Tensor, utterances: Sequence[Packed]) -> Any:
    """Return pairs of an utterance and a view of its frames."""
    return zip(utterances, torch.split(frames, [utterance.num_frames for utterance in utterances]), strict=True)


def _unpacked(utterances: list[Packed]) -> Any:
    """Yield slices of the frames of a batch, the unpacked layers of these frames, and their utterances."""
    if utterances[0].values.device.type != "cpu":
        layers = torch.cat(
            [utterance.unpack() if utterance.step is not None else utterance.values for utterance in utterances], dim=1
        )
        yield slice(None), layers.float(), utterances
        return
    first = 0
    for utterance in utterances:
        last = first + utterance.num_frames
        yield slice(first, last), utterance.unpack(), [utterance]
        first = last


def _compute_dtype(device: str) -> torch.dtype:
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else torch.float32
