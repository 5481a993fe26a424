"""CSV → Manifest: utterances of a corpus with their speakers and labels.

A manifest is a CSV file with the columns ``utterance_id, path, start, end, speaker_id, <labels>…, transcript``.
Only ``path`` is required. ``path`` is relative to the folder that contains the audio; ``start`` and ``end`` are in
seconds. Every column without a fixed meaning is a label. Labels are text; a fit converts them to numbers if needed.
If a fixed column is missing, a column with a usual name for it is used instead, such as ``speaker``.
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

from featcache.errors import ManifestError, did_you_mean, listed
from featcache.files.regular import is_left_by_macos, replace_file
from featcache.files.spreadsheets import is_whole, open_table
from featcache.terminal.progress import long_progress
from featcache.units import counted
from featcache.utterances import FIXED_COLUMNS, RowReader, Utterance

__all__ = ["FIXED_COLUMNS", "USUAL_NAMES", "Manifest", "Utterance"]

USUAL_NAMES = {
    "path": ("file_name", "filename", "file", "wav"),
    "speaker_id": ("speaker", "spk"),
    "transcript": ("transcription",),
}
"""Fixed column → other usual names of this column."""

# Size in bytes from which reading a table may take so long that its progress is shown.
_LARGE = 1 << 23
# Number of rows after which this progress is reported.
_STEP = 10_000

log = logging.getLogger(__name__)


class Manifest(Sequence[Utterance]):
    """Ordered utterances of a corpus, with unique ids.

    A manifest is a sequence: it has a length and can be iterated, indexed and sliced. An utterance is also found by its
    id. :meth:`read` reads a manifest from a CSV file, and :meth:`write` writes it.

    Args:
        utterances: Utterances of the corpus, in order.

    Raises:
        ManifestError: there are no utterances; an id is empty or occurs twice; a path is missing or outside the corpus
            folder; an id or path is not UTF-8 text; a start is negative; an end is not after its start; a label has the
            name of a fixed column. The message lists all faults.

    Example:
        >>> manifest = featcache.Manifest(
        ...     [
        ...         featcache.Utterance(utterance_id="a", path="a.wav", speaker_id="03", labels={"emotion": "joy"}),
        ...         featcache.Utterance(utterance_id="b", path="b.wav", speaker_id="08", labels={"emotion": "anger"}),
        ...     ]
        ... )
        >>> manifest.labels("emotion")
        {'a': 'joy', 'b': 'anger'}
        >>> manifest["b"].speaker_id
        '08'
        >>> manifest.select(emotion=["joy"]).utterance_ids
        ('a',)
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
        """Return an utterance by its position or id, or a part of the manifest by a slice.

        Args:
            key: Position, utterance id or slice.

        Raises:
            IndexError: the position is outside the manifest.
            KeyError: the manifest has no utterance with this id.
            ManifestError: the slice is empty.
        """
        if isinstance(key, slice):
            return Manifest(self._utterances[key])
        return self._utterances[self._positions[key] if isinstance(key, str) else key]

    def __contains__(self, key: object) -> bool:
        return key in self._positions if isinstance(key, str) else key in self._utterances

    @property
    def utterance_ids(self) -> tuple[str, ...]:
        """Ids of all utterances, in order."""
        return tuple(utterance.utterance_id for utterance in self._utterances)

    @property
    def speaker_ids(self) -> tuple[str, ...]:
        """Ids of the known speakers, sorted, without repetition."""
        return tuple(sorted({utterance.speaker_id for utterance in self._utterances} - {""}))

    @property
    def label_columns(self) -> tuple[str, ...]:
        """Names of all labels, in the order of their first occurrence."""
        return tuple(dict.fromkeys(name for utterance in self._utterances for name in utterance.labels))

    def labels(self, column: str) -> dict[str, str]:
        """Return the label of each utterance that has one.

        Args:
            column: Name of the label.

        Returns:
            Utterance id → label; utterances with an empty label are left out.

        Raises:
            ManifestError: no utterance has this label.
        """
        found = {u.utterance_id: u.labels[column] for u in self._utterances if u.labels.get(column, "") != ""}
        if not found:
            known = self.label_columns
            raise ManifestError(
                f"no utterance has a label {column!r}; the manifest's label columns are: {', '.join(known) or 'none'}"
                f"{did_you_mean(column, known)}"
            )
        return found

    def select(self, /, **wanted: Sequence[str]) -> "Manifest":
        """Return the utterances whose labels are among the wanted values.

        Args:
            **wanted: Name of a label → wanted values. An utterance must match every label named.

        Returns:
            Manifest of the matching utterances, in the same order.

        Raises:
            ManifestError: no utterance has the label, or no utterance matches.
        """
        for column in wanted:
            self.labels(column)
        kept = [u for u in self._utterances if all(u.labels.get(c, "") in values for c, values in wanted.items())]
        if not kept:
            asked = " and ".join(f"{column} {listed(values)}" for column, values in wanted.items())
            known = {column: listed(sorted(set(self.labels(column).values())), at_most=10) for column in wanted}
            found = "; ".join(f"values of {column}: {values}" for column, values in known.items())
            # The first column with an unknown value; without one, only the combination does not occur.
            near = (
                did_you_mean(value, set(self.labels(column).values()))
                for column, values in wanted.items()
                for value in values
                if value not in self.labels(column).values()
            )
            raise ManifestError(f"no utterance has {asked}; {found}{next(filter(None, near), '')}")
        return Manifest(kept)

    def subset(self, utterance_ids: Sequence[str]) -> "Manifest":
        """Return the utterances with these ids, in the order of the manifest.

        Args:
            utterance_ids: Ids; unknown ids are ignored.

        Raises:
            ManifestError: no utterance has one of these ids.
        """
        wanted = set(utterance_ids)
        return Manifest([u for u in self._utterances if u.utterance_id in wanted])

    def limited(self, limit: int | None) -> "Manifest":
        """Return a random subset of N utterances, in the order of the manifest.

        The subset is the same in every call. A larger limit includes all utterances of a smaller limit.

        Args:
            limit: Number of utterances; None returns all.
        """
        if limit is None or limit >= len(self):
            return self
        import numpy as np

        chosen = np.random.default_rng(0).permutation(len(self))[:limit]
        return Manifest([self._utterances[number] for number in sorted(chosen)])

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> "Manifest":
        """Read a CSV file.

        Args:
            path: CSV file. Commas, semicolons, tabs or bars separate its columns. A missing ``utterance_id`` is
                replaced by the path without its extension.

        Returns:
            Manifest with one utterance per row.

        Raises:
            ManifestError: the file cannot be read, has no column for the path, or has faulty rows.
        """
        path = Path(path)
        size = path.stat().st_size if path.is_file() else 0
        with open_table(path, ("path", *USUAL_NAMES["path"])) as table:
            _fixed_names(table.columns, path)
            rows = _watched(table.rows, path, size) if size > _LARGE else table.rows
            return cls._from_cells(table.columns, rows, path)

    @classmethod
    def from_rows(cls, rows: Iterable[tuple[str, Mapping[str, str]]], source: Path) -> "Manifest":
        """Make a manifest from the rows of a table.

        Args:
            rows: Place of each row, for messages, and its columns; missing columns are empty.
            source: File of the rows, or its folder. Absolute paths inside that folder are made relative.

        Returns:
            Manifest with one utterance per row.

        Raises:
            ManifestError: there is no column for the path, two columns could be it, or rows are faulty.
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
                faults.append(f"{place} has another number of fields than the header{found}")
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
            log.warning("%s: files that macOS added are ignored (%d): %s", source, len(left), listed(left))
        try:
            return cls(utterances)
        except ManifestError as error:
            raise ManifestError(f"{source}: {error}") from None

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write the manifest as a CSV file in UTF-8; if writing fails, an existing file stays unchanged.

        Args:
            path: CSV file; missing folders are created.

        Raises:
            DiskError: the file cannot be written.
        """
        replace_file(path, self.content())

    def content(self) -> bytes:
        """Return the content of the CSV file that :meth:`write` writes."""
        labels = self.label_columns
        text = io.StringIO(newline="")
        table = csv.writer(text)  # It quotes a single \r only if its own line ends are \r\n.
        table.writerow(["utterance_id", "path", "start", "end", "speaker_id", *labels, "transcript"])
        for u in self._utterances:
            times = ["" if seconds is None else str(float(seconds)) for seconds in (u.start, u.end)]
            values = [u.labels.get(name, "") for name in labels]
            table.writerow([u.utterance_id, u.path, *times, u.speaker_id, *values, u.transcript])
        return text.getvalue().encode()


def _watched(
    rows: Iterable[tuple[str, Sequence[str | None]]], path: Path, size: int
) -> Iterator[tuple[str, Sequence[str | None]]]:
    """Yield the rows of a table, and show how much of the file was read."""
    with long_progress(f"reading {path.name}", size) as advance:
        amount = 0
        for number, (place, cells) in enumerate(rows, start=1):
            yield place, cells
            amount += len(cells) + sum(len(cell or "") for cell in cells)
            if number % _STEP == 0:
                advance(amount)
                amount = 0


def _fixed_names(columns: Sequence[str], source: Path) -> dict[str, str]:
    """Return name of a column → fixed column, for fixed columns that have another usual name."""
    names = {}
    for fixed, usual in USUAL_NAMES.items():
        if fixed in columns:
            continue
        there = [name for name in usual if name in columns]
        if len(there) > 1:
            raise ManifestError(f"{source}: {listed(there)} could each be the column {fixed!r}; rename one of them")
        if there:
            names[there[0]] = fixed
    if "path" not in columns and "path" not in names.values():
        found = ", ".join(repr(name) for name in columns) or "an empty file"
        raise ManifestError(f"{source}: expected a CSV table with a column 'path', found {found}")
    return names


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:  # Python marks bytes of a file name in another encoding with surrogates.
        return False
    return "\0" not in name


def _faults(utterances: Sequence[Utterance]) -> list[str]:
    if not utterances:
        return ["the manifest has no utterances"]
    faults = []
    counts = Counter(utterance.utterance_id for utterance in utterances)
    twice = [utterance_id for utterance_id, count in counts.items() if count > 1]
    if twice:
        faults.append(f"several utterances have the same id: {listed(twice)}; ids must be unique")
    if "" in counts:
        faults.append("an utterance id is empty")
    paths = {utterance.path for utterance in utterances}
    no_path = [u.utterance_id for u in utterances if u.path == ""] if "" in paths else []
    if no_path:
        faults.append(f"utterances without a path: {listed(no_path)}")
    not_text = {path for path in paths if not _is_text(path)}
    unwritable = [u.utterance_id for u in utterances if u.path in not_text or not _is_text(u.utterance_id)]
    if unwritable:
        faults.append(f"ids and paths must be UTF-8 text without NUL (wrong: {listed(unwritable)}); rename the files")
    leaving = {path for path in paths if path.startswith("/") or ".." in path.split("/")}
    outside = [u.path for u in utterances if u.path in leaving] if leaving else []
    if outside:
        faults.append(f"paths must stay inside the corpus folder (outside: {listed(outside)}); make them relative")
    early = [u.utterance_id for u in utterances if not 0 <= (u.start or 0.0) < math.inf]
    if early:
        faults.append(f"start is negative or not finite in {listed(early)}")
    reverse = [u.utterance_id for u in utterances if u.end is not None and not (u.start or 0.0) < u.end < math.inf]
    if reverse:
        faults.append(f"end is not after start in {listed(reverse)}")
    fixed = {name for u in utterances for name in u.labels} & set(FIXED_COLUMNS)
    if fixed:
        faults.append(f"labels must not have the name of a fixed column: {listed(sorted(fixed))}")
    return faults


def _more(faults: Sequence[str]) -> str:
    return f" (and {counted(len(faults) - 3, 'more fault')})" if len(faults) > 3 else ""
