"""State of a long task → a progress bar with a line below it, or a log line from time to time without a terminal."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from featcache.terminal.repeated import repeated

log = logging.getLogger(__name__)

# Time between two looks at a task that is shown on a terminal. Drawing takes about a millisecond.
LOOK_SECONDS = 0.5
# Time until the first log line, and between two of them, where no terminal shows a bar.
FIRST_LINE_SECONDS, LINE_SECONDS = 5.0, 60.0
# Columns beside the title that the parts of a progress bar need, in the order in which they are shown; the title is
# never cut.
_PERCENTAGE, _REMAINING, _LEAST_BAR, _LARGEST_BAR = 5, 21, 8, 40
_STEPS = 1000


@dataclass(frozen=True, kw_only=True)
class TaskState:
    """State of a long task, as it is shown.

    Attributes:
        title: Title of the task.
        done: Share of the work that is done, in [0, 1].
        remaining: Text for the remaining time; empty if it is unknown.
        detail: Further text, which may need more than one line.
    """

    title: str
    done: float
    remaining: str
    detail: str

    def line(self) -> str:
        """Return the state as one line: ``Training 12 heads: 34 %, about 0:03:10 left; epoch 3 of at most 100``."""
        share = ", ".join(filter(None, [f"{self.done:.0%}".replace("%", " %"), self.remaining]))
        return f"{self.title}: {'; '.join(filter(None, [share, self.detail]))}"


@contextmanager
def watched(look: Callable[[], TaskState]) -> Iterator[None]:
    """Show the state of a task until the end of the block.

    The task is looked at from another thread, a few times per second at most, so that it never waits to be shown.
    Without a terminal, its state is logged: first after a few seconds, then once per minute.

    Args:
        look: Function that returns the current state.
    """
    from featcache.terminal.console import Console

    if not Console(stderr=True).is_terminal:
        with repeated(lambda: log.info("%s", look().line()), LINE_SECONDS, first=FIRST_LINE_SECONDS):
            yield
        return
    with _bar(look) as draw:
        draw()
        try:
            with repeated(draw, LOOK_SECONDS):
                yield
        finally:
            draw()


@contextmanager
def _bar(look: Callable[[], TaskState]) -> Iterator[Callable[[], None]]:
    """Show a progress bar, and yield a function that draws it again."""
    from rich.cells import cell_len
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn
    from rich.table import Column
    from rich.text import Text

    from featcache.terminal.console import Console
    from featcache.terminal.escape import escaped
    from featcache.terminal.lines import folded

    console = Console(stderr=True)
    state = look()
    room = console.width - cell_len(state.title) - _PERCENTAGE
    for_bar = min(room - _REMAINING - 1, _LARGEST_BAR)

    class Bar(Progress):
        def get_renderables(self) -> Iterator[Any]:
            yield from super().get_renderables()
            if state.detail:
                yield Text(folded(escaped(f"  {state.detail}"), console.width, indent="  "))

    bar = Bar(
        TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=False)),
        *([BarColumn(bar_width=for_bar)] if for_bar >= _LEAST_BAR else []),
        TaskProgressColumn(),
        *([TextColumn("{task.fields[remaining]}", markup=False)] if room >= _REMAINING else []),
        console=console,
        auto_refresh=False,
    )
    task = bar.add_task("", total=_STEPS, remaining="")

    def draw() -> None:
        nonlocal state
        state = look()
        bar.update(task, description=escaped(state.title), completed=_STEPS * state.done, remaining=state.remaining)
        bar.refresh()

    with bar:
        yield draw
