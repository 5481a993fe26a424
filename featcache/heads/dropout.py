"""Dropout with a separate random generator for each head."""

import math

import torch
from torch import Tensor, nn

DROPOUT_RATE = 0.2
# Highest dropout rate of the built-in heads; a rate of 1 would drop everything.
MOST_DROPPED = 0.99
# 15 random bits decide whether an entry is dropped.
_STEPS = 2**15


class Dropout(nn.Module):
    """Inverted dropout that draws masks from a given generator, not from torch's global one like ``nn.Dropout``.

    Therefore, heads with different seeds can be trained alternately on the same batches, and each draws the same masks
    as if trained alone. Each call draws one number from the generator, which stays on the CPU; this number seeds the
    mask on the device of the inputs. A rate of 0 draws nothing and returns the inputs.

    Args:
        generator: Source of randomness, on the CPU: the argument ``generator`` of ``Head.build``.
        rate: Share of entries that are dropped, at least 0 and below 1; the others are multiplied by 1 / (1 - rate).
        shared_axis: Axis along which all entries share one mask; None draws each entry separately.

    Raises:
        ValueError: the rate is out of range.

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
            raise ValueError(f"dropout rate {rate}: expected at least 0 and below 1")
        self.generator = generator
        self.rate = rate
        self.shared_axis = shared_axis
        # Always on the CPU, because its bits are read, and a head on the device ``meta`` has no values.
        scale = torch.tensor(1 / (1 - rate), dtype=torch.bfloat16, device="cpu")
        self._kept_below = round((1 - rate) * _STEPS)  # entries with a random number below this are kept
        self._scale = int(scale.view(torch.int16))
        self._rest = 1 / (1 - rate) / float(scale)  # corrects the rounding of the scale to bfloat16; 1 for rate 0.2

    def forward(self, inputs: Tensor) -> Tensor:
        """Drop entries in training mode; the outputs have the shape and dtype of the inputs."""
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
    """Return a dropout mask, (number,) bfloat16, with entries that are 0 or have the bits ``scale``.

    For speed, one draw of 64 bits decides on four entries, and the integers are converted to the mask in place: drawing
    takes most of the time of dropout.
    """
    # Apple's GPU cannot draw 64-bit numbers.
    drawn_on = torch.device("cpu") if device.type == "mps" else device
    draws = torch.Generator(drawn_on).manual_seed(seed)
    bits = torch.empty(-(-number // 4), dtype=torch.int64, device=drawn_on).random_(-(2**63), None, generator=draws)
    masks = bits.view(torch.int16)[:number].bitwise_and_(_STEPS - 1)
    # The difference is negative for kept entries, and the shift copies the sign to all bits.
    return masks.sub_(kept_below).bitwise_right_shift_(15).bitwise_and_(scale).view(torch.bfloat16)
