"""Text and tables → a terminal. All of featcache prints through this console, so that no external text acts on it."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import rich.console
import rich.table
from rich.console import ConsoleOptions, RenderableType
from rich.measure import Measurement
from rich.segment import Segment
from rich.text import Text

from featcache.terminal.escape import escaped, fitting


class Console(rich.console.Console):
    """A rich console for external text.

    Square brackets are no markup and ``:smile:`` is no emoji; control characters are escaped; what the console's
    encoding lacks is replaced.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"markup": False, "emoji": False, **options})

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(self._shown(text), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        if isinstance(renderable, Text):
            renderable = _replaced(renderable, self._shown(renderable.plain))
        for segment in super().render(renderable, options):
            # rich itself adds characters, such as the ellipsis of a cell that is cut
            yield segment if segment.control else segment._replace(text=fitting(segment.text, self.encoding))

    def print_line(self, text: str = "") -> None:
        """Print one line, never folded; a line break in it is escaped."""
        self.print(Text(escaped(text)), soft_wrap=True, highlight=False)

    def _shown(self, text: str) -> str:
        return fitting(escaped(text, keep="\n"), self.encoding)


class Table(rich.table.Table):
    """A rich table whose cells are single lines of external text."""

    def add_column(self, header: RenderableType = "", *arguments: Any, **options: Any) -> None:
        super().add_column(_cell(header), *arguments, **options)

    def add_row(self, *cells: RenderableType | None, **options: Any) -> None:
        super().add_row(*(None if cell is None else _cell(cell) for cell in cells), **options)


def print_line(text: str = "") -> None:
    """Print one line to standard output, never folded; a line break in it is escaped."""
    Console().print_line(text)


def print_lines(text: str) -> None:
    """Print text of several lines, each escaped before, none folded."""
    Console().print(Text(text), soft_wrap=True, highlight=False)


def print_pairs(pairs: Mapping[str, Any]) -> None:
    """Print names and values as two columns."""
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in pairs.items():
        table.add_row(name, _describe(value))
    Console().print(table)


def _describe(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return "-" if isinstance(value, float) and math.isnan(value) else str(value)


class _Cell:
    """A cell of one line, on any console of rich: no markup, and as wide as that console shows it."""

    def __init__(self, text: Text) -> None:
        self._text = text

    def __rich_console__(self, console: rich.console.Console, options: ConsoleOptions) -> Iterable[Text]:
        yield _replaced(self._text, fitting(self._text.plain, console.encoding))

    def __rich_measure__(self, console: rich.console.Console, options: ConsoleOptions) -> Measurement:
        return Measurement.get(console, options, *self.__rich_console__(console, options))


def _cell(cell: RenderableType) -> RenderableType:
    if isinstance(cell, str):
        return _Cell(Text(escaped(cell)))  # escaped first: rich drops some control characters
    return _Cell(_replaced(cell, escaped(cell.plain))) if isinstance(cell, Text) else cell


def _replaced(text: Text, shown: str) -> Text:
    return text if shown == text.plain else text.blank_copy(shown)
