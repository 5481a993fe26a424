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


def give_back() -> None:
    """Return freed memory to the system; glibc would keep it, and it would count as taken."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim:
        trim(0)
