"""Dropout whose draws belong to one head, whatever else is trained beside it."""

import math

import torch
from torch import Tensor, nn

DROPOUT_RATE = 0.2
# The highest rate that the heads take: at 1 nothing would be left to learn from.
MOST_DROPPED = 0.99
# A mask is decided by 15 bits for each entry.
_STEPS = 2**15


class Dropout(nn.Module):
    """Inverted dropout whose masks come from a given generator, not from torch's global one as in ``nn.Dropout``.

    So heads of several seeds can take turns at the same data, each with the masks it would draw alone. Each call
    takes one number from the generator, which seeds the mask where the inputs are; the generator itself stays on
    the CPU, and with it everything else that is drawn. A rate of 0 draws nothing and changes nothing.

    Args:
        generator: Source of randomness, on the CPU: the one that ``Head.build`` is given.
        rate: What share is dropped, from 0 to below 1; the others are multiplied by 1 / (1 - rate).
        shared_axis: An axis along which all entries share one mask; None draws every entry alone.

    Example:
        >>> dropout = Dropout(torch.Generator().manual_seed(1), rate=0.5)
        >>> sorted(set(dropout(torch.ones(100)).tolist()))
        [0.0, 2.0]
    """

    def __init__(
        self, generator: torch.Generator, *, rate: float = DROPOUT_RATE, shared_axis: int | None = None
    ) -> None:
        super().__init__()
        if not 0 <= rate < 1:
            raise ValueError(f"dropout rate {rate}: expected from 0 to below 1")
        self.generator = generator
        self.rate = rate
        self.shared_axis = shared_axis
        # on the CPU even where a head is made without memory, because its bits are read
        scale = torch.tensor(1 / (1 - rate), dtype=torch.bfloat16, device="cpu")
        self._kept_below = round((1 - rate) * _STEPS)  # among the values of 15 bits, which are equally likely
        self._scale = int(scale.view(torch.int16))
        self._rest = 1 / (1 - rate) / float(scale)  # what bfloat16 rounds away of the scale; 1 for the usual rate

    def forward(self, inputs: Tensor) -> Tensor:
        """Drop entries in training mode; (any shape) → the same shape and dtype."""
        if not self.training or self._kept_below == _STEPS:
            return inputs
        shape = list(inputs.shape)
        if self.shared_axis is not None:
            shape[self.shared_axis] = 1
        seed = int(torch.randint(2**32, (), generator=self.generator))
        mask = _dropout_mask(math.prod(shape), seed, inputs.device, self._kept_below, self._scale)
        dropped = inputs * mask.view(shape).to(inputs.dtype).to(inputs.device)
        return dropped if self._rest == 1 else dropped * self._rest

    def extra_repr(self) -> str:
        """Return the rate, for ``print(head)``."""
        return f"rate={self.rate}"


def _dropout_mask(number: int, seed: int, device: torch.device, kept_below: int, scale: int) -> Tensor:
    """(number,) bfloat16, each 0 or the number whose bits are given.

    One draw of 64 bits decides on four entries, and integers become the bits of the mask in place: drawing takes
    longer than all else that dropout does.
    """
    # Apple's GPU does not draw numbers of 64 bits
    drawn_on = torch.device("cpu") if device.type == "mps" else device
    draws = torch.Generator(drawn_on).manual_seed(seed)
    bits = torch.empty(-(-number // 4), dtype=torch.int64, device=drawn_on).random_(-(2**63), None, generator=draws)
    masks = bits.view(torch.int16)[:number].bitwise_and_(_STEPS - 1)
    # negative where it is kept, and a shift spreads the sign over all bits
    return masks.sub_(kept_below).bitwise_right_shift_(15).bitwise_and_(scale).view(torch.bfloat16)
