"""Dropout whose draws belong to one head, whatever else is trained beside it."""

import math

import torch
from torch import Tensor, nn

DROPOUT_RATE = 0.2


class Dropout(nn.Module):
    """Inverted dropout whose masks come from a given generator, not from torch's global one.

    So heads of several seeds can take turns at the same data, each with the masks it would draw alone. Each call
    takes one number from the generator, which seeds the mask where the inputs are; the generator itself stays on
    the CPU, and with it everything else that is drawn.

    Args:
        generator: Source of randomness, on the CPU.
        rate: What share is dropped.
        shared_axis: An axis along which all entries share one mask; None draws every entry alone.
    """

    def __init__(
        self, generator: torch.Generator, *, rate: float = DROPOUT_RATE, shared_axis: int | None = None
    ) -> None:
        super().__init__()
        self.generator = generator
        self.shared_axis = shared_axis
        scale = torch.tensor(1 / (1 - rate), dtype=torch.bfloat16)
        self._kept_below = round((1 - rate) * 2**15)  # among the 2^15 values of 15 bits, which are equally likely
        self._scale = int(scale.view(torch.int16))
        self._rest = 1 / (1 - rate) / float(scale)  # what bfloat16 rounds away of the scale; 1 for the usual rate

    def forward(self, inputs: Tensor) -> Tensor:
        if not self.training:
            return inputs
        shape = list(inputs.shape)
        if self.shared_axis is not None:
            shape[self.shared_axis] = 1
        seed = int(torch.randint(2**32, (), generator=self.generator))
        mask = _dropout_mask(math.prod(shape), seed, inputs.device, self._kept_below, self._scale)
        dropped = inputs * mask.view(shape).to(inputs.dtype).to(inputs.device)
        return dropped if self._rest == 1 else dropped * self._rest


def _dropout_mask(number: int, seed: int, device: torch.device, kept_below: int, scale: int) -> Tensor:
    """(number,) bfloat16, each 0 or the number whose bits are given.

    One draw of 64 bits decides on four entries, and integers become the bits of the mask in place: drawing takes
    longer than all else that dropout does.
    """
    # Apple's GPU does not draw numbers of 64 bits
    drawn_on = torch.device("cpu") if device.type == "mps" else device
    draws = torch.Generator(drawn_on).manual_seed(seed)
    bits = torch.empty(-(-number // 4), dtype=torch.int64, device=drawn_on).random_(-(2**63), None, generator=draws)
    masks = bits.view(torch.int16)[:number].bitwise_and_(2**15 - 1)
    # negative where it is kept, and a shift spreads the sign over all bits
    return masks.sub_(kept_below).bitwise_right_shift_(15).bitwise_and_(scale).view(torch.bfloat16)
