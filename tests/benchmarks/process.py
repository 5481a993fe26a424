"""A function call in a new process → its result and peak memory."""

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


def alone(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> tuple[T, int]:
    """Call a function in a new process, and return its result and the peak resident memory of the process in bytes."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_with_peak, function, args, kwargs).result()


def _with_peak(function, args, kwargs):
    return function(*args, **kwargs), peak_memory()


def peak_memory() -> int:
    """Return the peak resident memory of this process in bytes, including shared libraries."""
    status = Path("/proc/self/status")
    if status.exists():  # on Linux, getrusage would return the peak of the parent if that is higher
        return 1024 * int(next(line.split()[1] for line in status.read_text().splitlines() if "VmHWM" in line))
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS
