"""File of labels that a description names → rows of fields."""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath

from featcache.corpora.description import KEY, VALUE, LabelTable
from featcache.corpora.folder_contents import AUDIO_SUFFIXES, MEDIA_SUFFIXES, label_file
from featcache.corpora.jsonl import as_text, read_rows
from featcache.errors import CorpusError, ManifestError, listed
from featcache.files.spreadsheets import SEPARATORS, Row, read_csv, read_text

Fields = dict[str, str]


def find_table(folder: Path, table: LabelTable) -> Path | None:
    """Return the file of a table in the corpus folder, directly below it or in its parent; None if there is none."""
    return label_file(folder, *table.file)


def read_table(path: Path, table: LabelTable) -> dict[str, list[Fields]]:
    """Read a file of labels.

    Args:
        path: The file: ``.json``, ``.jsonl``, or a table with any separator between its columns.
        table: Its description.

    Returns:
        Key, without folders and the suffix of an audio file → fields of each row with this key, in order.

    Raises:
        CorpusError: the file lacks a column, two rows of a table without segments have the same key and differ, or a
            key is not known to its map.
        ManifestError: the file cannot be read.
    """
    found: dict[str, list[Fields]] = {}
    for place, fields in _fields(path, table):
        try:
            key = without_suffix(table.key.fill(fields))
        except KeyError as error:
            raise CorpusError(f"{path}: {place} has the unknown code {error.args[0]!r:.80}") from None
        same = found.setdefault(key, [])
        if same and not table.segments:
            if same[0] == fields:
                continue
            raise CorpusError(f"{path}: {place} contradicts an earlier row of {key!r:.80}; remove one of them")
        same.append(fields)
    return found


def without_suffix(key: str) -> str:
    """Return a key without folders, and without the suffix of an audio or video file."""
    name = key.replace("\\", "/").rpartition("/")[2]
    suffix = PurePosixPath(name).suffix
    return name.removesuffix(suffix) if suffix.lower() in (*AUDIO_SUFFIXES, *MEDIA_SUFFIXES) else name


def _fields(path: Path, table: LabelTable) -> Iterator[tuple[str, Fields]]:
    suffix = path.suffix.lower()
    if table.numbered:
        for place, cells in _without_header(path):
            numbers = {field: int(column) - 1 for field, column in table.columns.items()}
            short = [number + 1 for number in numbers.values() if number >= len(cells)]
            if short:
                raise CorpusError(f"{path}: {place} has {len(cells)} columns, expected {max(short)} or more")
            yield place, {field: cells[number].strip() for field, number in numbers.items()}
        return
    rows: Iterable[tuple[str, Row]]
    if suffix == ".json":
        rows = _of_json(path)
    elif suffix == ".jsonl":
        rows = read_rows(path)
    else:
        columns, rows = read_csv(path, tuple(table.columns.values()), lenient=True)
        _require(path, table, columns)
    for place, row in rows:
        if suffix in (".json", ".jsonl"):
            _require(path, table, tuple(row))
        yield place, {field: (row[column] or "").strip() for field, column in table.columns.items()}


def _require(path: Path, table: LabelTable, columns: Sequence[str]) -> None:
    lacking = [column for column in table.columns.values() if column not in columns]
    if lacking:
        raise CorpusError(
            f"{path}: expected the columns {', '.join(table.columns.values())}, but {listed(lacking)} are missing "
            f"(found {listed(columns, at_most=8)}); fetch the file again"
        )


def _without_header(path: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield the cells of a table without a header, whose columns are separated by spaces or a usual separator."""
    lines = [line for line in io.StringIO(read_text(path, lenient=True), newline=None) if line.strip()]
    separator = max(SEPARATORS, key=lines[0].count) if lines else ","
    blank = bool(lines) and separator not in lines[0]
    for number, line in enumerate(lines, start=1):
        yield f"row {number}", line.split() if blank else _cells(line, separator)


def _cells(line: str, separator: str) -> list[str]:
    """Return the cells of a line; a single quotation mark is part of the text."""
    if line.count('"') % 2 == 0:
        with suppress(csv.Error):
            return next(csv.reader([line], delimiter=separator))
    return line.split(separator)


def _of_json(path: Path) -> Iterator[tuple[str, Row]]:
    """Yield the rows of a JSON file: a list of objects, or an object of objects or values by key."""
    try:
        content = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        if isinstance(error, ManifestError):
            raise
        raise CorpusError(f"{path}: cannot be read as JSON ({error!s:.80}); fetch the file again") from error
    if isinstance(content, dict):
        rows = [{KEY: key, **(value if isinstance(value, dict) else {VALUE: value})} for key, value in content.items()]
    else:
        rows = content if isinstance(content, list) else []
    if not rows or not all(isinstance(row, dict) for row in rows):
        raise CorpusError(f"{path}: expected a list of objects, or an object of objects; fetch the file again")
    for number, row in enumerate(rows, start=1):
        yield f"entry {number}", {as_text(name): as_text(value) for name, value in row.items()}
