"""``--memory`` × available memory → the dtype of the in-memory features, and how many of them are loaded at a time."""

import math
import re
from dataclasses import dataclass

import torch

from featcache.errors import ModelError
from featcache.heads.packed import packed_bytes
from featcache.machine import available_memory, used_memory
from featcache.units import format_bytes

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16, "int8": torch.int8}
# Share of the available memory that is used by default.
SHARE = 0.5
# Share of the memory of a fit that is kept free for the heads of all threads; more only if a single one needs it.
HEADS_SHARE = 0.25
# Up to this size in float32, an epoch is so short that a smaller dtype would not save time.
SMALL = 256 * 2**20
# Memory in bytes that torch and the libraries of the report need when they are first used.
LIBRARIES = 256 * 2**20
# pydantic.ByteSize is not used: it refuses 4Gi, reads 4Gbit as bits and 4,5GiB as 4 bytes, and accepts 4 as bytes.
_UNITS = {"": 1, "k": 1e3, "m": 1e6, "g": 1e9, "t": 1e12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Memory and dtype that the user allows for features.

    Attributes:
        bytes: Memory of all processes in bytes; None for half of the available memory.
        dtype: Name of the dtype of the in-memory features; None for the most exact dtype that fits and does not slow
            down training.
    """

    bytes: float | None = None
    dtype: str | None = None

    @classmethod
    def parse(cls, text: str | None) -> "Memory":
        """Parse ``4GiB``, ``int8``, or both, separated by a comma.

        Raises:
            ModelError: the text is neither a size nor a dtype.
        """
        size, dtype = None, None
        expected = f"expected a size such as 4GiB, one of {', '.join(DTYPES)}, or both"
        for part in (text or "").replace(" ", "").split(",") if text else []:
            number = re.fullmatch(r"(\d+(?:\.\d+)?)([kmgt]i?)?(b?)", part.lower())
            if part in DTYPES:
                dtype = part
            elif number is None or not float(number[1]) > 0:
                raise ModelError(f"--memory {text}: {expected}")
            elif not (number[2] or number[3]):  # bytes or gigabytes
                raise ModelError(f"--memory {text}: {expected}; {part} has no unit")
            else:
                size = float(number[1]) * _UNITS[number[2] or ""]
        return cls(bytes=size, dtype=dtype)


@dataclass(frozen=True, kw_only=True)
class WorkingCopy:
    """Dtypes and size of the in-memory features.

    Attributes:
        dtype: Dtype of the packed values.
        compute: Dtype in which the heads compute: float32 or bfloat16.
        room: Memory for packed values in bytes; None if all of them fit. It is a power of two: the windows, and
            therefore the results, depend on it, and the free memory differs a little between calls.
    """

    dtype: torch.dtype
    compute: torch.dtype
    room: float | None

    def __str__(self) -> str:
        whole = "fit in memory" if self.room is None else f"are read in windows of {format_bytes(self.room / 2)}"
        hint = "" if self.dtype == torch.float32 else " (--memory float32 for float32)"
        return f"features {whole} as {_name(self.dtype)}; training in {_name(self.compute)}{hint}"

    def settings(self) -> dict[str, str | float]:
        """Return the entries of ``config.yaml``, as plain values."""
        windows = {} if self.room is None else {"room": self.room}
        return {"working_copy": _name(self.dtype), "compute": _name(self.compute), **windows}


def plan_working_copy(
    memory: Memory,
    num_values: int,
    *,
    num_steps: int,
    overhead: float,
    training: float = 0.0,
    workers: int = 1,
    processes: int = 1,
    device: str = "cpu",
    advice: str = "use fewer frames with --max-frames",
) -> WorkingCopy:
    """Choose the dtype of the in-memory features, and whether all of them are loaded at once.

    Args:
        memory: Memory and dtype that the user allows.
        num_values: Number of feature values of all utterances, layers and stores.
        num_steps: Number of quantisation scales for int8: one per utterance, layer and dimension.
        overhead: Memory in bytes that training needs in addition to features and heads.
        training: Memory in bytes of one training: its head, optimiser and best weights. The number of trainings has no
            part in the plan, so that a run reads the same windows alone and together with others.
        workers: Number of threads of each process.
        processes: Number of processes that share the memory.
        device: Device of the features; on a CUDA device its own memory is the limit.
        advice: How a training would need less memory, for the error message.

    Returns:
        The dtype that the user chose, or the most exact one that fits and does not slow down training.

    Raises:
        ModelError: not even a small part of the features fits, or the device does not support the dtype.
    """
    limit = _limit(memory, overhead, processes, device)
    limit -= min(workers * training, max(training, HEADS_SHARE * limit))
    if device.startswith("mps") and memory.dtype == "bfloat16":
        raise ModelError(
            "--memory bfloat16 trains in bfloat16, but device mps trains in float32; expected float32, float16 or int8"
        )
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
    # Emulated bfloat16 is slower, and its results differ in the last bits if trainings run together.
    compute = torch.bfloat16 if fast and dtype in (torch.bfloat16, torch.int8) else torch.float32
    if chosen is None and limit < overhead:
        least = (2 * overhead + training + _resident()) * processes
        raise ModelError(
            f"{format_bytes(memory.bytes or SHARE * available_memory())} of memory is not enough, expected "
            f"{format_bytes(least)} or more; allow more with --memory, or {advice}"
        )
    return WorkingCopy(dtype=dtype, compute=compute, room=None if chosen else 2.0 ** math.floor(math.log2(limit)))


def trainings_at_once(
    memory: Memory, held: float, *, overhead: float, training: float, processes: int = 1, device: str = "cpu"
) -> int:
    """Return the number of trainings whose heads, optimisers and best weights fit beside the features, at least 1.

    Args:
        memory: Memory that the user allows.
        held: Memory in bytes of the features.
        overhead: See :func:`plan_working_copy`; likewise ``processes`` and ``device``.
        training: Memory in bytes of one training.
        processes: Number of processes that share the memory.
        device: Device of the heads.
    """
    left = _limit(memory, overhead, processes, device) - held
    return int(max(1.0, min(left / max(training, 1.0), 1e9)))


def _limit(memory: Memory, overhead: float, processes: int, device: str) -> float:
    """Return the memory in bytes for the features and heads of one process."""
    if device.startswith("cuda"):  # mps shares the memory of the CPU
        return SHARE * float(torch.cuda.get_device_properties(device).total_memory) / processes
    return (memory.bytes or SHARE * available_memory()) / processes - overhead - _resident()


def has_fast_bfloat16(device: str = "cpu") -> bool:
    """Check whether a device computes bfloat16 products in hardware, and does not emulate them in float32."""
    if device.startswith("mps"):
        return False
    if device != "cpu":
        return bool(torch.cuda.is_bf16_supported())
    tests = (getattr(torch.cpu, f"_is_{name}_supported", None) for name in ("avx512_bf16", "amx_tile"))
    return any(test() for test in tests if test)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _resident() -> float:
    """Return the memory in bytes of this process without features, including libraries that are loaded later."""
    return used_memory() + LIBRARIES
