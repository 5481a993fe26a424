"""State of a long task → a progress bar with a line below it, or a log line from time to time without a terminal."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from featcache.terminal.escape import escaped
from featcache.terminal.repeated import repeated

if TYPE_CHECKING:
    from rich.progress import Progress, ProgressColumn

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
        """Return the state as one line: ``Training 12 heads: 34 %, about 0:03:10 left; epoch 3 of 100``."""
        share = ", ".join(filter(None, [f"{self.done:.0%}".replace("%", " %"), self.remaining]))
        return f"{self.title}: {'; '.join(filter(None, [share, self.detail]))}"


@contextmanager
def watched(look: Callable[[], TaskState]) -> Iterator[None]:
    """Show the state of a task until the end of the block.

    The task is looked at from another thread, a few times per second at most, so that it never waits to be shown.
    Without a terminal, its state is logged: first after a few seconds, then once per minute. If it cannot be shown,
    a warning tells the reason, and the task continues.

    Args:
        look: Function that returns the current state.
    """
    from featcache.terminal.console import Console
    from featcache.terminal.streams import is_quiet

    if is_quiet() or not Console(stderr=True).is_terminal:
        with repeated(_harmless(lambda: log.info("%s", look().line())), LINE_SECONDS, first=FIRST_LINE_SECONDS):
            yield
        return
    bar = _Bar(look)
    draw = _harmless(bar.draw)
    draw()
    try:
        with repeated(draw, LOOK_SECONDS):
            yield
    finally:
        draw()
        _harmless(bar.stop)()


def _harmless(function: Callable[[], None]) -> Callable[[], None]:
    """Return a function whose first error becomes a warning, and which does nothing afterwards."""
    failed = False

    def call() -> None:
        nonlocal failed
        if failed:
            return
        try:
            function()
        except Exception as error:  # An error of the display must not end hours of training.
            failed = True
            log.warning("the progress is not shown any more: %s: %s", type(error).__name__, error)

    return call


class _Bar:
    """A progress bar with a line below it; it appears when it is drawn for the first time.

    Args:
        look: Function that returns the current state.
    """

    def __init__(self, look: Callable[[], TaskState]) -> None:
        self._look = look
        self._bar: Progress | None = None
        self._detail = ""

    def draw(self) -> None:
        """Look at the task and draw its state."""
        state = self._look()
        self._detail = state.detail
        if self._bar is None:
            self._bar = self._new(state)
            self._bar.add_task("", total=_STEPS, remaining="")
            self._bar.start()
        self._bar.columns = self._columns(state.title, self._bar.console.width)  # the terminal may have another size
        [task] = self._bar.task_ids
        self._bar.update(
            task, description=escaped(state.title), completed=_STEPS * state.done, remaining=state.remaining
        )
        self._bar.refresh()

    def stop(self) -> None:
        """Leave the last state on the terminal."""
        if self._bar is not None:
            self._bar.stop()

    def _new(self, state: TaskState) -> "Progress":
        from rich.progress import Progress
        from rich.text import Text

        from featcache.terminal.console import Console
        from featcache.terminal.lines import folded

        console, watched_bar = Console(stderr=True), self

        class Bar(Progress):
            def get_renderables(self) -> Iterator[Any]:
                yield from super().get_renderables()
                if watched_bar._detail:
                    yield Text(folded(escaped(f"  {watched_bar._detail}"), console.width, indent="  "))

        return Bar(*self._columns(state.title, console.width), console=console, auto_refresh=False)

    @staticmethod
    def _columns(title: str, width: int) -> "tuple[str | ProgressColumn, ...]":
        """Return the parts of the bar for which a terminal has room."""
        from rich.cells import cell_len
        from rich.progress import BarColumn, TaskProgressColumn, TextColumn
        from rich.table import Column

        room = width - cell_len(title) - _PERCENTAGE
        for_bar = min(room - _REMAINING - 1, _LARGEST_BAR)
        return (
            TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=False)),
            *([BarColumn(bar_width=for_bar)] if for_bar >= _LEAST_BAR else []),
            TaskProgressColumn(),
            *([TextColumn("{task.fields[remaining]}", markup=False)] if room >= _REMAINING else []),
        )
