"""Progress bars for everything that takes longer than a few seconds; silent where there is no terminal."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager


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

    from featcache.escape import escaped
    from featcache.terminal import Console

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


def real_time(done: float, took: float) -> str:
    """The speed of work on so many seconds of audio, in words."""
    return f"{done / took:.1f} x real time"
