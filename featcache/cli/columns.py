"""Columns of a list → a table that fits the terminal, with a line for each item and whole names."""

from collections.abc import Mapping, Sequence

from rich.cells import cell_len

from featcache.report.tables import plain_table
from featcache.terminal.console import Console, print_line
from featcache.terminal.escape import escaped

# Blanks after each column of a table.
_GAP = 2


def print_fitting(columns: Mapping[str, Sequence[str]], *, dropped: Sequence[str] = ()) -> None:
    """Print a table with one line per item. Columns are dropped until it fits; names are never cut.

    Args:
        columns: Header → cells. The first column contains the names; it is always printed.
        dropped: Headers in the order in which they are dropped; by default from the last to the second.
    """
    name, *others = columns
    shown, console = dict(columns), Console()
    for header in dropped or reversed(others):
        if width(shown) > console.width:
            del shown[header]
    if len(shown) == 1:
        for line in (name, *columns[name]):
            print_line(line)
    else:
        table = plain_table(*shown)
        for cells in zip(*shown.values(), strict=True):
            table.add_row(*cells)
        console.print(table)
    missing = [header for header in columns if header not in shown]
    if missing:
        print_line(f"(not shown, for lack of space: {', '.join(missing)})")


def width(columns: Mapping[str, Sequence[str]]) -> int:
    """Return the width of a table with these columns, in columns of the terminal."""
    return sum(_GAP + max(cell_len(escaped(cell)) for cell in (name, *cells)) for name, cells in columns.items())
