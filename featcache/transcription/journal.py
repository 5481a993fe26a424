"""Transcript → line of ``journal.jsonl``, written to disk before the next one, so that no transcript is lost.

The first line contains the settings of all transcripts. Each further line contains a transcript and identifies its
audio. If an utterance has several lines, the last one counts. A last line without a line break is an interrupted write;
it is removed.
"""

import json
import os
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from featcache.cache.identity import StoreIdentity
from featcache.errors import StoreError
from featcache.files.disk import reading
from featcache.files.regular import read_regular, replace_file
from featcache.files.values import check_types, damaged, parse_json
from featcache.manifest import Utterance

AGAIN = "transcribe all utterances again with --overwrite"
HINT = "give the new transcripts another name with --name, or transcribe all utterances again with --overwrite"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A transcript and the identity of its audio.

    Attributes:
        utterance_id: Id of the utterance.
        transcript: Text without spaces at both ends; may be empty.
        audio_sha256: SHA-256 of the audio file.
        start: Start of the utterance in the file, in seconds, from the manifest; None is the start of the file.
        end: End of the utterance in the file, in seconds, from the manifest; None is the end of the file.
    """

    utterance_id: str
    transcript: str
    audio_sha256: str
    start: float | None
    end: float | None

    def is_of(self, utterance: Utterance, checksum: str | None) -> bool:
        """Return whether the transcript belongs to this part of this audio.

        Args:
            utterance: The utterance in the manifest.
            checksum: SHA-256 of its audio file; None if the file no longer exists, which keeps the transcript valid.
        """
        same_stretch = (self.start, self.end) == (utterance.start, utterance.end)
        return same_stretch and checksum in (None, self.audio_sha256)


class Journal:
    """Finished transcripts of a corpus, stored in a file. Call :meth:`begin` before adding entries.

    Args:
        path: Path of the file.
        settings: Settings of the transcripts.
        overwrite: Whether existing entries are discarded.

    Attributes:
        entries: Utterance id → entry.

    Raises:
        StoreError: the file has other settings, which the message lists, or is damaged.
    """

    def __init__(self, path: Path, settings: dict[str, Any], *, overwrite: bool = False) -> None:
        self._path = path
        self._settings = settings
        self._identity = StoreIdentity(settings=settings)
        self.entries: dict[str, Entry] = {}
        self._whole = 0  # number of bytes of the file's complete lines
        if path.is_file() and not overwrite:
            self._read()

    def begin(self) -> None:
        """Create the file, or replace a file whose entries are discarded."""
        if self._whole == 0:
            header = _line({"settings": self._settings, "fingerprint": self._identity.fingerprint})
            replace_file(self._path, header)
            self._whole = len(header)

    def add(self, entry: Entry) -> None:
        """Write one entry to disk, and return after it is stored there.

        Raises:
            StoreError: the entry cannot be written. All earlier entries are kept.
        """
        line = _line(asdict(entry))
        try:
            with open(self._path, "r+b") as file:
                file.truncate(self._whole)
                file.seek(self._whole)
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise StoreError(
                f"{self._path} could not be written ({error.strerror}); the {len(self.entries)} earlier transcripts "
                "are kept: free disk space, then run the same command again to continue"
            ) from error
        self._whole += len(line)
        self.entries[entry.utterance_id] = entry

    def _read(self) -> None:
        with reading(self._path):
            content = read_regular(self._path)
        content = content[: content.rfind(b"\n") + 1]
        if not content:
            return
        header, *rows = (parse_json(line, dict, self._path, AGAIN) for line in content.splitlines())
        check_types(header, _HEADER, self._path, AGAIN, required=_HEADER)
        entries = [self._entry(row) for row in rows]
        StoreIdentity(settings=header["settings"]).check_same(self._identity, self._path.parent, HINT)
        self._whole = len(content)
        self.entries = {entry.utterance_id: entry for entry in entries}

    def _entry(self, row: dict[str, Any]) -> Entry:
        check_types(row, _TYPES, self._path, AGAIN, required=_TYPES)
        if row.keys() != _TYPES.keys():
            raise damaged(self._path, f"unknown fields: {', '.join(row.keys() - _TYPES.keys())}", AGAIN)
        return Entry(**row)


_HEADER = {"fingerprint": (str,), "settings": (dict,)}
_SECONDS = (int, float, type(None))
_TYPES: dict[str, tuple[type, ...]] = {field.name: (str,) for field in fields(Entry)}
_TYPES |= {"start": _SECONDS, "end": _SECONDS}


def _line(values: dict[str, Any]) -> bytes:
    # json.dumps escapes line breaks and non-ASCII characters; therefore an entry is always one line.
    return (json.dumps(values) + "\n").encode()
