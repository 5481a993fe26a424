"""Manifest, or transcripts of a machine → the words of each utterance, as a text encoder reads them."""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from featcache.errors import ManifestError
from featcache.manifest import Manifest, Utterance
from featcache.transcripts.files import read_description, read_transcripts


@dataclass(frozen=True, kw_only=True)
class Transcript:
    """The text of an utterance.

    Attributes:
        text: As transcribed; empty where nothing is said.
    """

    text: str

    @property
    def sha256(self) -> str:
        """Of the text in UTF-8, in hexadecimal."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def duration(self) -> float:
        """Unknown: NaN, in seconds."""
        return math.nan

    @property
    def is_empty(self) -> bool:
        """Whether nothing is said: white space is no word."""
        return not self.text.strip()


def read_words(cache: Path, manifest: Manifest, transcripts: str | None) -> dict[str, Utterance]:
    """Utterance id → the utterance as far as its words go: which they are, but not where they stand in a file.

    Args:
        cache: The corpus's folder of stores.
        manifest: Of the corpus.
        transcripts: The name of a machine's; None is those of the manifest.

    Returns:
        The manifest's utterances in its order, without those that the machine has no transcript of.

    Raises:
        ManifestError: no utterance has words.
        FeatcacheError: no transcripts of that name, or unfinished ones.
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
        if transcripts is not None:
            raise ManifestError(f"the transcripts {transcripts!r} have no words for any of {len(manifest)} utterances")
        raise ManifestError(
            f"none of {len(manifest)} utterances has words: the manifest's column 'transcript' is empty or missing; "
            "fill it, or let a machine transcribe ('featcache transcribe') and give its name with --transcripts"
        )
    return found


def made_by(cache: Path, transcripts: str) -> str:
    """The settings that machine transcripts were made with, as JSON."""
    return json.dumps(read_description(cache, transcripts)["settings"], sort_keys=True)
