"""Stores of text × new audio → the transcripts that their extractors read."""

import logging
from collections.abc import Mapping
from dataclasses import replace

from featcache.errors import FeatcacheError, ManifestError
from featcache.manifest import Utterance
from featcache.prediction.inputs import AudioRequest
from featcache.prediction.recreate import NeededStore
from featcache.settings.extractor_configs import MANIFEST
from featcache.transcripts.text import Transcript, made_by, read_words
from featcache.units import counted

log = logging.getLogger(__name__)


def words_for(store: NeededStore, request: AudioRequest) -> Mapping[str, Utterance]:
    """Return the utterances with the transcripts that a text encoder reads, by their ids.

    ASR transcripts are used if the audio is a corpus that has transcripts of the same name and settings as those of the
    store. Otherwise the transcripts of the manifest are used.

    Args:
        store: Store of a text encoder.
        request: The new audio.

    Raises:
        ManifestError: no utterance has a transcript.
    """
    name = store.identity.settings.get("transcripts", MANIFEST)
    if name != MANIFEST:
        if found := _asr_words(name, store, request):
            return found
        log.warning(
            "%s: the run was trained on the ASR transcripts %r; the transcripts of the manifest are used here",
            store.name,
            name,
        )
    words = {u.utterance_id: replace(u, start=None, end=None) for u in request.manifest}
    missing = sum(Transcript(text=utterance.transcript).is_empty for utterance in words.values())
    if missing == len(words):
        raise ManifestError(
            f"the run reads transcripts (features {store.name!r}), but none of {counted(len(words), 'utterance')} has "
            "one; give a manifest with the columns 'path' and 'transcript'"
        )
    if missing:
        log.warning("%d of %s have no transcript; an empty text is used", missing, counted(len(words), "utterance"))
    return words


def _asr_words(name: str, store: NeededStore, request: AudioRequest) -> Mapping[str, Utterance] | None:
    if request.cache is None:
        return None
    try:
        if made_by(request.cache, name) != store.identity.settings.get("transcripts_made_by"):
            return None
        return read_words(request.cache, request.manifest, name)
    except FeatcacheError:
        return None
