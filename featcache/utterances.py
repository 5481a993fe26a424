"""Row of a table → Utterance."""

import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from featcache.files.regular import resolved

FIXED_COLUMNS = ("utterance_id", "path", "start", "end", "speaker_id", "transcript")
# Values that many utterances share are kept once, up to so many of them.
_MOST_SHARED = 1 << 16


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


class RowReader:
    """Makes utterances of the rows of a table.

    Args:
        columns: Their names.
        fixed: Name of a column → the fixed column that it is, where that has another name.
        source: The table, or its folder. An absolute path inside that folder is made relative.
    """

    def __init__(self, columns: Sequence[str], fixed: Mapping[str, str], source: Path) -> None:
        names = [fixed.get(name, name) for name in columns]
        places = {name: names.index(name) if name in names else None for name in FIXED_COLUMNS}
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
        """Make an utterance.

        Args:
            cells: As many as there are columns; None where a row lacks one.

        Raises:
            ValueError: a start or end that is no time.
        """
        if len(self._shared) > _MOST_SHARED:
            self._shared.clear()
        share = self._shared.setdefault
        path = self._relative(cells[self._path] or "")
        speaker_id, transcript = (self._cell(cells, place) for place in (self._speaker, self._transcript))
        return Utterance(
            utterance_id=self._cell(cells, self._id) or os.path.splitext(path)[0],
            path=share(path, path),
            speaker_id=share(speaker_id, speaker_id),
            start=_seconds("start", self._cell(cells, self._start)),
            end=_seconds("end", self._cell(cells, self._end)),
            transcript=share(transcript, transcript),
            labels={name: share(value, value) for name, place in self._labels if (value := cells[place]) is not None},
        )

    @staticmethod
    def _cell(cells: Sequence[str | None], place: int | None) -> str:
        return "" if place is None else cells[place] or ""

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
