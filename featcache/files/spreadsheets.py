"""Table file → columns and rows, for every encoding and separator that spreadsheet programs use."""

import codecs
import csv
import io
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

from featcache.errors import ManifestError
from featcache.files.content import HEAD_BYTES, describe_content
from featcache.files.regular import open_regular, read_regular

MOST_BYTES = 1 << 30
"""Largest size of a table in bytes. A table is read whole, and a larger file is not a table of utterances."""
SEPARATORS = ",\t;|"
# Longest cell. The default of Python's csv, 131072 characters, is only enough for about two hours of speech.
_MOST_CHARACTERS = 2**31 - 1
_LONGEST_LINE = 1 << 16
_BYTE_ORDER_MARK = "\ufeff"
_NAMED_SEPARATOR = re.compile(r"\"?sep=(.)\"?[,;\t|]*[\r\n]*", re.IGNORECASE)
_MARKS = (  # The longer ones come first, because they begin like the shorter ones.
    ("utf-32-le", codecs.BOM_UTF32_LE),
    ("utf-32-be", codecs.BOM_UTF32_BE),
    ("utf-16-le", codecs.BOM_UTF16_LE),
    ("utf-16-be", codecs.BOM_UTF16_BE),
    ("utf-8", codecs.BOM_UTF8),
)

Row = dict[str, str]


@dataclass(frozen=True, kw_only=True)
class Records:
    """Table that is being read.

    Attributes:
        columns: Names in the header, without spaces around them.
        separator: Character between cells.
        rows: Place of each row, for messages, and its cells. A row with another number of cells than columns is faulty.
    """

    columns: list[str]
    separator: str
    rows: Iterator[tuple[str, list[str]]]


def read_text(path: Path, *, lenient: bool = False) -> str:
    """Read a text file in UTF-8, UTF-16 or UTF-32.

    Args:
        path: Text file.
        lenient: Whether to replace bytes that are not valid in the encoding.

    Raises:
        ManifestError: the file cannot be read, is too large, or has another encoding.
    """
    with open_text(path, lenient=lenient) as file:
        return file.read()


def first_line(path: Path) -> str:
    """Return the first line of a file, to recognise its content; empty if the file cannot be read."""
    try:
        head = read_regular(path, _LONGEST_LINE)
    except OSError:
        return ""
    encoding, begin = _encoding(head)
    return head[begin:].decode(encoding, "replace").partition("\n")[0]


@contextmanager
def open_text(path: Path, *, lenient: bool = False) -> Iterator[io.TextIOWrapper]:
    """Open a text file in UTF-8, UTF-16 or UTF-32; line ends stay unchanged.

    Args:
        path: Text file.
        lenient: Whether to replace bytes that are not valid in the encoding. Some published files contain such bytes.

    Raises:
        ManifestError: the file cannot be read, is too large, or has another encoding; also while it is being read.
    """
    try:
        with open_regular(path) as content:
            size = content.seek(0, io.SEEK_END)
            if size > MOST_BYTES:
                raise ManifestError(
                    f"{path}: {size} bytes, but a table of utterances has at most {MOST_BYTES}; split it"
                )
            content.seek(0)
            encoding, begin = _encoding(content.read(HEAD_BYTES))
            content.seek(begin)
            errors = "replace" if lenient else "strict"
            with io.TextIOWrapper(content, encoding=encoding, errors=errors, newline="") as file:
                yield file
    except OSError as error:
        raise ManifestError(f"{path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ManifestError(f"{path}: cannot be read as UTF-8 text: {_describe(path)}") from error


@contextmanager
def open_table(path: Path, expected: Sequence[str] = (), *, lenient: bool = False) -> Iterator[Records]:
    """Open a CSV table, whose cells are separated by commas, tabs, semicolons or bars.

    Args:
        path: Table file. Its first line may be ``sep=;``, as spreadsheet programs write it.
        expected: Names of expected columns. The separator for which the header contains one of them is chosen.
        lenient: Whether to replace bytes that are not valid in the encoding.

    Raises:
        ManifestError: the file cannot be read, is not CSV, or has two columns with the same name; also while it is
            being read.
    """
    csv.field_size_limit(_MOST_CHARACTERS)
    with open_text(path, lenient=lenient) as file:
        first, skipped = _next_line(file)
        named = _NAMED_SEPARATOR.fullmatch(first)
        if named:
            first, behind = _next_line(file)
            skipped += behind
        separator, blanks = _separator(first, expected)
        separator = named[1] if named else separator
        lines = csv.reader(chain([first], file), strict=True, delimiter=separator, skipinitialspace=blanks)
        started = skipped
        try:
            header = next((cells for cells in lines if _holds(cells)), [])
            started = lines.line_num + skipped

            columns = _names(header, path)
            if header and expected and not set(expected) & set(columns):
                _refuse_other_content(path)

            def rows() -> Iterator[tuple[str, list[str]]]:
                nonlocal started
                number = 2
                for cells in lines:
                    started = lines.line_num + skipped
                    if len(cells) > len(columns) and not any(cells[len(columns) :]):
                        cells = cells[: len(columns)]  # noqa: PLW2901, spreadsheets append empty cells
                    if _holds(cells):
                        yield f"row {number}", cells
                    number += bool(cells)

            yield Records(columns=columns, separator=separator, rows=rows())
        except csv.Error as error:
            raise ManifestError(f"{path}: not a CSV table (row that begins in line {started}: {error})") from error


def read_csv(
    path: Path, expected: Sequence[str] = (), *, lenient: bool = False
) -> tuple[list[str], list[tuple[str, Row]]]:
    """Read a whole CSV table.

    Args:
        path: Table file.
        expected: Names of expected columns, see :func:`open_table`.
        lenient: Whether to replace bytes that are not valid in the encoding.

    Returns:
        Columns, and for each row its place and its cells as :func:`as_row` returns them.

    Raises:
        ManifestError: see :func:`open_table`.
    """
    with open_table(path, expected, lenient=lenient) as table:
        return table.columns, [(place, as_row(table.columns, cells)) for place, cells in table.rows]


def as_row(columns: Sequence[str], cells: Sequence[str]) -> Row:
    """Return column → cell, as ``csv.DictReader`` does: a missing cell is None, and extra cells have the name None.

    Args:
        columns: Names of the columns.
        cells: Cells of the row.
    """
    if len(cells) == len(columns):
        return dict(zip(columns, cells, strict=True))
    row: dict[Any, Any] = dict(zip_longest(columns, cells[: len(columns)]))
    if any(cells[len(columns) :]):
        row[None] = cells[len(columns) :]
    return row


def is_whole(row: Mapping[str, str]) -> bool:
    """Check whether a row has the same number of fields as the header."""
    return None not in row and None not in row.values()


def _next_line(file: io.TextIOWrapper) -> tuple[str, int]:
    """Return the next line that is not blank, and the number of lines read."""
    number = 1
    line = file.readline()
    while line and not line.strip():
        line = file.readline()
        number += 1
    return line, number


def _holds(cells: Sequence[str]) -> bool:
    """Check whether a row contains anything but spaces."""
    return any(map(str.strip, cells))


def _refuse_other_content(path: Path) -> None:
    """Raise an error for a text that is not a table, such as a Git LFS pointer, an error page or a tiny archive."""
    kind = describe_content(read_regular(path, HEAD_BYTES), text=False)
    if kind is not None:
        raise ManifestError(f"{path}: not a CSV table but {kind}")


def _encoding(head: bytes) -> tuple[str, int]:
    """Return the encoding of a text, and the number of bytes of its byte order marks."""
    for encoding, mark in _MARKS:
        begin = 0
        while head.startswith(mark, begin):
            begin += len(mark)
        if begin:
            return encoding, begin
    # In UTF-16, one of the two bytes of each comma and line break is 0. UTF-8 text contains no such byte.
    first, second = head[::2].count(0), head[1::2].count(0)
    if max(first, second) >= max(2, len(head) // 50):
        if second > 2 * first:
            return "utf-16-le", 0
        if first > 2 * second:
            return "utf-16-be", 0
    return "utf-8", 0


def _describe(path: Path) -> str:
    """Describe the position of the first byte that is not valid in the encoding, or the content of the file."""
    with open_regular(path) as file:
        content = file.read()
    encoding, begin = _encoding(content[:HEAD_BYTES])
    kind = describe_content(content[:HEAD_BYTES])
    if kind is not None:
        return f"it is {kind}"
    try:
        content[begin:].decode(encoding)
    except UnicodeDecodeError as error:
        before = content[begin : begin + error.start].decode(encoding)
        line = before[before.rfind("\n") + 1 :]
        return (
            f"line {before.count(chr(10)) + 1}, character {len(line) + 1} is the byte "
            f"0x{error.object[error.start]:02x} (after {line[-20:]!r}), expected {encoding.upper()}; save the file as "
            "UTF-8, which Excel calls 'CSV UTF-8'"
        )
    return "it changed while it was read"


def _separator(line: str, expected: Sequence[str]) -> tuple[str, bool]:
    """Return the character between the cells of a header, and whether a space follows it each time."""
    headers = {separator: next(csv.reader([line], delimiter=separator), []) for separator in SEPARATORS}
    found = [s for s, header in headers.items() if {name.strip() for name in header} & set(expected)]
    separator = found[0] if found else max(SEPARATORS, key=lambda s: len(headers[s]))
    later = headers[separator][1:]
    return separator, bool(later) and all(name.startswith(" ") for name in later)


def _names(header: Sequence[str], path: Path) -> list[str]:
    """Return the names of the columns, without the empty names that spreadsheet programs add at the end."""
    names = [name.strip().strip(_BYTE_ORDER_MARK).strip() for name in header]
    while names and names[-1] == "":
        names.pop()
    twice = [f"column {name!r} occurs {count} times" for name, count in Counter(names).items() if count > 1]
    if twice:
        raise ManifestError(f"{path}: {'; '.join(twice)}; give each column its own name")
    return names
