"""Corpus and extractors of a run → their names and licences, as far as this machine knows them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from featcache.corpora import CORPORA, Corpus
from featcache.corpora.folder import FOLDER
from featcache.corpora.recorded import corpus_of
from featcache.errors import StoreError
from featcache.extractors.origin import find_fetched, read_origin
from featcache.extractors.references import DESCRIPTORS
from featcache.registry import is_external
from featcache.runs.identity import TEST, TRAIN
from featcache.workspace import Workspace

NOT_KNOWN = "not known"
OPENSMILE = "openSMILE (research and private use only)"
_OPENSMILE_SETS = ("egemaps", "compare2016", "opensmile")
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class Source:
    """Name and licence of a corpus or an extractor.

    Attributes:
        name: Name of the corpus; id of the model on the hub, name of its folder, or name of the extractor.
        licence: Licence; ``not known`` if this machine does not know it.
        address: Web address; empty if there is none.
        is_on_hub: Whether the name is an id on the Hugging Face hub.
    """

    name: str
    licence: str = NOT_KNOWN
    address: str = ""
    is_on_hub: bool = False


def source_of_corpus(config: Mapping[str, Any], workspace: Workspace) -> Source:
    """Return name and licence of the corpus of a run.

    The cache records which corpus it contains. Without the cache, a corpus with the name of the run's corpus is taken
    only if it has all classes of the run.

    For a run on several corpora, the names and licences of all of them are returned as one.

    Args:
        config: Content of the run's ``config.yaml``.
        workspace: Folder of the caches.
    """
    if several := [*config.get(TRAIN, []), *config.get(TEST, [])]:
        found = [source_of_corpus({"corpus": name}, workspace) for name in several]
        licences = [f"{name}: {one.licence}" for name, one in zip(several, found, strict=True)]
        return Source(name="; ".join(one.name for one in found), licence="; ".join(licences))
    name = config["corpus"]
    try:
        corpus = corpus_of(workspace.cache(name))
    except StoreError:  # A run may come from anyone, and its corpus may have any name.
        corpus = None
    if corpus is None and name in CORPORA and CORPORA.is_builtin(name):
        named = CORPORA[name]
        corpus = named if set(config.get("classes", ["?"])) <= set(named.classes) else None
    if corpus is None or corpus == FOLDER:
        return Source(name=name)
    return Source(name=f"{name}: {corpus.title}", licence=corpus.license or NOT_KNOWN, address=_address(corpus))


def _address(corpus: Corpus) -> str:
    """Return the first web address in the description of where a corpus comes from."""
    found = re.search(r"https?://[^\s,;)]+", corpus.source)
    return found[0].rstrip(".") if found else ""


def source_of_extractor(store: str, settings: Mapping[str, Any]) -> Source:
    """Return name and licence of the extractor of a store.

    The licence of a model is known if ``featcache fetch`` wrote its folder.

    Args:
        store: Name of the store.
        settings: Settings of the store, as ``config.yaml`` records them; empty if they are unknown.
    """
    kind = str(settings.get("extractor", ""))
    if kind in ("ssl", "text"):
        model = str(settings.get("model_id", store))
        on_hub = _HUB_ID.fullmatch(model) is not None
        folder = find_fetched(model, None) if on_hub else None
        origin = read_origin(folder) if folder else None
        licence = (origin.license if origin else None) or NOT_KNOWN
        address = f"https://huggingface.co/{model}" if on_hub else ""
        return Source(name=model, licence=licence, address=address, is_on_hub=on_hub)
    if kind.startswith(_OPENSMILE_SETS) and not is_external(kind):
        return Source(name=kind, licence=OPENSMILE, address="https://github.com/audeering/opensmile-python")
    if kind in DESCRIPTORS:
        return Source(name=kind, licence="none needed: no model and no data of others")
    return Source(name=kind or store)
