"""Features of one utterance in few bytes, and as float32 for the moment in which they are computed with."""

import threading
from dataclasses import dataclass

import torch
from torch import Tensor

from featcache.cache.quantise import STEPS


@dataclass(frozen=True, kw_only=True)
class Packed:
    """One utterance as a working copy holds it.

    Attributes:
        values: (num_layers, num_frames, hidden_size) float32, float16, bfloat16 or int8.
        step: (num_layers, 1, hidden_size) float32, what one of the 8-bit numbers counts; None for the others.
    """

    values: Tensor
    step: Tensor | None = None

    @property
    def num_frames(self) -> int:
        return int(self.values.shape[1])

    @property
    def fits(self) -> bool:
        """Whether no finite value became infinite: float16 ends at 65504, the other dtypes where float32 does."""
        return self.values.dtype != torch.float16 or bool(self.values.sum(dtype=torch.float32).isfinite())

    def layers(self, chosen: slice) -> "Packed":
        """Some of the layers, without a copy."""
        return Packed(values=self.values[chosen], step=None if self.step is None else self.step[chosen])

    def to(self, device: str) -> "Packed":
        """The same on a device."""
        return Packed(values=self.values.to(device), step=None if self.step is None else self.step.to(device))

    def unpack(self) -> Tensor:
        """(num_layers, num_frames, hidden_size) float32, which this thread's next call overwrites."""
        if self.values.dtype == torch.float32:
            return self.values
        unpacked = _scratch.room_for(self.values).copy_(self.values)
        return unpacked if self.step is None else unpacked.mul_(self.step)

    def copy(self) -> Tensor:
        """(num_layers, num_frames, hidden_size) float32 of its own."""
        return self.unpack().clone()


def pack(features: Tensor, dtype: torch.dtype) -> Packed:
    """Round (num_layers, num_frames, hidden_size) float32 features to a dtype.

    int8 counts in steps of their own for every layer and dimension, of which the largest value is 127.
    """
    if dtype != torch.int8:
        return Packed(values=features.to(dtype))
    step = features.abs().amax(dim=1, keepdim=True) / STEPS
    # below its normal numbers float32 has too few digits left for a step
    step = step.where(step >= torch.finfo(torch.float32).tiny, 0)
    in_steps = (features / step.where(step > 0, 1)).round_()
    return Packed(values=in_steps.to(torch.int8), step=step)


def packed_bytes(dtype: torch.dtype, num_values: int, num_steps: int) -> int:
    """What so many numbers take as a dtype; those of 8 bits have their steps beside them, in float32."""
    return num_values * dtype.itemsize + (num_steps * torch.float32.itemsize if dtype == torch.int8 else 0)


class _Scratch(threading.local):
    """Room for an unpacked utterance, kept from one to the next: finding new memory would take as long as unpacking."""

    def __init__(self) -> None:
        self._room: dict[torch.device, Tensor] = {}

    def room_for(self, values: Tensor) -> Tensor:
        room = self._room.get(values.device)
        if room is None or room.numel() < values.numel():
            room = self._room[values.device] = torch.empty(values.numel(), device=values.device)
        return room[: values.numel()].view(values.shape)


_scratch = _Scratch()
