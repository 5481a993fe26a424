"""What a store lacks, and why → ``failures.csv``, and back."""

import csv
import io
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from featcache.files.disk import reading, remove
from featcache.files.regular import CsvRows, read_regular, replace_file
from featcache.files.values import damaged

FAILURES = "failures.csv"
COLUMNS = ["utterance_id", "path", "reason"]


@dataclass(frozen=True, kw_only=True)
class Failure:
    """An utterance that a store lacks, and why."""

    store: str
    utterance_id: str
    path: str
    reason: str


def read_failures(folder: Path) -> list[Failure]:
    """What is listed as lacking in a store."""
    path = folder / FAILURES
    if not path.exists():
        return []
    hint = "remove it, and the next 'featcache extract' writes it again"
    try:
        with reading(path):
            text = read_regular(path).decode()
        rows = [row for row in csv.reader(io.StringIO(text, newline="")) if row][1:]
    except (ValueError, csv.Error) as error:
        raise damaged(path, str(error), hint) from error
    if any(len(row) != len(COLUMNS) for row in rows):
        raise damaged(path, f"expected {len(COLUMNS)} fields in every row", hint)
    return [Failure(store=folder.name, utterance_id=row[0], path=row[1], reason=row[2]) for row in rows]


def write_failures(folder: Path, failures: Sequence[Failure], tried: Collection[str]) -> set[str]:
    """List what a store lacks, and what other calls found that it lacks.

    Args:
        folder: The store.
        failures: Of this call.
        tried: The ids of what this call did; of these, what is in the list already is out of date.

    Returns:
        The ids of all that is in the list now.
    """
    path = folder / FAILURES
    listed = [*failures, *(failure for failure in read_failures(folder) if failure.utterance_id not in tried)]
    rows = [[failure.utterance_id, failure.path, failure.reason] for failure in listed]
    if not rows:
        remove(path)
        return set()
    text = io.StringIO(newline="")
    CsvRows(text).add([COLUMNS, *rows])
    replace_file(path, text.getvalue().encode())
    return {row[0] for row in rows}
