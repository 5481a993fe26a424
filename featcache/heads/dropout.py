"""Dropout whose draws belong to one head, whatever else is trained beside it."""

import math

import torch
from torch import Tensor, nn

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
