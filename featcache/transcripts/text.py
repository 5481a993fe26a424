"""Manifest or ASR transcripts → text of each utterance, as input of a text encoder."""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from featcache.errors import ManifestError
from featcache.manifest import Manifest, Utterance
from featcache.transcripts.files import read_description, read_transcripts
from featcache.units import counted


@dataclass(frozen=True, kw_only=True)
class Transcript:
    """Transcript of an utterance.

    Attributes:
        text: Transcribed text; empty if there is no speech.
    """

    text: str

    @property
    def sha256(self) -> str:
        """SHA-256 of the text in UTF-8, in hexadecimal."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def duration(self) -> float:
        """Duration in seconds: NaN, because a text has none."""
        return math.nan

    @property
    def is_empty(self) -> bool:
        """Whether the text is empty or only white space."""
        return not self.text.strip()


def read_words(cache: Path, manifest: Manifest, transcripts: str | None) -> dict[str, Utterance]:
    """Read the texts of the utterances of a corpus.

    Args:
        cache: Cache folder of the corpus.
        manifest: Manifest of the corpus.
        transcripts: Name of ASR transcripts; None uses the transcripts of the manifest.

    Returns:
        Utterance id → utterance with its transcript and without ``start`` and ``end``, in the order of the manifest.
        Utterances without an ASR transcript are missing.

    Raises:
        ManifestError: no utterance has text.
        StoreError: there are no transcripts of this name, or they are unfinished.
    """
    texts: Mapping[str, str] = {u.utterance_id: u.transcript for u in manifest}
    if transcripts is not None:
        texts = read_transcripts(cache, transcripts)
    found = {
        u.utterance_id: replace(u, start=None, end=None, transcript=texts[u.utterance_id])
        for u in manifest
        if u.utterance_id in texts
    }
    if all(Transcript(text=utterance.transcript).is_empty for utterance in found.values()):
        number = counted(len(manifest), "utterance")
        if transcripts is not None:
            raise ManifestError(f"the transcripts {transcripts!r} have no text for any of {number}")
        raise ManifestError(
            f"none of {number} has text: the manifest's column 'transcript' is empty or missing; "
            "fill it, or run 'featcache transcribe' and give the name of the ASR transcripts with --transcripts"
        )
    return found


def made_by(cache: Path, transcripts: str) -> str:
    """Return the settings of ASR transcripts as JSON.

    Args:
        cache: Cache folder of the corpus.
        transcripts: Name of the ASR transcripts.

    Raises:
        StoreError: there are no such transcripts, they are unfinished, or their description is damaged.
    """
    return json.dumps(read_description(cache, transcripts)["settings"], sort_keys=True)
