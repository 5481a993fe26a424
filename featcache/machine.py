"""Memory that this process may use, memory that it uses, and release of freed memory; on any operating system."""

import ctypes
import sys
from pathlib import Path


def available_memory() -> float:
    """Return the memory that this process may use, in bytes: all of the machine, or the limit of the container."""
    import psutil

    physical = float(psutil.virtual_memory().total)
    try:
        limit = float(Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii"))
    except (OSError, ValueError):  # There are no cgroups, or the limit is "max".
        return physical
    return min(physical, limit)


def used_memory() -> float:
    """Return the memory that this process uses now, in bytes (its resident set)."""
    import psutil

    return float(psutil.Process().memory_info().rss)


def give_back() -> None:
    """Return freed memory to the operating system. Only glibc keeps freed memory, which would count as used."""
    if not sys.platform.startswith("linux"):
        return
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim:
        trim(0)
