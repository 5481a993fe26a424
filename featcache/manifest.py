"""CSV → Manifest: which utterances there are, who speaks, and their labels.

A manifest is a CSV file with the columns ``utterance_id, path, start, end, speaker_id, <labels>…, transcript``.
Only ``path`` is required. ``path`` is relative to the folder that holds the audio; ``start`` and ``end`` are
seconds; every column without a fixed meaning is a label. All labels are text until a fit asks for numbers.
Where a fixed column is missing, the one other column that is a usual name for it takes its place.
"""

import csv
import io
import logging
import math
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import overload

from featcache.errors import ManifestError, listed
from featcache.files.regular import is_left_by_macos, replace_file
from featcache.files.spreadsheets import is_whole, open_table
from featcache.utterances import FIXED_COLUMNS, RowReader, Utterance

__all__ = ["FIXED_COLUMNS", "USUAL_NAMES", "Manifest", "Utterance"]

USUAL_NAMES = {
    "path": ("file_name", "filename", "file", "wav"),
    "speaker_id": ("speaker", "spk"),
    "transcript": ("transcription",),
}
"""What others call a fixed column."""

# Bytes of a table whose reading takes so long that it is told.
_LARGE = 1 << 23

log = logging.getLogger(__name__)


class Manifest(Sequence[Utterance]):
    """The utterances of a corpus, in order, each with an id of its own.

    Raises:
        ManifestError: no utterances; ids that are empty or stand twice; paths that are missing or leave the corpus
            folder; an end that is not after its start; labels named like a fixed column. All are told at once.

    Example:
        >>> manifest = featcache.open("data/cache/emodb").manifest
        >>> manifest["03a01Fa"].speaker_id, manifest["03a01Fa"].labels["emotion"]
        ('03', 'happiness')
    """

    def __init__(self, utterances: Sequence[Utterance]) -> None:
        self._utterances = tuple(utterances)
        self._positions = {utterance.utterance_id: i for i, utterance in enumerate(self._utterances)}
        faults = _faults(self._utterances)
        if faults:
            raise ManifestError("; ".join(faults))

    def __len__(self) -> int:
        return len(self._utterances)

    def __iter__(self) -> Iterator[Utterance]:
        return iter(self._utterances)

    @overload
    def __getitem__(self, key: int | str) -> Utterance: ...

    @overload
    def __getitem__(self, key: slice) -> "Manifest": ...

    def __getitem__(self, key: int | slice | str) -> "Utterance | Manifest":
        """An utterance by its position or its id, or a part of the manifest by a slice."""
        if isinstance(key, slice):
            return Manifest(self._utterances[key])
        return self._utterances[self._positions[key] if isinstance(key, str) else key]

    def __contains__(self, key: object) -> bool:
        return key in self._positions if isinstance(key, str) else key in self._utterances

    @property
    def utterance_ids(self) -> tuple[str, ...]:
        return tuple(utterance.utterance_id for utterance in self._utterances)

    @property
    def speaker_ids(self) -> tuple[str, ...]:
        """The different speakers that are known, sorted."""
        return tuple(sorted({utterance.speaker_id for utterance in self._utterances} - {""}))

    @property
    def label_columns(self) -> tuple[str, ...]:
        """The names of all labels, in the order in which they first appear."""
        return tuple(dict.fromkeys(name for utterance in self._utterances for name in utterance.labels))

    def labels(self, column: str) -> dict[str, str]:
        """Utterance id → label, for the utterances that carry this label.

        Raises:
            ManifestError: no utterance has such a label.
        """
        found = {u.utterance_id: u.labels[column] for u in self._utterances if u.labels.get(column, "") != ""}
        if not found:
            columns = ", ".join(self.label_columns) or "none"
            raise ManifestError(f"no utterance has a label {column!r}; the manifest's label columns are: {columns}")
        return found

    def select(self, /, **wanted: Sequence[str]) -> "Manifest":
        """The utterances whose labels are among the wanted values, for each label named.

        Raises:
            ManifestError: a label that does not exist, or no utterance left.
        """
        for column in wanted:
            self.labels(column)
        kept = [u for u in self._utterances if all(u.labels.get(c, "") in values for c, values in wanted.items())]
        if not kept:
            asked = ", ".join(f"{column} in {listed(values)}" for column, values in wanted.items())
            raise ManifestError(f"no utterance has {asked}")
        return Manifest(kept)

    def subset(self, utterance_ids: Sequence[str]) -> "Manifest":
        """The utterances with these ids, in the manifest's order."""
        wanted = set(utterance_ids)
        return Manifest([u for u in self._utterances if u.utterance_id in wanted])

    def limited(self, limit: int | None) -> "Manifest":
        """So many utterances from all over, always the same; a larger limit keeps all that a smaller one takes."""
        if limit is None or limit >= len(self):
            return self
        import numpy as np

        chosen = np.random.default_rng(0).permutation(len(self))[:limit]
        return Manifest([self._utterances[number] for number in sorted(chosen)])

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> "Manifest":
        """Read a CSV file.

        A missing ``utterance_id`` is the path without its extension.

        Raises:
            ManifestError: the file cannot be read, misses a column for the path, or holds faulty rows.
        """
        path = Path(path)
        if path.is_file() and path.stat().st_size > _LARGE:
            log.info("reading %s", path)
        with open_table(path, ("path", *USUAL_NAMES["path"])) as table:
            _fixed_names(table.columns, path)
            return cls._from_cells(table.columns, table.rows, path)

    @classmethod
    def from_rows(cls, rows: Iterable[tuple[str, Mapping[str, str]]], source: Path) -> "Manifest":
        """Make a manifest of the rows of a table.

        Args:
            rows: Where each stands, for messages, and its columns; those that it lacks are empty.
            source: The file they come from, or its folder. An absolute path inside that folder is made relative.

        Raises:
            ManifestError: no column for the path, two that could be, or faulty rows; all of these are told at once.
        """
        rows = list(rows)
        columns = tuple(dict.fromkeys(name for _, row in rows for name in row if isinstance(name, str)))
        cells = ((place, [row.get(name) for name in columns] if is_whole(row) else None) for place, row in rows)
        return cls._from_cells(columns, cells, source)

    @classmethod
    def _from_cells(
        cls, columns: Sequence[str], rows: Iterable[tuple[str, Sequence[str | None] | None]], source: Path
    ) -> "Manifest":
        make = RowReader(columns, _fixed_names(columns, source) if columns else {}, source)
        utterances: list[Utterance] = []
        left: list[str] = []
        faults = []
        for place, cells in rows:
            if cells is None or len(cells) != len(columns):
                found = "" if cells is None else f" ({len(cells)}, expected {len(columns)})"
                faults.append(f"{place} has not as many fields as the header{found}")
                continue
            try:
                utterance = make(cells)
            except ValueError as error:
                faults.append(f"{place}: {error}")
                continue
            if is_left_by_macos(utterance.path):
                left.append(utterance.path)
            else:
                utterances.append(utterance)
        if faults:
            raise ManifestError(f"{source}: {'; '.join(faults[:3])}{_more(faults)}")
        if left:
            log.warning("%s: %d files that macOS added are left out: %s", source, len(left), listed(left))
        try:
            return cls(utterances)
        except ManifestError as error:
            raise ManifestError(f"{source}: {error}") from None

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write as CSV; an existing file is replaced whole or not at all."""
        labels = self.label_columns
        text = io.StringIO(newline="")
        table = csv.writer(text)  # its \r\n line ends make it quote a lone \r too, which it otherwise would not
        table.writerow(["utterance_id", "path", "start", "end", "speaker_id", *labels, "transcript"])
        for u in self._utterances:
            times = ["" if seconds is None else str(float(seconds)) for seconds in (u.start, u.end)]
            values = [u.labels.get(name, "") for name in labels]
            table.writerow([u.utterance_id, u.path, *times, u.speaker_id, *values, u.transcript])
        replace_file(path, text.getvalue().encode())


def _fixed_names(columns: Sequence[str], source: Path) -> dict[str, str]:
    """Name of a column → the fixed column that it is, where that has another name."""
    names = {}
    for fixed, usual in USUAL_NAMES.items():
        if fixed in columns:
            continue
        there = [name for name in usual if name in columns]
        if len(there) > 1:
            raise ManifestError(f"{source}: {listed(there)} could each be the column {fixed!r}; call one of them so")
        if there:
            names[there[0]] = fixed
    if "path" not in columns and "path" not in names.values():
        found = ", ".join(repr(name) for name in columns) or "an empty file"
        raise ManifestError(f"{source}: expected a CSV table with a column 'path', found {found}")
    return names


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:  # a file name in another encoding
        return False
    return "\0" not in name


def _faults(utterances: Sequence[Utterance]) -> list[str]:
    if not utterances:
        return ["the manifest has no utterances"]
    faults = []
    counts = Counter(utterance.utterance_id for utterance in utterances)
    twice = [utterance_id for utterance_id, count in counts.items() if count > 1]
    if twice:
        faults.append(f"utterance ids must be unique, but {listed(twice)} stand more than once")
    if "" in counts:
        faults.append("an utterance id is empty")
    paths = {utterance.path for utterance in utterances}
    no_path = [u.utterance_id for u in utterances if u.path == ""] if "" in paths else []
    if no_path:
        faults.append(f"utterances without a path: {listed(no_path)}")
    not_text = {path for path in paths if not _is_text(path)}
    unwritable = [u.utterance_id for u in utterances if u.path in not_text or not _is_text(u.utterance_id)]
    if unwritable:
        faults.append(f"ids and paths must be UTF-8 text without NUL, unlike {listed(unwritable)}; rename the files")
    leaving = {path for path in paths if path.startswith("/") or ".." in path.split("/")}
    outside = [u.path for u in utterances if u.path in leaving] if leaving else []
    if outside:
        faults.append(f"paths must stay inside the corpus folder, but {listed(outside)} leave it; make them relative")
    early = [u.utterance_id for u in utterances if not 0 <= (u.start or 0.0) < math.inf]
    if early:
        faults.append(f"start is not a time from 0 s on in {listed(early)}")
    reverse = [u.utterance_id for u in utterances if u.end is not None and not (u.start or 0.0) < u.end < math.inf]
    if reverse:
        faults.append(f"end is not after start in {listed(reverse)}")
    fixed = {name for u in utterances for name in u.labels} & set(FIXED_COLUMNS)
    if fixed:
        faults.append(f"labels may not be named like the fixed columns, but {listed(sorted(fixed))} are")
    return faults


def _more(faults: Sequence[str]) -> str:
    return f" (and {len(faults) - 3} more faults)" if len(faults) > 3 else ""
