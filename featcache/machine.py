"""What memory this process may have, and giving back what it no longer needs."""

import ctypes
import os
from pathlib import Path


def available_memory() -> float:
    """What this process may take, in bytes: the machine's, or less where a container or a job scheduler says so."""
    physical = float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    try:
        limit = float(Path("/sys/fs/cgroup/memory.max").read_text())
    except (OSError, ValueError):  # no cgroups, or "max"
        return physical
    return min(physical, limit)


def used_memory() -> float:
    """Return the bytes of memory this process uses now (its resident set)."""
    try:
        return float(int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE"))
    except OSError:  # not Linux
        return 0.0


def give_back() -> None:
    """Return freed memory to the system; glibc would keep it, and it would count as taken."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim:
        trim(0)
