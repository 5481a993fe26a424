"""Ctrl-C: a command reports at once, ends soon, and keeps all finished work.

After the first Ctrl-C, running tasks are finished. A second Ctrl-C abandons them: a thread cannot be stopped inside a
forward pass of a library. :class:`Work` is the loop that extraction and transcription share.
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

INTERRUPTED_LINE = "interrupted; finished work is kept"

log = logging.getLogger(__name__)

Task = TypeVar("Task")
Result = TypeVar("Result")

# Time that abandoned threads have to end before the process ends without them.
GRACE_SECONDS = 0.5

_left_behind: "WeakSet[Future[Any]]" = WeakSet()


class Pool(ThreadPoolExecutor):
    """Thread pool that waits for its threads at the end of a block, except after Ctrl-C."""

    def __init__(self, workers: int, name: str) -> None:
        super().__init__(workers, thread_name_prefix=name)
        self._futures: WeakSet[Future[Any]] = WeakSet()
        self._abandoned = False

    def submit(self, function: Callable[..., Any], /, *arguments: Any, **options: Any) -> Future[Any]:
        future = super().submit(function, *arguments, **options)
        self._futures.add(future)
        return future

    def abandon(self) -> None:
        """Start no further tasks, and do not wait for running tasks."""
        self._abandoned = True
        self.shutdown(wait=False, cancel_futures=True)
        _left_behind.update(future for future in self._futures if not future.done())

    def finish(self, pending: Collection[Future[Any]], what: str) -> list[Future[Any]]:
        """Finish running tasks after Ctrl-C, unless Ctrl-C is pressed again.

        Args:
            pending: Submitted tasks whose results are not kept yet.
            what: Noun for the running tasks in messages, in the plural.

        Returns:
            Finished tasks, in order.
        """
        try:
            begun = [future for future in pending if not future.cancel()]
            log.warning("stopping: running %s are finished first; press Ctrl-C again to abandon them", what)
            wait(begun)
        except KeyboardInterrupt:
            self.abandon()
            log.warning("stopping now: running %s are abandoned, finished ones are kept", what)
        return [future for future in pending if future.done() and not future.cancelled()]

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is not None and issubclass(kind, KeyboardInterrupt):
            self.abandon()
        if not self._abandoned:
            super().__exit__(kind, error, traceback)


class Work(Generic[Task, Result]):
    """Tasks for a thread pool. Each result is kept exactly once, also after Ctrl-C or a failure.

    Args:
        tasks: Tasks.
        compute: Function that computes a task, in a thread.
        keep: Function that keeps the results, in the main thread. Its arguments are finished tasks with their results,
            and whether the work ends with them.
        fails: Function that returns whether a result ends the work. Running tasks are then finished and kept, too.
        ahead: Maximum number of tasks that are running or waiting for a thread.
        in_order: Whether results are kept in the order of the tasks. Otherwise the order is that of completion.
        stopping: Event that is set when the work ends early.
        kept: Work of ``keep`` in messages: "a shard is written first".
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
        """Compute the tasks until all are done or one ends the work, and return whether Ctrl-C ended it.

        Args:
            pool: Threads.
            what: Noun for the tasks in messages, in the plural.
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
        """Submit tasks, and return whether any task is pending."""
        while len(self._pending) < self._ahead and (task := next(self._tasks, None)) is not None:
            self._pending[pool.submit(self._compute, task)] = task
        return bool(self._pending)

    def _wait(self) -> list[Future[Result]]:
        """Wait for the next task in order, or for any task, and return the finished ones."""
        if self._in_order:
            return _all_done([next(iter(self._pending))])
        done = wait(self._pending, return_when=FIRST_COMPLETED).done
        return [future for future in self._pending if future in done]

    def _begun(self, finished: Collection[Future[Result]]) -> list[Future[Result]]:
        """Wait for all other tasks that are running, and return them; cancel the rest."""
        others = [future for future in self._pending if future not in finished]
        return _all_done([future for future in others if not future.cancel()])

    def _keep(self, finished: Sequence[Future[Result]], ending: bool) -> None:
        """Keep finished results, and then raise the first error among them, which is a bug."""
        bugs = [error for future in finished if (error := future.exception()) is not None]
        with held_back(self._kept):
            results = [(self._pending.pop(f), f.result()) for f in finished if f.exception() is None]
            if results or ending:
                self._take_in(results, ending)
        if bugs:
            raise bugs[0]


def _all_done(futures: list[Future[Result]]) -> list[Future[Result]]:
    """Wait for all futures, and return them."""
    for future in futures:
        future.exception()
    return futures


def threads_are_left() -> bool:
    """Return whether abandoned tasks are still running, so that Python would wait for them at its end."""
    return bool(wait(set(_left_behind), timeout=GRACE_SECONDS).not_done)


@contextmanager
def leaving_imports(code: int) -> Iterator[None]:
    """Make Ctrl-C end the process with an exit code while a module is imported.

    torch calls Python from C++ code that cannot handle exceptions. A KeyboardInterrupt there would abort the process
    with a message about pybind11.

    Args:
        code: Exit code.
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

    # A process that was started with Ctrl-C disabled keeps ignoring it.
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
    """Delay Ctrl-C until the end of a step that must not be interrupted, such as writing a file.

    Args:
        what: The step in messages: "a shard is written first".
    """
    before = signal.getsignal(signal.SIGINT)
    # Only the main thread receives signals, and only a handler in Python can be delayed.
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
