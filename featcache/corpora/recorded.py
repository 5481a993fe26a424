"""Cache → its corpus, recorded in ``corpus.json`` beside the stores; and back.

``corpus`` is the name or reference of the corpus in ``CORPORA``. For a corpus from outside of featcache, ``origin``
records its package and version, or its file; and for a corpus that YAML describes, ``description`` is a copy, with
which the cache opens elsewhere. ``speaker_from`` is the regular expression that found the speakers. The file alone
never causes code to be imported.
"""

import json
import logging
from functools import cache
from pathlib import Path
from typing import Any

from featcache.corpora import CORPORA, Corpus, CorpusFiles, NamedCorpus
from featcache.corpora.plain_audio import AUDIO
from featcache.errors import CorpusError
from featcache.files.values import check_types, read_json

CORPUS_FILE = "corpus.json"
_HINT = "remove it, and the next 'featcache extract' writes it again"

log = logging.getLogger(__name__)


def corpus_record(files: CorpusFiles) -> bytes:
    """Return the content of ``corpus.json`` for a corpus."""
    reference = files.reference or files.corpus.name
    record: dict[str, Any] = {"corpus": reference}
    content = files.corpus.record() if isinstance(files.corpus, NamedCorpus) else {}
    if content and not CORPORA.is_builtin(reference):
        record["description"] = content
    if (origin := CORPORA.origin(reference) if reference in CORPORA else None) is not None:
        record["origin"] = origin.settings()
    if files.speaker_from:
        record["speaker_from"] = files.speaker_from
    return json.dumps(record).encode()


def reference_of(cache_folder: Path) -> str | None:
    """Return the name or reference of a cache's corpus; None if it is not recorded.

    Raises:
        StoreError: ``corpus.json`` is damaged.
    """
    found = _record_of(cache_folder)
    return None if found is None else str(found["corpus"])


def recorded_speakers(cache_folder: Path) -> str | None:
    """Return the regular expression that found the speakers of a cache's corpus; None without one.

    Raises:
        StoreError: ``corpus.json`` is damaged.
    """
    return (_record_of(cache_folder) or {}).get("speaker_from")


def layout_of(cache_folder: Path) -> str | Corpus | None:
    """Return a cache's corpus if its files do not show it and it is known here, else None.

    These are corpora from outside of featcache, and audio without labels. A recorded description is the corpus itself.

    Raises:
        StoreError: ``corpus.json`` is damaged.
        CorpusError: its description is damaged.
    """
    found = _record_of(cache_folder)
    if found is not None and "description" in found:
        return _described(cache_folder, found)
    reference = None if found is None else str(found["corpus"])
    shown = reference is None or reference not in CORPORA or CORPORA.is_builtin(reference)
    return None if shown and reference != AUDIO.name else reference


def corpus_of(cache_folder: Path) -> Corpus | None:
    """Return the corpus of a cache, or None if it is unknown here; a warning about it is logged once.

    Raises:
        StoreError: ``corpus.json`` is damaged.
    """
    found = _record_of(cache_folder)
    if found is None:
        return None
    try:
        return _described(cache_folder, found) if "description" in found else CORPORA.find(str(found["corpus"]))
    except CorpusError as error:
        _tell(cache_folder, str(error))
        return None


def _record_of(cache_folder: Path) -> dict[str, Any] | None:
    path = cache_folder / CORPUS_FILE
    if not path.exists():
        return None
    found: dict[str, Any] = read_json(path, dict, _HINT)
    types: dict[str, tuple[type, ...]] = {"corpus": (str,), "description": (dict,), "speaker_from": (str,)}
    check_types(found, types, path, _HINT, required=["corpus"])
    return found


def _described(cache_folder: Path, found: dict[str, Any]) -> Corpus:
    from featcache.corpora.described import from_record

    corpus = from_record(found["description"], cache_folder / CORPUS_FILE)
    CORPORA.remember(corpus)
    return corpus


def is_corpus(corpus: Corpus | None, reference: str) -> bool:
    """Return whether a corpus is the one with this name or reference."""
    if corpus is None or reference not in CORPORA:
        return False
    known = CORPORA[reference]
    # A cache keeps the description with which it was made; the user may have corrected it since.
    both_described = all(isinstance(one, NamedCorpus) and one.record() for one in (known, corpus))
    return known == corpus or (both_described and known.name == corpus.name)


@cache
def _tell(cache_folder: Path, reason: str) -> None:
    log.warning(
        "%s: the corpus of this cache is unknown here, so its target, classes, label ranges, protocol and maximum "
        "frames are not used as defaults: %s",
        cache_folder,
        reason,
    )
