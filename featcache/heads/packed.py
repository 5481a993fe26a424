"""Features of one utterance in a compact dtype, unpacked to float32 only during computation."""

import threading
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from featcache.cache.quantise import STEPS


@dataclass(frozen=True, kw_only=True)
class Change:
    """Random change of the unpacked features of an utterance in training, the same for all layers.

    A change of the weighted average of the layers has the same effect, because the weights sum to 1. It costs less.

    Attributes:
        frames: Masked frames, which become 0.
        dims: Masked dimensions, which become 0.
        noise: (num_frames, hidden_size) float32 standard normal noise, which is added before masking; None for none.
        noise_std: Standard deviation by which the noise is multiplied.
    """

    frames: tuple[slice, ...] = ()
    dims: tuple[slice, ...] = ()
    noise: Tensor | None = None
    noise_std: float = 0.0

    @property
    def masks(self) -> bool:
        """Whether anything is masked."""
        return bool(self.frames or self.dims)

    def apply_(self, features: Tensor) -> Tensor:
        """Change features in place: (…, num_frames, hidden_size)."""
        if self.noise is not None:
            features.add_(self.noise, alpha=self.noise_std)
        return self.mask_(features)

    def mask_(self, features: Tensor) -> Tensor:
        """Set masked values to 0, in place: (…, num_frames, hidden_size)."""
        for frames in self.frames:
            features[..., frames, :] = 0
        for dims in self.dims:
            features[..., dims] = 0
        return features


NO_CHANGE = Change()


@dataclass(frozen=True, kw_only=True)
class Packed:
    """In-memory features of one utterance.

    Attributes:
        values: (num_layers, num_frames, hidden_size) float32, float16, bfloat16 or int8.
        step: Quantisation scale of int8 values, (num_layers, 1, hidden_size) float32; None for other dtypes.
        change: Random change in training, which :meth:`copy` and the weighted average of the layers apply.
        real_frames: Number of frames before those of the padding, which only the blocks of a model use; None if there
            is no padding.
    """

    values: Tensor
    step: Tensor | None = None
    change: Change = NO_CHANGE
    real_frames: int | None = None

    @property
    def num_frames(self) -> int:
        """Number of frames, padding included."""
        return int(self.values.shape[1])

    @property
    def fits(self) -> bool:
        """Whether all values are finite: float16 overflows above 65504, the other dtypes have the range of float32."""
        return self.values.dtype != torch.float16 or bool(self.values.sum(dtype=torch.float32).isfinite())

    def layers(self, chosen: slice) -> "Packed":
        """Return some of the layers as a view."""
        return replace(self, values=self.values[chosen], step=None if self.step is None else self.step[chosen])

    def to(self, device: str) -> "Packed":
        """Return the features on a device."""
        step = None if self.step is None else self.step.to(device)
        return Packed(values=self.values.to(device), step=step, real_frames=self.real_frames)

    def unpack(self) -> Tensor:
        """Return (num_layers, num_frames, hidden_size) float32 without change; the thread's next call overwrites it."""
        if self.values.dtype == torch.float32:
            return self.values
        unpacked = _scratch.room_for(self.values).copy_(self.values)
        return unpacked if self.step is None else unpacked.mul_(self.step)

    def copy(self) -> Tensor:
        """Return (num_layers, num_frames, hidden_size) float32 in new memory, with the change."""
        return self.change.apply_(self.unpack().clone())


def pack(features: Tensor, dtype: torch.dtype, real_frames: int | None = None) -> Packed:
    """Round features to a dtype.

    int8 has a separate quantisation scale for each layer and dimension, so that the largest absolute value becomes 127.

    Args:
        features: (num_layers, num_frames, hidden_size) float32.
        dtype: Dtype of the packed features.
        real_frames: Number of frames before those of the padding; None if there is no padding.
    """
    if dtype != torch.int8:
        return Packed(values=features.to(dtype), real_frames=real_frames)
    step = features.abs().amax(dim=1, keepdim=True) / STEPS
    # Subnormal float32 numbers have too few digits for a quantisation scale.
    step = step.where(step >= torch.finfo(torch.float32).tiny, 0)
    in_steps = (features / step.where(step > 0, 1)).round_()
    return Packed(values=in_steps.to(torch.int8), step=step, real_frames=real_frames)


def packed_bytes(dtype: torch.dtype, num_values: int, num_steps: int) -> int:
    """Return the size in bytes of packed features, including the float32 quantisation scales of int8.

    Args:
        dtype: Dtype of the values.
        num_values: Number of values.
        num_steps: Number of quantisation scales.
    """
    return num_values * dtype.itemsize + (num_steps * torch.float32.itemsize if dtype == torch.int8 else 0)


class _Scratch(threading.local):
    """Memory for an unpacked utterance, reused because allocating new memory would take as long as unpacking."""

    def __init__(self) -> None:
        self._room: dict[torch.device, Tensor] = {}

    def room_for(self, values: Tensor) -> Tensor:
        """Return float32 memory with the shape and device of the values."""
        room = self._room.get(values.device)
        if room is None or room.numel() < values.numel():
            room = self._room[values.device] = torch.empty(values.numel(), device=values.device)
        return room[: values.numel()].view(values.shape)


_scratch = _Scratch()
