"""Utterances of a cache ↔ their audio: the SHA-256 of the file, and the start and end in it.

A store of a fine-tuned model keeps the audio of the corpus on which its run was trained, so that a fit finds the same
audio in a corpus of another name. Stores of earlier releases do not have this file.
"""

import hashlib
import json
import math
from collections import defaultdict
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from featcache.cache.reader import FeatureCache, FeatureStore
from featcache.errors import FeatcacheError, StoreError
from featcache.files.regular import replace_file
from featcache.files.values import damaged, read_json

AUDIO = "audio_of_run.json"
_HINT = "remove it, and run 'featcache extract' again"
_FILES, _SHA256 = "files", "sha256"


class KnownAudio:
    """Audio of the utterances of a corpus."""

    def __init__(self) -> None:
        self._parts: dict[str, list[tuple[str, float, float]]] = defaultdict(list)

    def __len__(self) -> int:
        return len(self._parts)

    def add(self, utterance_id: str, sha256: str, start: float, end: float) -> None:
        """Add an utterance.

        Args:
            utterance_id: Its id.
            sha256: SHA-256 of its file; an empty one is not added.
            start: Start in the file, in seconds.
            end: End in the file, in seconds; infinite if it lasts to the end of the file.
        """
        if sha256:
            self._parts[sha256].append((utterance_id, start, end))

    def add_store(self, store: FeatureStore) -> None:
        """Add all utterances of a store."""
        ids = store.utterance_ids
        for utterance_id, recording in zip(ids, store.recordings(ids), strict=True):
            self.add(utterance_id, *recording)

    def overlapping(self, sha256: str, start: float, end: float) -> list[str]:
        """Return the ids of the utterances that have some of this audio; arguments as in :meth:`add`."""
        return [i for i, first, last in self._parts.get(sha256, ()) if first < end and start < last]

    def write(self, folder: Path) -> None:
        """Write the audio beside the shards of a store."""
        files = {
            sha256: [[i, start, None if math.isinf(end) else end] for i, start, end in sorted(parts)]
            for sha256, parts in sorted(self._parts.items())
        }
        replace_file(folder / AUDIO, json.dumps({_FILES: files, _SHA256: _digest(files)}, ensure_ascii=False).encode())

    @classmethod
    def read(cls, folder: Path) -> "KnownAudio | None":
        """Return the audio that :meth:`write` wrote beside the shards of a store; None if there is none.

        Raises:
            StoreError: the file is damaged.
        """
        path = folder / AUDIO
        if not path.exists():
            return None
        content = read_json(path, dict, _HINT)
        files = content.get(_FILES)
        if not isinstance(files, dict) or content.get(_SHA256) != _digest(files):
            raise damaged(path, "its checksum is wrong", _HINT)
        found = cls()
        for sha256, parts in files.items():
            if not isinstance(parts, list) or not all(map(_is_part, parts)):
                raise damaged(path, "expected the id, start and end of each utterance of a file", _HINT)
            for utterance_id, start, end in parts:
                found.add(utterance_id, sha256, start, math.inf if end is None else end)
        return found


def audio_store(folder: Path, preferred: Collection[str]) -> FeatureStore | None:
    """Return a store of a cache that records the checksums of audio; None if there is none.

    Args:
        folder: Folder of the cache, which may not exist.
        preferred: Names of stores that are tried first.
    """
    try:
        cache = FeatureCache(folder)
    except (FeatcacheError, OSError):
        return None
    for name in dict.fromkeys([*preferred, *cache]):
        try:
            store = cache[name]
        except FeatcacheError:
            continue
        if tells_audio(store):
            return store
    return None


def tells_audio(store: FeatureStore) -> bool:
    """Check whether a store records the checksums of audio, not of text."""
    ids: Sequence[str] = store.utterance_ids
    return not store.is_of_words and len(ids) > 0 and any(store.audio_sha256(ids))


def faults_of_audio(folder: Path) -> list[str]:
    """Return the faults of the file with the audio, if a store has one."""
    try:
        KnownAudio.read(folder)
    except StoreError as error:
        return [str(error)]
    return []


def _is_part(part: Any) -> bool:
    if not isinstance(part, list) or len(part) != 3 or not isinstance(part[0], str):
        return False
    start, end = part[1:]
    return _is_time(start) and (end is None or _is_time(end))


def _is_time(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _digest(files: Any) -> str:
    return hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()
