"""Threads of torch and of BLAS: several workers with one thread each, instead of one worker that uses all cores.

This is more efficient on a few cores: on a busy machine, the threads of a small product of matrices wait for each other
many times longer than they compute. It also makes results independent of the number of workers, because a single thread
sums each product.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from threadpoolctl import ThreadpoolController


def available_cores() -> int:
    """Return the number of cores that this process may use, given CPU affinity and container limits."""
    import joblib

    return int(joblib.cpu_count())


def usual_threads() -> int:
    """Return the number of threads that torch uses by default, such as ``$OMP_NUM_THREADS``."""
    import torch

    return int(torch.get_num_threads())


def keep_to_one_thread() -> None:
    """Limit torch and BLAS to a single thread from now on, in the calling thread and in threads that start later."""
    _libraries().limit(limits=1, user_api="blas")
    if "torch" in sys.modules:
        import torch

        torch.set_num_threads(1)


@contextmanager
def one_thread_each() -> Iterator[None]:
    """Limit torch and BLAS to a single thread in each worker that starts inside the ``with`` block.

    Only libraries that are loaded before the block are limited.
    """
    with threads_each(1):
        yield


@contextmanager
def threads_each(number: int) -> Iterator[None]:
    """Give torch and BLAS a number of threads in each worker that starts inside the ``with`` block.

    Args:
        number: Number of threads; more than one is for a single worker with large products, such as a model.
    """
    with _libraries().limit(limits=number, user_api="blas"), torch_threads(number):
        yield


def _libraries() -> "ThreadpoolController":
    """Return the loaded libraries of BLAS. Looking for them takes milliseconds, and only an import loads others."""
    return _libraries_of(len(sys.modules))


@lru_cache(maxsize=1)
def _libraries_of(num_modules: int) -> "ThreadpoolController":
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


@contextmanager
def torch_threads(number: int) -> Iterator[None]:
    """Give torch a number of threads inside the ``with`` block; without BLAS, unlike :func:`threads_each`."""
    if "torch" not in sys.modules:
        yield
        return
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
