"""``--memory`` × what there is → the dtype of a working copy of the features, and how much of it is held at a time."""

import math
import re
from dataclasses import dataclass

import torch

from featcache.errors import ModelError
from featcache.heads.packed import packed_bytes
from featcache.machine import available_memory, used_memory
from featcache.units import format_bytes

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16, "int8": torch.int8}
# Of the memory that this process may have, what it takes without being told.
SHARE = 0.5
# Below this much in float32 an epoch takes so little that rounding would buy nothing.
SMALL = 256 * 2**20
# What torch's code for training and the libraries of the report take when they are first used.
LIBRARIES = 256 * 2**20
# Not pydantic.ByteSize: it refuses 4Gi, reads 4Gbit as bits and 4,5GiB as 4 bytes, and takes 4 for bytes.
_UNITS = {"": 1, "k": 1e3, "m": 1e6, "g": 1e9, "t": 1e12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}


@dataclass(frozen=True, kw_only=True)
class Memory:
    """What a user says of it.

    Attributes:
        bytes: What the whole process may take; None is half of what there is.
        dtype: The name of the working copy's dtype; None is the most exact that fits and does not slow training.
    """

    bytes: float | None = None
    dtype: str | None = None

    @classmethod
    def parse(cls, text: str | None) -> "Memory":
        """Read ``4GiB``, ``int8``, or both, separated by a comma.

        Raises:
            ModelError: neither a size nor a dtype.
        """
        size, dtype = None, None
        expected = f"expected a size such as 4GiB, one of {', '.join(DTYPES)}, or both"
        for part in (text or "").replace(" ", "").split(",") if text else []:
            number = re.fullmatch(r"(\d+(?:\.\d+)?)([kmgt]i?)?(b?)", part.lower())
            if part in DTYPES:
                dtype = part
            elif number is None or not float(number[1]) > 0:
                raise ModelError(f"--memory {text}: {expected}")
            elif not (number[2] or number[3]):  # bytes to some, gigabytes to others
                raise ModelError(f"--memory {text}: {expected}; {part} has no unit")
            else:
                size = float(number[1]) * _UNITS[number[2] or ""]
        return cls(bytes=size, dtype=dtype)


@dataclass(frozen=True, kw_only=True)
class WorkingCopy:
    """How features are held.

    Attributes:
        dtype: Of the packed values.
        compute: What the heads compute in: float32 or bfloat16.
        room: Bytes that packed values may take; None where all of them fit. A power of two, because windows, and with
            them results, depend on it, and the memory that is free differs a little from one call to the next.
    """

    dtype: torch.dtype
    compute: torch.dtype
    room: float | None

    def __str__(self) -> str:
        whole = "all at once" if self.room is None else f"in windows of {format_bytes(self.room / 2)}"
        return f"{whole} as {_name(self.dtype)}, and compute in {_name(self.compute)}"

    def settings(self) -> dict[str, str | float]:
        """As plain values."""
        windows = {} if self.room is None else {"room": self.room}
        return {"working_copy": _name(self.dtype), "compute": _name(self.compute), **windows}


def plan_working_copy(
    memory: Memory, num_values: int, *, num_steps: int, overhead: float, processes: int = 1, device: str = "cpu"
) -> WorkingCopy:
    """Choose the dtype, and whether everything is held or a part after another.

    Args:
        memory: What the user says.
        num_values: How many numbers there are, all utterances, layers and stores together.
        num_steps: How many steps 8-bit numbers count in: one per utterance, layer and dimension.
        overhead: Bytes that training takes beside them.
        processes: How many share what may be taken.
        device: Where the copy lies; what fits is a matter of the device's memory then.

    Raises:
        ModelError: not even a small part would fit.
    """
    limit = (memory.bytes or SHARE * available_memory()) / processes - overhead - _resident()
    if device.startswith("mps") and memory.dtype == "bfloat16":
        raise ModelError(
            "--memory bfloat16 computes in bfloat16, but mps in float32; expected float32, float16 or int8"
        )
    if device.startswith("cuda"):  # Apple's GPU shares the machine's memory
        limit = SHARE * torch.cuda.get_device_properties(device).total_memory / processes
    fast = has_fast_bfloat16(device)
    if memory.dtype:
        candidates = [memory.dtype]
    elif packed_bytes(torch.float32, num_values, num_steps) <= min(SMALL, limit):
        candidates = ["float32"]
    else:
        candidates = ["bfloat16", "int8"] if fast else ["float32", "float16", "int8"]
    sizes = {name: packed_bytes(DTYPES[name], num_values, num_steps) for name in candidates}
    chosen = next((name for name in candidates if sizes[name] <= limit), None)
    dtype = DTYPES[chosen or next(name for name in candidates if name != "float32" or memory.dtype)]
    # where bfloat16 is emulated it is slower, and a training alone and beside others differ in the last bits
    compute = torch.bfloat16 if fast and dtype in (torch.bfloat16, torch.int8) else torch.float32
    if chosen is None and limit < overhead:
        least = (2 * overhead + _resident()) * processes
        raise ModelError(
            f"{format_bytes(memory.bytes or SHARE * available_memory())} of memory is not enough, expected "
            f"{format_bytes(least)} or more; say so with --memory, or use fewer frames with --max-frames"
        )
    return WorkingCopy(dtype=dtype, compute=compute, room=None if chosen else 2.0 ** math.floor(math.log2(limit)))


def has_fast_bfloat16(device: str = "cpu") -> bool:
    """Whether products in bfloat16 are computed as such, and not in float32 after all."""
    if device.startswith("mps"):
        return False
    if device != "cpu":
        return bool(torch.cuda.is_bf16_supported())
    tests = (getattr(torch.cpu, f"_is_{name}_supported", None) for name in ("avx512_bf16", "amx_tile"))
    return any(test() for test in tests if test)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _resident() -> float:
    """What this process takes before features are read, with what it will load later."""
    return used_memory() + LIBRARIES
