"""Ctrl-C: a command says at once what it does, ends soon, and loses nothing that was finished.

The first Ctrl-C lets what is under way come to its end. A second one gives it up: threads cannot be stopped inside a
library's forward pass, so they are left behind. :class:`Work` is the loop that extraction and transcription share.
"""

import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from types import FrameType, TracebackType
from typing import Any, Generic, TypeVar
from weakref import WeakSet

INTERRUPTED_LINE = "interrupted; what was finished before is kept"

log = logging.getLogger(__name__)

Task = TypeVar("Task")
Result = TypeVar("Result")

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


class Work(Generic[Task, Result]):
    """Tasks for a pool of threads; each result is kept once, whenever Ctrl-C is pressed and whatever fails.

    Args:
        tasks: What is to be done.
        compute: Does a task, in a thread.
        keep: Takes in finished tasks with their results, in the main thread, and whether the work ends with them.
        fails: Whether a result ends the work. What has begun is then finished and kept as well.
        ahead: Number of tasks that are under way or wait for a thread.
        in_order: Whether results are kept in the order of the tasks, or as they come.
        stopping: Set as soon as the work ends early.
        kept: What ``keep`` does, for the user: "a shard is written first".
    """

    def __init__(
        self,
        tasks: Iterable[Task],
        compute: Callable[[Task], Result],
        keep: Callable[[Sequence[tuple[Task, Result]], bool], None],
        *,
        fails: Callable[[Result], bool],
        ahead: int,
        in_order: bool,
        stopping: threading.Event,
        kept: str,
    ) -> None:
        self._tasks = iter(tasks)
        self._compute = compute
        self._take_in = keep
        self._fails = fails
        self._ahead = ahead
        self._in_order = in_order
        self._stopping = stopping
        self._kept = kept
        self._pending: dict[Future[Result], Task] = {}

    def to_the_end(self, pool: Pool, what: str) -> bool:
        """Do all tasks, or as many as there are until one ends the work; true when Ctrl-C ended it.

        Args:
            pool: The threads.
            what: The tasks, for the user, in the plural.
        """
        try:
            while self._submit(pool):
                finished = self._wait()
                ending = any(future.exception() is None and self._fails(future.result()) for future in finished)
                if ending:
                    finished += self._begun(finished)
                self._keep(finished, ending)
                if ending:
                    break
        except KeyboardInterrupt:
            self._stopping.set()
            finished = pool.finish(list(self._pending), what)
            with suppress(KeyboardInterrupt):
                self._keep(finished, ending=True)
            return True
        except BaseException:
            self._stopping.set()
            for future in self._pending:
                future.cancel()
            raise
        return False

    def _submit(self, pool: Pool) -> bool:
        """Hand out tasks; false when there is nothing left to wait for."""
        while len(self._pending) < self._ahead and (task := next(self._tasks, None)) is not None:
            self._pending[pool.submit(self._compute, task)] = task
        return bool(self._pending)

    def _wait(self) -> list[Future[Result]]:
        """Wait for the next task, or for any; return what is finished then."""
        if self._in_order:
            return _all_done([next(iter(self._pending))])
        done = wait(self._pending, return_when=FIRST_COMPLETED).done
        return [future for future in self._pending if future in done]

    def _begun(self, finished: Collection[Future[Result]]) -> list[Future[Result]]:
        """Begin nothing new; wait for what else has begun, and return it."""
        others = [future for future in self._pending if future not in finished]
        return _all_done([future for future in others if not future.cancel()])

    def _keep(self, finished: Sequence[Future[Result]], ending: bool) -> None:
        """Have finished results kept; an error among them is a bug, and raised after that."""
        bugs = [error for future in finished if (error := future.exception()) is not None]
        with held_back(self._kept):
            results = [(self._pending.pop(f), f.result()) for f in finished if f.exception() is None]
            if results or ending:
                self._take_in(results, ending)
        if bugs:
            raise bugs[0]


def _all_done(futures: list[Future[Result]]) -> list[Future[Result]]:
    """Wait for all of these."""
    for future in futures:
        future.exception()
    return futures


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
