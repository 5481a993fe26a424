"""Progress bars for tasks that take more than a few seconds. Without a terminal, nothing is printed.

See :mod:`featcache.terminal.watched` for tasks of many parts that end at unknown times.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import TypeVar

T = TypeVar("T")

# Number of calls in one task of a thread. Single calls are shorter than the time to schedule them.
TOGETHER = 64
_SHOWN_FROM = 1000
# Columns beside the title from which the parts of a progress bar are shown; the title is never cut.
_ROOM_FOR_TIME, _ROOM_FOR_SPEED, _ROOM_FOR_BAR = 14, 36, 48


@contextmanager
def progress(title: str, total: float, *, rate: Callable[[float, float], str]) -> Iterator[Callable[[float], None]]:
    """Show a progress bar for a long task.

    Args:
        title: Title of the task.
        total: Total amount of work.
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

    console = Console(stderr=True)
    room = console.width - cell_len(title)
    bar = Progress(
        TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=False)),
        *([BarColumn()] if room >= _ROOM_FOR_BAR else []),
        TaskProgressColumn(),
        *([TextColumn("{task.fields[speed]}", markup=False)] if room >= _ROOM_FOR_SPEED else []),
        *([TimeRemainingColumn()] if room >= _ROOM_FOR_TIME else []),
        console=console,
        disable=is_quiet() or not console.is_terminal,
    )
    with bar:
        task = bar.add_task(escaped(title), total=total, speed="")

        def advance(amount: float) -> None:
            bar.advance(task, amount)
            current = bar.tasks[0]
            bar.update(task, speed=rate(current.completed, current.elapsed or 1e-9))

        yield advance


@contextmanager
def long_progress(title: str, number: int) -> Iterator[Callable[[int], None]]:
    """Show a progress bar if there are many items; yield a function to call with the number of finished items.

    Args:
        title: Title of the task.
        number: Number of items.
    """

    def rate(done: float, took: float) -> str:
        return f"{done / took:.0f} per second"

    if number < _SHOWN_FROM:
        yield lambda _: None
        return
    with progress(title, number, rate=rate) as advance:
        yield advance


def map_in_threads(
    function: Callable[[str], T], keys: Sequence[str], workers: int, title: str, *, together: int = TOGETHER
) -> dict[str, T]:
    """Call a function for each key in several threads, with a progress bar if there are many keys.

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
