"""A function in a process of its own → its result, and the most memory that it held."""

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


def alone(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> tuple[T, int]:
    """Call a function in a new process; what it returns, and that process's peak resident memory in bytes."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_with_peak, function, args, kwargs).result()


def _with_peak(function, args, kwargs):
    return function(*args, **kwargs), peak_memory()


def peak_memory() -> int:
    """The most resident memory of this process so far, in bytes; libraries that it shares with others count."""
    status = Path("/proc/self/status")
    if status.exists():  # where there is one, getrusage would give the parent's peak to a child that takes less
        return 1024 * int(next(line.split()[1] for line in status.read_text().splitlines() if "VmHWM" in line))
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # in bytes on macOS
