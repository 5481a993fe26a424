"""Utterances that failed, with the reason → ``failures.csv``, and back."""

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
    """An utterance that could not be extracted.

    Attributes:
        store: Name of the store in which it is missing.
        utterance_id: Its id in the manifest.
        path: Path of its audio, as in the manifest.
        reason: Reason of the failure, in one line.
    """

    store: str
    utterance_id: str
    path: str
    reason: str


def read_failures(folder: Path) -> list[Failure]:
    """Return the failures listed in a store's ``failures.csv``.

    Raises:
        StoreError: the file is damaged.
    """
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
    """Write the failures of this call, and keep those of other calls.

    Args:
        folder: Folder of the store.
        failures: Failures of this call.
        tried: Ids of the utterances that this call processed; their earlier entries are dropped.

    Returns:
        Ids of all utterances in the list.

    Raises:
        StoreError: the existing list is damaged.
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
