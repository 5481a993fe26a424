"""A function that is called regularly in the background, while a long task runs."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Thread


@contextmanager
def repeated(function: Callable[[], None], seconds: float, *, first: float | None = None) -> Iterator[None]:
    """Call a function regularly in a thread, until the end of the block.

    Args:
        function: Function to call. It may be slow: the next call waits for it.
        seconds: Time between two calls.
        first: Time until the first call; by default ``seconds``.
    """
    ended = Event()

    def call() -> None:
        wait = seconds if first is None else first
        while not ended.wait(wait):
            function()
            wait = seconds

    thread = Thread(target=call, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
