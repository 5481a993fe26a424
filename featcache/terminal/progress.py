"""Progress bars for everything that takes longer than a few seconds; silent where there is no terminal."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import TypeVar

T = TypeVar("T")

# Calls that make up a task of a thread; each on its own would take longer to hand out than to do.
_TOGETHER = 64
_SHOWN_FROM = 1000


@contextmanager
def progress(title: str, total: float, *, rate: Callable[[float, float], str]) -> Iterator[Callable[[float], None]]:
    """Show how far a long task has come.

    Args:
        title: What is being done.
        total: When ``done`` is reached.
        rate: Words for the speed, from what has been done and the seconds that have passed.

    Yields:
        A function to be called with the amount that was done since its last call.
    """
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    from featcache.terminal.console import Console
    from featcache.terminal.escape import escaped

    console = Console(stderr=True)
    bar = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[speed]}", markup=False),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )
    with bar:
        task = bar.add_task(escaped(title), total=total, speed="")

        def advance(amount: float) -> None:
            bar.advance(task, amount)
            current = bar.tasks[0]
            bar.update(task, speed=rate(current.completed, current.elapsed or 1e-9))

        yield advance


def map_in_threads(function: Callable[[str], T], keys: Sequence[str], workers: int, title: str) -> dict[str, T]:
    """Call a function for every key, and show how far it has come where there are many.

    Returns:
        Key → result, in the order of the keys.
    """
    groups = [keys[first : first + _TOGETHER] for first in range(0, len(keys), _TOGETHER)]
    results: dict[str, T] = {}

    def rate(done: float, took: float) -> str:
        return f"{done / took:.0f} per second"

    with ExitStack() as stack:
        pool = ThreadPoolExecutor(workers)
        stack.callback(pool.shutdown, cancel_futures=True)  # Ctrl-C does not wait for what has not begun
        advance = stack.enter_context(progress(title, len(keys), rate=rate)) if len(keys) >= _SHOWN_FROM else None
        for group, found in zip(groups, pool.map(lambda group: [function(key) for key in group], groups), strict=True):
            results.update(zip(group, found, strict=True))
            if advance is not None:
                advance(len(group))
    return results
