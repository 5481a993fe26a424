"""Transcript → a line of ``journal.jsonl``, on the disk before the next one: what is there is never lost or half there.

The first line holds the settings that all transcripts were made with, each other one a transcript and the audio that it
was made from. Where an utterance stands twice the later line counts. A last line without its end is a write that was
killed: it is cut off.
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

AGAIN = "do all of them anew with --overwrite"
HINT = "give the new ones another name with --name, or do all of them anew with --overwrite"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A transcript, and what it was made from.

    Attributes:
        transcript: Without blanks at either end; may be empty.
        audio_sha256: Of the audio file.
        start: Of the utterance in it, in seconds, as the manifest has it; likewise ``end``.
    """

    utterance_id: str
    transcript: str
    audio_sha256: str
    start: float | None
    end: float | None

    def is_of(self, utterance: Utterance, checksum: str | None) -> bool:
        """Whether this stretch of this audio was transcribed; audio that is gone has no checksum, and keeps its own."""
        same_stretch = (self.start, self.end) == (utterance.start, utterance.end)
        return same_stretch and checksum in (None, self.audio_sha256)


class Journal:
    """What has been transcribed so far, kept in a file; ``begin`` it before anything is added.

    Args:
        path: The file.
        settings: What the transcripts are made with.
        overwrite: Forget what is there.

    Attributes:
        entries: Utterance id → entry.

    Raises:
        StoreError: the file was made with other settings, which are named, or is damaged.
    """

    def __init__(self, path: Path, settings: dict[str, Any], *, overwrite: bool = False) -> None:
        self._path = path
        self._settings = settings
        self._identity = StoreIdentity(settings=settings)
        self.entries: dict[str, Entry] = {}
        self._whole = 0  # the file's bytes that count
        if path.is_file() and not overwrite:
            self._read()

    def begin(self) -> None:
        """Make the file, or replace the one whose entries are to be forgotten."""
        if self._whole == 0:
            header = _line({"settings": self._settings, "fingerprint": self._identity.fingerprint})
            replace_file(self._path, header)
            self._whole = len(header)

    def add(self, entry: Entry) -> None:
        """Write one entry; it is on the disk when this returns.

        Raises:
            StoreError: it cannot be written. What was written before is kept.
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
                f"{self._path} could not be written ({error.strerror}); the {len(self.entries)} transcripts before are "
                "kept: make room, and the same command does the rest"
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
            raise damaged(self._path, f"unknown: {', '.join(row.keys() - _TYPES.keys())}", AGAIN)
        return Entry(**row)


_HEADER = {"fingerprint": (str,), "settings": (dict,)}
_SECONDS = (int, float, type(None))
_TYPES: dict[str, tuple[type, ...]] = {field.name: (str,) for field in fields(Entry)}
_TYPES |= {"start": _SECONDS, "end": _SECONDS}


def _line(values: dict[str, Any]) -> bytes:
    # without line breaks inside, and ASCII, whatever the text is
    return (json.dumps(values) + "\n").encode()
