"""Columns and rows → a table on the terminal in which no word is cut or broken."""

from collections.abc import Iterable, Sequence
from typing import Any

import rich.console
from rich.cells import cell_len
from rich.measure import Measurement
from rich.text import Text

from featcache.terminal.console import UNLIMITED, Table
from featcache.terminal.escape import escaped, fitting
from featcache.terminal.lines import folded

INDENT = 2


class WholeWordTable(Table):
    """A table that folds its cells between words only, and is written as a list if it is still too wide.

    In the list each row starts a new line with its first cell. The other cells follow below it, each after the name of
    its column. A word that is wider than the whole terminal is folded, because no layout can show it in one line.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._names: list[str] = []
        self._texts: list[tuple[list[str], Any]] = []

    def add_column(self, header: rich.console.RenderableType = "", *arguments: Any, **options: Any) -> None:
        super().add_column(header, *arguments, **options)
        self._names.append(_plain(header))

    def add_row(self, *cells: rich.console.RenderableType | None, **options: Any) -> None:
        super().add_row(*cells, **options)
        style = cells[0].style if cells and isinstance(cells[0], Text) else ""
        self._texts.append(([_plain(cell) for cell in cells], style))

    def fits(self, console: rich.console.Console) -> bool:
        """Return whether the table is written without folded cells."""
        widths = self._widths(console, console.options.update(max_width=UNLIMITED)) or []
        return sum(widths) <= self._room(console.options)

    def __rich_console__(self, console: rich.console.Console, options: rich.console.ConsoleOptions) -> Iterable[Any]:
        widths = self._widths(console, options)
        if widths is None:
            yield from self._listed(console, options.max_width)
            return
        for column, width in zip(self.columns, widths, strict=True):
            column.width = width
        yield from super().__rich_console__(console, options)

    def _widths(self, console: rich.console.Console, options: rich.console.ConsoleOptions) -> list[int] | None:
        """Return the width of each column, or None if the words do not fit side by side."""
        unlimited = options.update(max_width=UNLIMITED)
        needs = []
        for column in self.columns:
            sizes = [Measurement.get(console, unlimited, cell) for cell in (column.header, *column.cells)]
            most = max(size.maximum for size in sizes)
            needs.append((most if column.no_wrap else max(size.minimum for size in sizes), most))
        room = self._room(options)
        if sum(least for least, _ in needs) > room:
            return None
        widths = [most for _, most in needs]
        while sum(widths) > room:
            narrowed = max(range(len(widths)), key=lambda i: (widths[i] > needs[i][0], widths[i]))
            widths[narrowed] -= 1
        return widths

    def _room(self, options: rich.console.ConsoleOptions) -> int:
        """Return the number of characters for the cells of one row."""
        _, right, _, left = self.padding
        number = len(self.columns)
        return options.max_width - number * (left + right) - (number - 1 if self.box else 0)

    def _listed(self, console: rich.console.Console, width: int) -> Iterable[Text]:
        shown = [str(self.title)] if self.title else []
        yield from (Text(fitting(line, console.encoding), style=self.title_style or "") for line in shown)
        for (first, *others), style in self._texts:
            if first:
                yield Text(fitting(first, console.encoding), style=style, overflow="fold")
            pairs = [f"{name}: {cell}" for name, cell in zip(self._names[1:], others, strict=False) if cell]
            for line in _lines(pairs, width - INDENT):
                yield Text(fitting(" " * INDENT + line, console.encoding), overflow="fold")


def _plain(cell: rich.console.RenderableType | None) -> str:
    return escaped(cell.plain if isinstance(cell, Text) else str(cell or ""))


def _lines(pairs: Sequence[str], width: int) -> list[str]:
    """Return lines with several pairs each; a pair that is too wide for a line continues on the next one."""
    lines: list[str] = []
    for pair in pairs:
        if lines and cell_len(f"{lines[-1]}  {pair}") <= width:
            lines[-1] += f"  {pair}"
        else:
            lines += folded(pair, width, indent=" " * INDENT).split("\n")
    return lines
