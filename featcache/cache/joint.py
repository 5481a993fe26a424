"""Caches of several corpora → one cache that is not on the disk. Nothing is copied, and everything is read-only.

The ids of utterances and speakers, and the paths of the audio, begin with the corpus: ``emodb/03a01Fa``. A corpus is
the name of a folder, so that it has no slash, and the first slash ends it.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from featcache.cache.identity import StoreIdentity, shortened
from featcache.cache.missing_store import missing_store
from featcache.cache.reader import FeatureCache, FeatureStore
from featcache.cache.shards import Shard
from featcache.corpora import Corpus
from featcache.corpora.recorded import corpus_of
from featcache.errors import StoreError
from featcache.manifest import Manifest
from featcache.protocols.across import CORPUS
from featcache.utterances import Utterance

# Checksum of imported features, which says nothing about how they were made.
_CONTENT = "content_sha256"


def in_corpus(corpus: str, name: str) -> str:
    """Return the id of an utterance or speaker of a corpus in a joint cache; an empty name stays empty."""
    return f"{corpus}/{name}" if name else ""


def split_id(name: str) -> tuple[str, str]:
    """Return the corpus of an id in a joint cache, and the id in this corpus."""
    corpus, _, own = name.partition("/")
    return corpus, own


class JointStore(FeatureStore):
    """Stores of several corpora with the same settings, as one store.

    Args:
        path: Folder that the store would have; it does not exist.
        parts: Corpus → its store.

    Attributes:
        parts: The same dictionary. All other attributes are those of :class:`~featcache.cache.reader.FeatureStore`.

    Raises:
        StoreError: settings differ; the message names them.
    """

    def __init__(self, path: Path, parts: Mapping[str, FeatureStore]) -> None:
        self.path = path
        self.name = path.name
        self.parts = dict(parts)
        first = next(iter(self.parts.values()))
        self.identity = _common_identity(self.name, self.parts)
        self.metadata = {**first.metadata, "fingerprint": self.identity.fingerprint}
        self.complete = all(part.complete for part in self.parts.values())
        self.num_requested = None
        self.num_in_corpus = None
        self.layer_names = first.layer_names
        self.frame_shift = first.frame_shift
        self.pooled_only = first.pooled_only
        self._rows = {
            in_corpus(corpus, utterance_id): part._row(utterance_id)
            for corpus, part in self.parts.items()
            for utterance_id in part
        }

    def drop_pages(self) -> None:
        """Release the pages that were read; until then they count as memory of this process."""
        for part in self.parts.values():
            part.drop_pages()

    def _place(self, utterance_id: str) -> tuple[Shard, int]:
        self._row(utterance_id)
        corpus, own = split_id(utterance_id)
        return self.parts[corpus]._place(own)


def parts_of(store: FeatureStore) -> tuple[FeatureStore, ...]:
    """Return the stores on the disk that a store reads: itself, or the parts of a joint store."""
    return tuple(store.parts.values()) if isinstance(store, JointStore) else (store,)


class JointCache(FeatureCache):
    """Caches of several corpora, as one cache.

    Args:
        path: Folder that the cache would have; it does not exist.
        caches: Corpus → its cache.
        manifest: Utterances that take part, with the ids of a joint cache.
        corpus: Description of all corpora together.
        target: Target of the prediction, a label of the manifest.
        settings: Entries of ``config.yaml``: the corpora, and how their labels became common labels.
        notes: Notes for the report.

    Attributes:
        caches: Corpus → its cache.
        corpus, target, settings, notes: The arguments.
    """

    def __init__(
        self,
        path: Path,
        caches: Mapping[str, FeatureCache],
        manifest: Manifest,
        *,
        corpus: Corpus,
        target: str,
        settings: Mapping[str, Any],
        notes: Sequence[str] = (),
    ) -> None:
        self.path = path
        self.name = path.name
        self.caches = dict(caches)
        self.manifest = manifest
        self.corpus = corpus
        self.target = target
        self.settings = dict(settings)
        self.notes = tuple(notes)

    def __getitem__(self, name: str) -> JointStore:
        for corpus, cache in self.caches.items():
            if name not in cache:
                told = missing_store(cache.path, name, self._names(), f"stores of all of {', '.join(self.caches)}")
                raise StoreError(f"{corpus}: {told}")
        return JointStore(self.path / name, {corpus: cache[name] for corpus, cache in self.caches.items()})

    def _names(self) -> list[str]:
        """Return the names of the stores that all corpora have."""
        return sorted(set.intersection(*(set(cache) for cache in self.caches.values())))


def corpus_of_cache(cache: FeatureCache) -> Corpus | None:
    """Return the corpus of a cache, or the description of all corpora of a joint cache; None if it is unknown here."""
    return cache.corpus if isinstance(cache, JointCache) else corpus_of(cache.path)


def joint_utterances(corpus: str, utterances: Sequence[Utterance], apart: Sequence[str] = ()) -> list[Utterance]:
    """Return the utterances of a corpus as utterances of a joint cache.

    Args:
        corpus: Name of the corpus.
        utterances: Its utterances.
        apart: Labels whose values name something within a corpus, such as a session; they begin with the corpus.
    """
    return [
        Utterance(
            utterance_id=in_corpus(corpus, u.utterance_id),
            path=in_corpus(corpus, u.path),
            speaker_id=in_corpus(corpus, u.speaker_id),
            start=u.start,
            end=u.end,
            transcript=u.transcript,
            labels={
                CORPUS: corpus,  # first, because reports show the first labels
                **{
                    name: in_corpus(corpus, value) if name in apart else value
                    for name, value in u.labels.items()
                    if name != CORPUS
                },
            },
        )
        for u in utterances
    ]


def _common_identity(name: str, parts: Mapping[str, FeatureStore]) -> StoreIdentity:
    """Return the settings that all stores share.

    Imported features record a checksum of their content in place of settings; theirs are combined.

    Raises:
        StoreError: settings differ.
    """
    (corpus, first), *others = parts.items()
    imported = first.identity.is_imported
    for other, part in others:
        differing = first.identity.described_differences(part.identity, (f"in {corpus}", f"in {other}"))
        if imported and part.identity.is_imported:
            differing.pop(_CONTENT, None)
        if differing:
            raise StoreError(
                f"the features {name!r} were made with different settings: {'; '.join(differing.values())}; extract "
                "them with the same settings, or choose other stores with --features"
            )
    contents = [str(part.identity.settings.get(_CONTENT)) for part in parts.values()]
    if not imported:
        return first.identity
    combined = hashlib.sha256("\n".join(contents).encode()).hexdigest()
    return StoreIdentity(settings={**first.identity.settings, _CONTENT: combined})


def shared_settings(store: JointStore) -> str:
    """Return one line with the settings that the stores of all corpora share."""
    settings = store.identity.settings
    # The dozens of settings of a model's architecture follow from its name.
    hidden = {_CONTENT, *(name for name, value in settings.items() if value is None or isinstance(value, Mapping))}
    chosen = {name: value for name, value in sorted(settings.items()) if name not in hidden}
    told = ", ".join(f"{name} {_described(value)}" for name, value in chosen.items())
    unknown = " How they were made is not known, because they were imported." if store.identity.is_imported else ""
    return f"The features {store.name!r} of {listed_in_words(store.parts)} have the same settings: {told}.{unknown}"


def listed_in_words(names: Iterable[str]) -> str:
    """Return names as text: ``a, b and c``."""
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last


def _described(value: object) -> str:
    """Return a setting as short text in one line."""
    if isinstance(value, list):
        value = ",".join(map(str, value))
    return " ".join(shortened(value).split())
