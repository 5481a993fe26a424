"""Text and tables → a terminal. All of featcache prints through this console, which escapes external text."""

import math
import os
from collections.abc import Iterable, Mapping
from typing import Any

import rich.console
import rich.table
from rich.cells import cell_len
from rich.console import ConsoleOptions, RenderableType
from rich.measure import Measurement
from rich.segment import Segment
from rich.text import Text

from featcache.terminal.escape import escaped, fitting
from featcache.terminal.lines import folded

# Columns where no terminal limits them, such as in a pipe: wider than any line.
UNLIMITED = 100_000


class Console(rich.console.Console):
    """Rich console for external text.

    Square brackets are not read as markup and ``:smile:`` is not read as an emoji. Control characters are escaped.
    Characters that the encoding of the console cannot represent are replaced. Nothing is folded in a pipe or a file,
    unless the environment variable ``COLUMNS`` sets a width.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"markup": False, "emoji": False, **options})
        limited = self.is_terminal or self.is_jupyter or os.environ.get("COLUMNS")
        if not limited and options.get("width") is None:
            self.width = UNLIMITED

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(self._shown(text), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        if isinstance(renderable, Text):
            renderable = _replaced(renderable, self._shown(renderable.plain))
        for segment in super().render(renderable, options):
            # Rich adds characters of its own, such as the ellipsis of a shortened cell.
            yield segment if segment.control else segment._replace(text=fitting(segment.text, self.encoding))

    def on_broken_pipe(self) -> None:
        self.quiet = True  # rich ends the process, but the work of a program that uses the library is not finished

    def print_line(self, text: str = "") -> None:
        """Print one line, folded between words; a line break in it is escaped."""
        self.print(Text(folded(escaped(text), self.width)), soft_wrap=True, highlight=False)

    def _shown(self, text: str) -> str:
        return fitting(escaped(text, keep="\n"), self.encoding)


class Table(rich.table.Table):
    """Rich table whose cells are single lines of external text."""

    def add_column(self, header: RenderableType = "", *arguments: Any, **options: Any) -> None:
        super().add_column(_cell(header), *arguments, **options)

    def add_row(self, *cells: RenderableType | None, **options: Any) -> None:
        super().add_row(*(None if cell is None else _cell(cell) for cell in cells), **options)


def print_line(text: str = "") -> None:
    """Print one line to standard output, folded between words; a line break in it is escaped."""
    Console().print_line(text)


def print_lines(text: str) -> None:
    """Print text of several lines, each folded between words. The text must be escaped already."""
    for line in text.split("\n"):
        print_line(line)


def print_pairs(pairs: Mapping[str, Any], *, title: str = "") -> None:
    """Print names and values as two columns. Values are folded between words.

    Args:
        pairs: Name → value.
        title: Line above the columns.
    """
    console = Console()
    if title:
        console.print(Text(title, style="bold"))
    indent = max(map(cell_len, map(escaped, pairs)), default=0) + 2
    for name, value in pairs.items():
        label = escaped(name)
        padded = label + " " * (indent - cell_len(label))
        lines = folded(escaped(_describe(value)), console.width - indent).split("\n")
        line = Text(padded + ("\n" + " " * indent).join(lines))
        line.stylize("bold", 0, len(label))
        console.print(line, soft_wrap=True, highlight=False)


def _describe(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return "-" if isinstance(value, float) and math.isnan(value) else str(value)


class _Cell:
    """Table cell of one line without markup, measured in the encoding of the console."""

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
