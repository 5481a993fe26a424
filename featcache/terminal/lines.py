"""Lines for the terminal: folded between words where they are read, and unbroken where a program reads them."""

import os
import sys
from collections.abc import Iterator
from typing import Any

from rich.cells import cell_len


def print_error(text: str) -> None:
    """Print one line to standard error, folded between words on a terminal."""
    print(for_stream(text, sys.stderr), file=sys.stderr)


def for_stream(text: str, stream: Any) -> str:
    """Return a line as it is printed to a stream: folded between words on a terminal, and otherwise unchanged."""
    width = width_of(stream)
    return text if width is None else folded(text, width)


def width_of(stream: Any) -> int | None:
    """Return the number of columns of the terminal behind a stream, or None if it is no terminal."""
    try:
        if stream is None or not stream.isatty():
            return None
        given = os.environ.get("COLUMNS", "")
        return int(given) if given.isdecimal() and int(given) else os.get_terminal_size(stream.fileno()).columns
    except (AttributeError, OSError, ValueError):
        return None


def folded(text: str, width: int, *, indent: str = "") -> str:
    """Return a line folded between words; a word that is wider than the terminal stays whole.

    Args:
        text: One line. Its blanks are kept, except those at a fold.
        width: Width of the terminal, in columns.
        indent: Beginning of all lines but the first.
    """
    return ("\n" + indent).join(_folds(text, width, cell_len(indent)))


def _folds(text: str, width: int, indent: int) -> Iterator[str]:
    room, line, blanks = width, "", 0
    for word in text.split(" "):
        longer = f"{line}{' ' * blanks}{word}"
        if line.strip() and word and cell_len(longer) > room:
            yield line
            room, line, blanks = width - indent, word, 1
        elif word:
            line, blanks = longer, 1
        else:
            blanks += 1
    yield line
