"""Cache → which corpus it is of, by the ``corpus.json`` beside its stores; and back.

``corpus`` is what ``CORPORA`` knows the corpus by. For a corpus from outside of featcache, ``origin`` says which
package and version, or which file, it came from. The file itself never decides that code is imported.
"""

import json
import logging
from functools import cache
from pathlib import Path

from featcache.corpora import CORPORA, Corpus, CorpusFiles
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
    """Return what a cache says its corpus is; None where it does not say.

    Raises:
        StoreError: the file that says so is damaged.
    """
    path = cache_folder / CORPUS_FILE
    if not path.exists():
        return None
    found = read_json(path, dict, _HINT)
    check_types(found, {"corpus": (str,)}, path, _HINT, required=["corpus"])
    return str(found["corpus"])


def layout_of(cache_folder: Path) -> str | None:
    """Return the corpus from outside that a cache was read as, if it can be used here; None for any other.

    Raises:
        StoreError: the file that says so is damaged.
    """
    reference = reference_of(cache_folder)
    return reference if reference and reference in CORPORA and not CORPORA.is_builtin(reference) else None


def corpus_of(cache_folder: Path) -> Corpus | None:
    """Return the corpus that a cache is of, where that is known here; one that is not known is told once.

    Raises:
        StoreError: the file that says so is damaged.
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
    """Whether a corpus is the one that a name or reference stands for."""
    return corpus is not None and reference in CORPORA and CORPORA[reference] == corpus


@cache
def _tell(cache_folder: Path, reason: str) -> None:
    log.warning(
        "%s: the corpus of this cache is not known here, so that its own target, classes, ranges, protocol and frames "
        "are no defaults: %s",
        cache_folder,
        reason,
    )
