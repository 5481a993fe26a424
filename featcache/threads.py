"""How threads share the cores: several workers with one thread each, rather than one that uses them all.

On a few cores that wastes less, and it makes results independent of the number of workers, because each product is
summed by a single thread.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager


def available_cores() -> int:
    """The cores that this process may use, as affinity and containers leave them."""
    import joblib

    return int(joblib.cpu_count())


def keep_to_one_thread() -> None:
    """Have torch compute with a single thread from now on, in the calling thread and in those started later."""
    if "torch" in sys.modules:
        import torch

        torch.set_num_threads(1)


@contextmanager
def one_thread_each() -> Iterator[None]:
    """Have torch compute with a single thread in each worker that is started inside."""
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
