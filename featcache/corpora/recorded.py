"""Cache → its corpus, recorded in ``corpus.json`` beside the stores; and back.

``corpus`` is the name or reference of the corpus in ``CORPORA``. For a corpus from outside of featcache, ``origin``
records its package and version, or its file. The file alone never causes code to be imported.
"""

import json
import logging
from functools import cache
from pathlib import Path

from featcache.corpora import CORPORA, Corpus, CorpusFiles
from featcache.corpora.plain_audio import AUDIO
from featcache.errors import CorpusError
from featcache.files.values import check_types, read_json

CORPUS_FILE = "corpus.json"
_HINT = "remove it, and the next 'featcache extract' writes it again"

log = logging.getLogger(__name__)


def corpus_record(files: CorpusFiles) -> bytes:
    """Return the content of ``corpus.json`` for a corpus."""
    reference = files.reference or files.corpus.name
    origin = CORPORA.origin(reference) if reference in CORPORA else None
    return json.dumps({"corpus": reference, **({"origin": origin.settings()} if origin else {})}).encode()


def reference_of(cache_folder: Path) -> str | None:
    """Return the name or reference of a cache's corpus; None if it is not recorded.

    Raises:
        StoreError: ``corpus.json`` is damaged.
    """
    path = cache_folder / CORPUS_FILE
    if not path.exists():
        return None
    found = read_json(path, dict, _HINT)
    check_types(found, {"corpus": (str,)}, path, _HINT, required=["corpus"])
    return str(found["corpus"])


def layout_of(cache_folder: Path) -> str | None:
    """Return the reference of a cache's corpus if its files do not show it and it is known here, else None.

    These are corpora from outside of featcache, and audio without labels.

    Raises:
        StoreError: ``corpus.json`` is damaged.
    """
    reference = reference_of(cache_folder)
    shown = reference is None or reference not in CORPORA or CORPORA.is_builtin(reference)
    return None if shown and reference != AUDIO.name else reference


def corpus_of(cache_folder: Path) -> Corpus | None:
    """Return the corpus of a cache, or None if it is unknown here; a warning about it is logged once.

    Raises:
        StoreError: ``corpus.json`` is damaged.
    """
    reference = reference_of(cache_folder)
    if reference is None:
        return None
    try:
        return CORPORA.find(reference)
    except CorpusError as error:
        _tell(cache_folder, str(error))
        return None


def is_corpus(corpus: Corpus | None, reference: str) -> bool:
    """Return whether a corpus is the one with this name or reference."""
    return corpus is not None and reference in CORPORA and CORPORA[reference] == corpus


@cache
def _tell(cache_folder: Path, reason: str) -> None:
    log.warning(
        "%s: the corpus of this cache is unknown here, so its target, classes, label ranges, protocol and maximum "
        "frames are not used as defaults: %s",
        cache_folder,
        reason,
    )
