"""Ctrl-C: a command says at once what it does, ends soon, and loses nothing that was finished.

The first Ctrl-C lets what is under way come to its end. A second one gives it up: threads cannot be stopped inside a
library's forward pass, so they are left behind.
"""

import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any
from weakref import WeakSet

INTERRUPTED_LINE = "interrupted; what was finished before is kept"

log = logging.getLogger(__name__)

# What threads get to end by themselves before the process ends without them.
GRACE_SECONDS = 0.5

_left_behind: "WeakSet[Future[Any]]" = WeakSet()


class Pool(ThreadPoolExecutor):
    """Threads that are waited for at the end of a block, but not when Ctrl-C ends it."""

    def __init__(self, workers: int, name: str) -> None:
        super().__init__(workers, thread_name_prefix=name)
        self._futures: WeakSet[Future[Any]] = WeakSet()
        self._abandoned = False

    def submit(self, function: Callable[..., Any], /, *arguments: Any, **options: Any) -> Future[Any]:
        future = super().submit(function, *arguments, **options)
        self._futures.add(future)
        return future

    def abandon(self) -> None:
        """Begin nothing more, and do not wait for what has begun."""
        self._abandoned = True
        self.shutdown(wait=False, cancel_futures=True)
        _left_behind.update(future for future in self._futures if not future.done())

    def finish(self, pending: Collection[Future[Any]], what: str) -> list[Future[Any]]:
        """After Ctrl-C let what has begun come to its end, unless Ctrl-C is pressed again.

        Args:
            pending: What was submitted and has not been taken in.
            what: What is under way, for the user, in the plural.

        Returns:
            Those that came to their end, in order.
        """
        try:
            begun = [future for future in pending if not future.cancel()]
            log.warning("stopping: %s under way are finished first; press Ctrl-C again to give them up", what)
            wait(begun)
        except KeyboardInterrupt:
            self.abandon()
            log.warning("stopping now: %s under way are given up, finished ones are kept", what)
        return [future for future in pending if future.done() and not future.cancelled()]

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is not None and issubclass(kind, KeyboardInterrupt):
            self.abandon()
        if not self._abandoned:
            super().__exit__(kind, error, traceback)


def threads_are_left() -> bool:
    """Whether work that was given up still goes on, so that Python would wait for it at its end."""
    return bool(wait(set(_left_behind), timeout=GRACE_SECONDS).not_done)


@contextmanager
def leaving_imports(code: int) -> Iterator[None]:
    """Have Ctrl-C end the process with a code while a library is imported, where an exception would crash it.

    torch calls Python from C++ code that no exception may pass: the process would abort with a message about pybind11.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGINT)

    def interrupt(number: int, frame: FrameType | None) -> None:
        if _is_importing(frame):
            print(INTERRUPTED_LINE, file=sys.stderr, flush=True)
            os._exit(code)
        raise KeyboardInterrupt

    # a process that was started to ignore Ctrl-C goes on doing so
    if before is signal.default_int_handler:
        signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _is_importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            return True
        frame = frame.f_back
    return False


@contextmanager
def held_back(what: str) -> Iterator[None]:
    """Have Ctrl-C wait until a step is done that must not end halfway, such as writing a file.

    Args:
        what: The step, for the user: "a shard is written first".
    """
    before = signal.getsignal(signal.SIGINT)
    # signals reach the main thread alone, and only what Python itself handles can be held back
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield
        return
    pressed: list[tuple[Any, ...]] = []

    def hold(*arguments: Any) -> None:
        if not pressed:
            log.warning("stopping: %s", what)
        pressed.append(arguments)

    signal.signal(signal.SIGINT, hold)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if pressed:
        before(*pressed[0])
