"""Progress bars for tasks that take more than a few seconds. Without a terminal, nothing is printed.

See :mod:`featcache.terminal.watched` for tasks of many parts that end at unknown times.
"""

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from threading import Lock
from typing import TypeVar

_TURN = Lock()
T = TypeVar("T")

# Number of calls in one task of a thread. Single calls are shorter than the time to schedule them.
TOGETHER = 64
SHOWN_AFTER = 2.0
"""Time in seconds after which a task shows its progress."""
# Number of items after which a loop reports its progress.
_STEP = 1000
# Columns beside the title from which the parts of a progress bar are shown; the title is never cut.
_ROOM_FOR_TIME, _ROOM_FOR_SPEED, _ROOM_FOR_BAR = 14, 36, 48


@contextmanager
def progress(
    title: str, total: float | None, *, rate: Callable[[float, float], str]
) -> Iterator[Callable[[float], None]]:
    """Show a progress bar for a long task.

    Args:
        title: Title of the task.
        total: Total amount of work; None if it is unknown.
        rate: Function from the amount done and the elapsed seconds to the text for the speed.

    Yields:
        A function to call with the amount of work that was done since its last call.
    """
    from rich.cells import cell_len
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
    from rich.table import Column

    from featcache.terminal.console import Console
    from featcache.terminal.escape import escaped
    from featcache.terminal.streams import is_quiet

    first = _TURN.acquire(blocking=False)  # A terminal shows one bar at a time, that of the longest task.
    with ExitStack() as stack:
        if first:
            stack.callback(_TURN.release)
        console = Console(stderr=True)
        room = console.width - cell_len(title)
        bar = Progress(
            TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=False)),
            *([BarColumn()] if room >= _ROOM_FOR_BAR else []),
            TaskProgressColumn(),
            *([TextColumn("{task.fields[speed]}", markup=False)] if room >= _ROOM_FOR_SPEED else []),
            *([TimeRemainingColumn()] if room >= _ROOM_FOR_TIME else []),
            console=console,
            disable=not first or is_quiet() or not console.is_terminal,
        )
        stack.enter_context(bar)
        task = bar.add_task(escaped(title), total=total, speed="")

        def advance(amount: float) -> None:
            bar.advance(task, amount)
            current = bar.tasks[0]
            bar.update(task, speed=rate(current.completed, current.elapsed or 1e-9))

        yield advance


@contextmanager
def long_progress(title: str, number: float) -> Iterator[Callable[[float], None]]:
    """Show a progress bar from the time when a task has taken two seconds.

    Args:
        title: Title of the task.
        number: Number of items, or total amount of work.

    Yields:
        A function to call with the number of items that were finished since its last call.
    """
    began, done = time.monotonic(), 0.0
    shown: Callable[[float], None] | None = None

    def rate(amount: float, _: float) -> str:
        return f"{amount / max(time.monotonic() - began, 1e-9):.0f} per second"

    with ExitStack() as stack:

        def advance(amount: float) -> None:
            nonlocal done, shown
            done += amount
            if shown is not None:
                shown(amount)
            elif time.monotonic() - began >= SHOWN_AFTER and done < number:
                shown = stack.enter_context(progress(title, number, rate=rate))
                shown(done)

        yield advance


def tracked(title: str, items: Collection[T], *, step: int = _STEP) -> Iterator[T]:
    """Yield items, with a progress bar if this takes long.

    Args:
        title: Title of the task.
        items: The items.
        step: Number of items after which progress is shown; 1 for items that take long themselves.
    """
    with long_progress(title, len(items)) as advance:
        for number, item in enumerate(items, start=1):
            yield item
            if number % step == 0:
                advance(step)


def map_in_threads(
    function: Callable[[str], T], keys: Sequence[str], workers: int, title: str, *, together: int = TOGETHER
) -> dict[str, T]:
    """Call a function for each key in several threads, with a progress bar if this takes long.

    Args:
        function: Function from a key to its result.
        keys: Keys.
        workers: Number of threads.
        title: Title of the progress bar.
        together: Number of calls in one task of a thread; 1 for calls that are long themselves.

    Returns:
        Key → result, in the order of the keys.
    """
    groups = [keys[first : first + together] for first in range(0, len(keys), together)]
    results: dict[str, T] = {}

    with ExitStack() as stack:
        pool = ThreadPoolExecutor(workers)
        stack.callback(pool.shutdown, cancel_futures=True)  # After Ctrl-C, calls that have not started are cancelled.
        advance = stack.enter_context(long_progress(title, len(keys)))
        for group, found in zip(groups, pool.map(lambda group: [function(key) for key in group], groups), strict=True):
            results.update(zip(group, found, strict=True))
            advance(len(group))
    return results
