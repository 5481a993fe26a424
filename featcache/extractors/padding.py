"""Padded batch → the features of each utterance alone: keep padding, and half precision, out of statistics over time.

Statistics over time are computed in float32 whatever the model computes in. float16 has no sum of squares above 65504
and counts frames exactly up to 2048; bfloat16 keeps 8 bits of either.
"""

import copy
import threading
from typing import Any

import torch
from torch import Tensor, nn


class EnoughError(Exception):
    """Ends a forward pass whose remainder nobody wants."""


class Pass(threading.local):
    """What one forward pass leaves behind and needs to know; each thread has its own.

    Attributes:
        layers: Layer name → (batch, frames, hidden_size).
        mask: (batch, frames) bool, true for an utterance's own frames; None where nothing is padded.
        first_convolution_mask: The same, at the frame rate of the first convolution.
    """

    def __init__(self) -> None:
        self.layers: dict[str, Tensor] = {}
        self.mask: Tensor | None = None
        self.first_convolution_mask: Tensor | None = None

    def keep_input(self, name: str, enough: bool) -> Any:
        def hook(_module: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Tensor]) -> None:
            self.layers[name] = args[0] if args else kwargs["hidden_states"]
            if enough:
                raise EnoughError

        return hook

    def keep_output(self, name: str, enough: bool) -> Any:
        def hook(_module: nn.Module, _args: Any, output: Any) -> None:
            self.layers[name] = output if isinstance(output, Tensor) else output[0]
            if enough:
                raise EnoughError

        return hook

    def zero_padding(self, _module: nn.Module, _args: Any, output: Tensor) -> Tensor:
        return output if self.mask is None else output * self.mask[:, None]


class ValidGroupNorm(nn.Module):
    """GroupNorm with one group per channel whose mean and variance leave the padding out.

    Args:
        original: With float32 parameters.
        current: Where the mask of the batch is found.
    """

    def __init__(self, original: nn.GroupNorm, current: Pass) -> None:
        super().__init__()
        self._original = original
        self._current = current

    def forward(self, hidden_states: Tensor) -> Tensor:
        """Normalise (batch, channels, frames) of any dtype, with statistics in float32."""
        values = hidden_states.float()
        mask = self._current.first_convolution_mask
        normalised: Tensor = self._original(values) if mask is None else self._over_valid_frames(values, mask)
        return normalised.to(hidden_states.dtype)

    def _over_valid_frames(self, values: Tensor, mask: Tensor) -> Tensor:
        valid = mask[:, None].to(values.dtype)
        count = valid.sum(-1, keepdim=True)
        mean = (values * valid).sum(-1, keepdim=True) / count
        centred = values - mean
        variance = (centred.square() * valid).sum(-1, keepdim=True) / count
        scale = self._original.weight[:, None] * torch.rsqrt(variance + self._original.eps)
        return centred * scale + self._original.bias[:, None]


class InFloat32(nn.Module):
    """A module that computes in float32 between modules of another precision.

    Args:
        original: With float32 parameters and statistics.
    """

    def __init__(self, original: nn.Module) -> None:
        super().__init__()
        self._original = original

    def forward(self, hidden_states: Tensor) -> Tensor:
        """The original's output, in the dtype of the input."""
        output: Tensor = self._original(hidden_states.float())
        return output.to(hidden_states.dtype)


def keep_padding_out(module: Any, current: Pass, device: str, dtype: torch.dtype) -> None:
    """Move a waveform model to a device and a dtype, and make its features independent of the padding of a batch.

    Args:
        module: transformers' model, float32.
        current: What its passes know.
        device: As torch names it.
        dtype: What it computes in, statistics over time excepted.
    """
    first = module.feature_extractor.conv_layers[0]
    positions = module.encoder.pos_conv_embed
    # copied before they are rounded
    group_norm = copy.deepcopy(getattr(first, "layer_norm", None))
    batch_norm = copy.deepcopy(getattr(positions, "batch_norm", None))
    module.to(device, dtype)
    if isinstance(group_norm, nn.GroupNorm):
        first.layer_norm = ValidGroupNorm(group_norm.to(device), current)
    if batch_norm is not None:
        positions.batch_norm = InFloat32(batch_norm.to(device))
    for layer in (*getattr(positions, "layers", ()), getattr(positions, "batch_norm", None)):
        if layer is not None:
            layer.register_forward_hook(current.zero_padding)
