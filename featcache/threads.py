"""Threads of torch: several workers with one thread each, instead of one worker that uses all cores.

This is more efficient on a few cores. It also makes results independent of the number of workers, because a single
thread sums each product.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager


def available_cores() -> int:
    """Return the number of cores that this process may use, given CPU affinity and container limits."""
    import joblib

    return int(joblib.cpu_count())


def keep_to_one_thread() -> None:
    """Limit torch to a single thread from now on, in the calling thread and in threads that start later."""
    if "torch" in sys.modules:
        import torch

        torch.set_num_threads(1)


@contextmanager
def one_thread_each() -> Iterator[None]:
    """Limit torch to a single thread in each worker that starts inside the ``with`` block."""
    if "torch" not in sys.modules:
        yield
        return
    import torch

    before = torch.get_num_threads()
    keep_to_one_thread()
    try:
        yield
    finally:
        torch.set_num_threads(before)
