"""Padded batch → the same features as for each utterance alone.

Statistics over time exclude the padding and are always computed in float32, even if the model computes in half
precision. In float16, sums of squares overflow above 65504, and frames are counted exactly only up to 2048. In
bfloat16, both have only 8 bits.
"""

import copy
import threading
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

# WavLM itself uses two masks of different types. The filter is never removed, as catch_warnings is not safe in threads.
warnings.filterwarnings("ignore", "Support for mismatched key_padding_mask", UserWarning)


class EnoughError(Exception):
    """Signal that ends a forward pass as soon as all requested layers are computed."""


class Pass(threading.local):
    """Layers and masks of one forward pass, separately for each thread.

    Attributes:
        layers: Layer name → (batch, frames, hidden_size).
        mask: (batch, frames) bool, true for an utterance's own frames; None if nothing is padded.
        first_convolution_mask: The same mask at the frame rate of the first convolution.
    """

    def __init__(self) -> None:
        self.layers: dict[str, Tensor] = {}
        self.mask: Tensor | None = None
        self.first_convolution_mask: Tensor | None = None

    def keep_input(self, name: str, enough: bool) -> Any:
        """Return a hook that keeps the input of a module as a layer, and ends the forward pass if that is enough."""

        def hook(_module: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Tensor]) -> None:
            self.layers[name] = args[0] if args else kwargs["hidden_states"]
            if enough:
                raise EnoughError

        return hook

    def keep_output(self, name: str, enough: bool) -> Any:
        """Return a hook that keeps the output of a module as a layer, and ends the forward pass if that is enough."""

        def hook(_module: nn.Module, _args: Any, output: Any) -> None:
            self.layers[name] = output if isinstance(output, Tensor) else output[0]
            if enough:
                raise EnoughError

        return hook

    def zero_padding(self, _module: nn.Module, _args: Any, output: Tensor) -> Tensor:
        """Set the padding in the output of a module to zero; a forward hook."""
        return output if self.mask is None else output * self.mask[:, None]


class ValidGroupNorm(nn.Module):
    """GroupNorm with one group per channel, whose mean and variance exclude the padding.

    Args:
        original: Module with float32 parameters.
        current: Forward pass with the mask of the batch.
    """

    def __init__(self, original: nn.GroupNorm, current: Pass) -> None:
        super().__init__()
        self._original = original
        self._current = current

    def forward(self, hidden_states: Tensor) -> Tensor:
        """Normalise hidden states (batch, channels, frames) of any dtype, with float32 statistics."""
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
    """Module that computes in float32 between modules of another precision.

    Args:
        original: Module with float32 parameters and statistics.
    """

    def __init__(self, original: nn.Module) -> None:
        super().__init__()
        self._original = original

    def forward(self, hidden_states: Tensor) -> Tensor:
        """Return the output of the original module, in the dtype of the input."""
        output: Tensor = self._original(hidden_states.float())
        return output.to(hidden_states.dtype)


def valid_mask(lengths: Sequence[int]) -> Tensor:
    """Return a mask that is true for each utterance's own frames: (batch, frames) bool."""
    return torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]


def keep_padding_out(module: Any, current: Pass, device: str, dtype: torch.dtype) -> None:
    """Move a waveform model to a device and a dtype, and make its features independent of the padding of a batch.

    Args:
        module: Model of transformers, float32.
        current: Masks of the forward pass.
        device: Torch device.
        dtype: Dtype in which the model computes, except for statistics over time.
    """
    first = module.feature_extractor.conv_layers[0]
    positions = module.encoder.pos_conv_embed
    # The norms are copied before the model is converted, because the conversion rounds their parameters.
    group_norm = copy.deepcopy(getattr(first, "layer_norm", None))
    batch_norm = copy.deepcopy(getattr(positions, "batch_norm", None))
    module.to(device, dtype)
    if isinstance(group_norm, nn.GroupNorm):
        first.layer_norm = ValidGroupNorm(group_norm.to(device), current)
    if batch_norm is not None:
        positions.batch_norm = InFloat32(batch_norm.to(device))
    keep_padding_out_of_positions(positions, current.zero_padding)


def keep_padding_out_of_positions(positions: Any, zero_padding: Any) -> None:
    """Set the padding to zero wherever a positional convolution writes values into it.

    Args:
        positions: Positional convolution of a waveform model.
        zero_padding: Forward hook that sets the padding of a batch to zero.
    """
    for layer in (*getattr(positions, "layers", ()), getattr(positions, "batch_norm", None)):
        if layer is not None:
            layer.register_forward_hook(zero_padding)
