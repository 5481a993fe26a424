"""How much memory this process may use, how much it uses, and returning what it no longer needs; on any system."""

import ctypes
import sys
from pathlib import Path


def available_memory() -> float:
    """Return the bytes this process may use: the machine's memory, or less where a container limits it."""
    import psutil

    physical = float(psutil.virtual_memory().total)
    try:
        limit = float(Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii"))
    except (OSError, ValueError):  # no cgroups, or "max"
        return physical
    return min(physical, limit)


def used_memory() -> float:
    """Return the bytes of memory this process uses now (its resident set)."""
    import psutil

    return float(psutil.Process().memory_info().rss)


def give_back() -> None:
    """Return freed memory to the system. Only glibc keeps it, and it would count as used."""
    if not sys.platform.startswith("linux"):
        return
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim:
        trim(0)
