"""Row of a table → Utterance."""

import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from featcache.files.regular import resolved

FIXED_COLUMNS = ("utterance_id", "path", "start", "end", "speaker_id", "transcript")
NO_TARGETS = ("split", "fold")
"""Columns that say how utterances are divided, and are therefore no labels to predict."""
VOTES = "votes_"
"""Beginning of the columns that count the votes of annotators: ``votes_LABEL_CLASS``."""
# Maximum number of different values that are stored once and shared by many utterances.
_MOST_SHARED = 1 << 16


@dataclass(frozen=True, kw_only=True, slots=True)
class Utterance:
    """One labelled segment of an audio file.

    All arguments are keywords and become attributes. They are checked when a :class:`Manifest` is made.

    Args:
        utterance_id: Id, unique in the corpus.
        path: Audio file, relative to the corpus folder, with forward slashes.
        speaker_id: Id of the speaker; empty if unknown.
        start: Start of the utterance in the file, in seconds; None for the beginning of the file.
        end: End of the utterance in the file, in seconds; None for the end of the file.
        transcript: Human transcript; empty if unknown.
        labels: Name → label, as text, for every other column of the manifest; an empty text means no label.

    Example:
        >>> utterance = featcache.Utterance(
        ...     utterance_id="03a01Fa", path="wav/03a01Fa.wav", speaker_id="03", labels={"emotion": "happiness"}
        ... )
        >>> utterance.labels["emotion"]
        'happiness'
    """

    utterance_id: str
    path: str
    speaker_id: str = ""
    start: float | None = None
    end: float | None = None
    transcript: str = ""
    labels: dict[str, str] = field(default_factory=dict)

    @property
    def has_label(self) -> bool:
        """Whether the utterance has any label to predict; ``split``, ``fold`` and votes are none."""
        return any(value and is_target(name) for name, value in self.labels.items())


def is_target(column: str) -> bool:
    """Return whether a label column can be predicted: no ``split``, no ``fold`` and no votes of annotators."""
    return column not in NO_TARGETS and not column.startswith(VOTES)


class RowReader:
    """Converter from rows of a table to utterances.

    Args:
        columns: Names of the columns.
        fixed: Name of a column → fixed column, for fixed columns with another name.
        source: Table file, or its folder. Absolute paths inside that folder are made relative.
    """

    def __init__(self, columns: Sequence[str], fixed: Mapping[str, str], source: Path) -> None:
        names = [fixed.get(name, name) for name in columns]
        # A column that does not exist has the place after the last one, where every row gets an empty cell.
        places = {name: names.index(name) if name in names else len(names) for name in FIXED_COLUMNS}
        self._path = names.index("path") if "path" in names else 0
        self._id, self._speaker, self._transcript = (
            places[name] for name in ("utterance_id", "speaker_id", "transcript")
        )
        self._start, self._end = places["start"], places["end"]
        self._labels = [(name, place) for place, name in enumerate(names) if name not in FIXED_COLUMNS]
        folder = source if source.is_dir() else source.parent
        self._roots = [f"{root.as_posix().rstrip('/')}/" for root in (folder.absolute(), resolved(folder))]
        self._shared: dict[str, str] = {}

    def __call__(self, cells: Sequence[str | None]) -> Utterance:
        """Make an utterance from a row.

        Args:
            cells: One cell per column; None for a missing cell.

        Raises:
            ValueError: start or end is not a time.
        """
        if len(self._shared) > _MOST_SHARED:
            self._shared.clear()
        share = self._shared.setdefault
        cells = [*cells, ""]
        path = self._relative(cells[self._path] or "")
        speaker_id, transcript = cells[self._speaker] or "", cells[self._transcript] or ""
        return Utterance(
            utterance_id=cells[self._id] or os.path.splitext(path)[0],
            path=share(path, path),
            speaker_id=share(speaker_id, speaker_id),
            start=seconds_in("start", cells[self._start] or ""),
            end=seconds_in("end", cells[self._end] or ""),
            transcript=share(transcript, transcript),
            labels={name: share(value, value) for name, place in self._labels if (value := cells[place]) is not None},
        )

    def _relative(self, path: str) -> str:
        """Return a path relative to the folder of the table, if it is an absolute path inside that folder."""
        if os.path.isabs(path):
            posix = path.replace(os.sep, "/")
            for root in self._roots:
                if posix.startswith(root):
                    return posix.removeprefix(root)
        return path


def seconds_in(column: str, text: str) -> float | None:
    """Return the time that a cell contains, or None for an empty cell.

    Args:
        column: Name of the column, for the message.
        text: Content of the cell.

    Raises:
        ValueError: it is not a time in seconds.
    """
    if text == "" or text.isspace():
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        hint = "; use a decimal point instead of the comma" if re.fullmatch(r"\s*\d+,\d+\s*", text) else ""
        raise ValueError(f"{column} is {text!r}, expected seconds, 0 or more{hint}")
    return seconds
