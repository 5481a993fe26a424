"""Layers of each frame → weighted average → two hidden layers → mean over frames → logits.

Frames are held without padding, those of all utterances one after another: (total_frames, size). No padding can
enter a mean, and none is computed on.
"""

import math
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from featcache.heads.layer_weights import LayerWeights
from featcache.heads.packed import Packed

HIDDEN_UNITS = 128
DROPOUT_RATE = 0.2

_KEPT_BELOW = round((1 - DROPOUT_RATE) * 2**15)  # among the 2^15 values of 15 bits, which are equally likely
_SCALE = 0x3FA0  # the bits of 1.25, which is 1 / (1 - DROPOUT_RATE), in bfloat16


class Dropout(nn.Module):
    """Inverted dropout whose masks come from a given generator, not from torch's global one.

    So heads of several seeds can take turns at the same data, each with the masks it would draw alone. Each call
    takes one number from the generator, which seeds the mask where the inputs are; the generator itself stays on
    the CPU, and with it everything else that is drawn.

    Args:
        generator: Source of randomness, on the CPU.
        shared_axis: An axis along which all entries share one mask; None draws every entry alone.
    """

    def __init__(self, generator: torch.Generator, *, shared_axis: int | None = None) -> None:
        super().__init__()
        self.generator = generator
        self.shared_axis = shared_axis

    def forward(self, inputs: Tensor) -> Tensor:
        if not self.training:
            return inputs
        shape = list(inputs.shape)
        if self.shared_axis is not None:
            shape[self.shared_axis] = 1
        seed = int(torch.randint(2**32, (), generator=self.generator))
        return inputs * _dropout_mask(math.prod(shape), seed, inputs.device).view(shape).to(inputs.dtype)


def _dropout_mask(number: int, seed: int, device: torch.device) -> Tensor:
    """(number,) bfloat16, each 0 or 1.25.

    One draw of 64 bits decides on four entries, and integers become the bits of the mask in place: drawing takes
    longer than all else that dropout does.
    """
    draws = torch.Generator(device).manual_seed(seed)
    bits = torch.empty(-(-number // 4), dtype=torch.int64, device=device).random_(-(2**63), None, generator=draws)
    masks = bits.view(torch.int16)[:number].bitwise_and_(2**15 - 1)
    # negative where it is kept, and a shift spreads the sign over all bits
    return masks.sub_(_KEPT_BELOW).bitwise_right_shift_(15).bitwise_and_(_SCALE).view(torch.bfloat16)


def linear(num_inputs: int, num_outputs: int, generator: torch.Generator) -> nn.Linear:
    """A linear layer with Glorot-uniform weights and zero biases, as Keras starts it."""
    # made on the meta device first, because torch would draw initial weights from its global generator
    layer = nn.Linear(num_inputs, num_outputs, device="meta").to_empty(device="cpu")
    nn.init.xavier_uniform_(layer.weight, generator=generator)
    nn.init.zeros_(layer.bias)
    return layer


class DenseLayer(nn.Module):
    """Dropout → linear → ReLU, each frame by itself, so that it does not matter whose frames they are."""

    def __init__(self, num_inputs: int, generator: torch.Generator) -> None:
        super().__init__()
        self.dropout = Dropout(generator)
        self.linear = linear(num_inputs, HIDDEN_UNITS, generator)

    def forward(self, frames: Tensor, num_frames: Sequence[int]) -> Tensor:
        """(total_frames, num_inputs) → (total_frames, HIDDEN_UNITS)."""
        hidden: Tensor = self.linear(self.dropout(frames))
        return hidden.relu()


class Dense(nn.Module):
    """Weighted average → dense layer → dense layer → mean over valid frames → linear.

    Args:
        num_layers: For each feature store its number of layers.
        hidden_sizes: For each feature store its hidden size.
        num_outputs: Classes, or targets of a regression.
        layer_weighting: How layer weights are normalised, see `LayerWeights`.
        generator: Source of all initial weights and dropout masks, on the CPU.

    Source: Pepino et al. 2021, section 2.3; dropout and initial weights as in the authors' released configuration.
    """

    second_layer: type[nn.Module] = DenseLayer

    def __init__(
        self,
        num_layers: Sequence[int],
        hidden_sizes: Sequence[int],
        num_outputs: int,
        *,
        layer_weighting: str = "abs",
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        averages = nn.ModuleList(LayerWeights(number, layer_weighting) for number in num_layers)
        self.averages = cast(Sequence[LayerWeights], averages)
        self.branches = nn.ModuleList(DenseLayer(size, generator) for size in hidden_sizes)
        self.hidden = self.second_layer(len(hidden_sizes) * HIDDEN_UNITS, generator)
        self.output = linear(HIDDEN_UNITS, num_outputs, generator)

    def forward(self, features: Sequence[Sequence[Packed | Tensor]]) -> Tensor:
        """Logits of a batch of utterances.

        Args:
            features: For each feature store one (num_layers, num_frames, hidden_size) per utterance, normalised;
                num_frames is each utterance's own, from 1 on, and the same in all stores.

        Returns:
            (batch, num_outputs) float32.
        """
        num_frames = [item.num_frames if isinstance(item, Packed) else item.shape[1] for item in features[0]]
        branches = [
            branch(average(utterances), num_frames)
            for average, branch, utterances in zip(self.averages, self.branches, features, strict=True)
        ]
        hidden = self.hidden(torch.cat(branches, dim=1), num_frames)
        means = torch.stack([frames.mean(dim=0) for frames in torch.split(hidden.float(), num_frames)])
        logits: Tensor = self.output(means).float()
        return logits

    def layer_weights(self) -> list[Tensor | None]:
        """For each feature store its normalised weights (num_layers,), or None where it has a single layer."""
        return [average.weights().detach() if average.num_layers > 1 else None for average in self.averages]
