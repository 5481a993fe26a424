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
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import overload

from featcache.errors import ManifestError, listed
from featcache.files import is_left_by_macos, replace_file
from featcache.tables import as_row, fields_of, open_table

FIXED_COLUMNS = ("utterance_id", "path", "start", "end", "speaker_id", "transcript")
USUAL_NAMES = {
    "path": ("file_name", "filename", "file", "wav"),
    "speaker_id": ("speaker", "spk"),
    "transcript": ("transcription",),
}
"""What others call a fixed column."""
# Values that many utterances share are kept once, up to so many of them.
_MOST_SHARED = 1 << 16

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Utterance:
    """One labelled stretch of audio.

    Attributes:
        utterance_id: Unique in its corpus.
        path: Audio file, relative to the corpus folder, with forward slashes.
        speaker_id: Who speaks; empty when unknown.
        start: Where the utterance begins in the file, in seconds; None is the beginning.
        end: Where it ends, in seconds; None is the end of the file.
        transcript: The words, when known.
        labels: Every other column of the manifest, as text; an empty text is no label.
    """

    utterance_id: str
    path: str
    speaker_id: str = ""
    start: float | None = None
    end: float | None = None
    transcript: str = ""
    labels: dict[str, str] = field(default_factory=dict)


class Manifest(Sequence[Utterance]):
    """The utterances of a corpus, in order, each with an id of its own.

    Raises:
        ManifestError: no utterances; ids that are empty or stand twice; paths that are missing or leave the corpus
            folder; an end that is not after its start; labels named like a fixed column. All are told at once.
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
        with open_table(path, ("path", *USUAL_NAMES["path"])) as table:
            _fixed_names(table.columns, path)
            rows = ((place, as_row(table.columns, cells)) for place, cells in table.rows)
            return cls.from_rows(rows, path, columns=table.columns)

    @classmethod
    def from_rows(
        cls, rows: Iterable[tuple[str, Mapping[str, str]]], source: Path, *, columns: Sequence[str] | None = None
    ) -> "Manifest":
        """Make a manifest of the rows of a table.

        Args:
            rows: Where each stands, for messages, and its columns; those that it lacks are empty.
            source: The file they come from, or its folder. An absolute path inside that folder is made relative.
            columns: The names of all columns, where they are known.

        Raises:
            ManifestError: no column for the path, two that could be, or faulty rows; all of these are told at once.
        """
        if columns is None:
            rows = list(rows)
            columns = tuple(dict.fromkeys(name for _, row in rows for name in row if isinstance(name, str)))
        make = _Maker(columns, source)
        utterances: list[Utterance] = []
        left: list[Utterance] = []
        faults = []
        for place, row in rows:
            fields = fields_of(row)
            if fields is not None:
                faults.append(f"{place} has not as many fields as the header ({fields}, expected {len(columns)})")
                continue
            try:
                utterance = make(row)
            except ValueError as error:
                faults.append(f"{place}: {error}")
            else:
                (left if is_left_by_macos(utterance.path) else utterances).append(utterance)
        if faults:
            raise ManifestError(f"{source}: {'; '.join(faults[:3])}{_more(faults)}")
        if left:
            names = listed(utterance.path for utterance in left)
            log.warning("%s: %d files that macOS added are left out: %s", source, len(left), names)
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


class _Maker:
    """Makes utterances of the rows of a table.

    Raises:
        ManifestError: no column for the path, or two that could be.
    """

    def __init__(self, columns: Sequence[str], source: Path) -> None:
        names = _fixed_names(columns, source) if columns else {}
        self._fixed = {name: names.get(name, name) for name in columns}
        folder = source if source.is_dir() else source.parent
        self._roots = [f"{root.as_posix().rstrip('/')}/" for root in (folder.absolute(), folder.resolve())]
        self._shared: dict[str, str] = {}

    def __call__(self, row: Mapping[str, str]) -> Utterance:
        fixed: dict[str, str] = {}
        labels: dict[str, str] = {}
        for name, value in row.items():
            column = self._fixed[name]
            (fixed if column in FIXED_COLUMNS else labels)[column] = self._share(value)
        path = self._relative(fixed["path"])
        return Utterance(
            utterance_id=fixed.get("utterance_id") or os.path.splitext(path)[0],
            path=path,
            speaker_id=fixed.get("speaker_id", ""),
            start=_seconds("start", fixed.get("start", "")),
            end=_seconds("end", fixed.get("end", "")),
            transcript=fixed.get("transcript", ""),
            labels=labels,
        )

    def _share(self, value: str) -> str:
        if len(self._shared) < _MOST_SHARED:
            return self._shared.setdefault(value, value)
        return self._shared.get(value, value)

    def _relative(self, path: str) -> str:
        """The path from the folder of the table on, where it is an absolute one into that folder."""
        if os.path.isabs(path):
            posix = path.replace(os.sep, "/")
            for root in self._roots:
                if posix.startswith(root):
                    return posix.removeprefix(root)
        return path


def _seconds(column: str, text: str) -> float | None:
    if text == "" or text.isspace():
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        hint = "; write a point in place of the comma" if re.fullmatch(r"\s*\d+,\d+\s*", text) else ""
        raise ValueError(f"{column} is {text!r}, expected seconds from 0 on{hint}")
    return seconds


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
