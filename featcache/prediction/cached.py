"""New audio × cache of its corpus → the stores of the cache, if they have the features of the run."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from featcache.cache.failures import Failure, read_failures
from featcache.cache.reader import FeatureCache, FeatureStore
from featcache.errors import FeatcacheError
from featcache.manifest import Utterance
from featcache.prediction.extracted import PartFeatures, Stores
from featcache.prediction.inputs import AudioRequest
from featcache.prediction.recreate import NeededStore
from featcache.transcripts.text import Transcript


class CachedFeatures:
    """Stores of a cache that contain the requested utterances.

    Args:
        stores: Fingerprint → store.
        failures: Utterance id → utterance that failed in the extraction of a store.
    """

    def __init__(self, stores: Stores, failures: Mapping[str, Failure]) -> None:
        self._stores = stores
        self._failures = failures

    def num_bytes(self, utterance: Utterance) -> int:
        """Return 0: nothing is written."""
        return 0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Show no progress, because nothing is extracted."""
        yield

    @contextmanager
    def part(self, utterances: Sequence[Utterance]) -> Iterator[PartFeatures]:
        """Yield the features of utterances."""
        failures = self._failures
        there = [utterance for utterance in utterances if utterance.utterance_id not in failures]
        failed = [failures[u.utterance_id] for u in utterances if u.utterance_id in failures]
        yield PartFeatures(stores=self._stores, utterances=there, failures=failed)
        for store in self._stores.values():
            store.drop_pages()


def cached_features(
    needed: Sequence[NeededStore],
    request: AudioRequest,
    words: Mapping[str, Mapping[str, Utterance]],
    checksums: Mapping[str, str | None],
) -> CachedFeatures | None:
    """Return the features in the cache of a corpus.

    Args:
        needed: The stores of the run.
        request: The new audio.
        words: Name of a store of text → utterances with their transcripts, by id.
        checksums: Path of a file → its SHA-256; None if it cannot be read.

    Returns:
        The features; None if a store or an utterance is missing in the cache, or audio has changed since extraction.
    """
    if request.cache is None:
        return None
    stores: dict[str, FeatureStore] = {}
    failures: dict[str, Failure] = {}
    for one in needed:
        store = _find_store(request.cache, one)
        if store is None:
            return None
        known = {failure.utterance_id: failure for failure in read_failures(store.path)}
        for utterance in request.manifest:
            utterance_id = utterance.utterance_id
            if _is_stored(store, words[one.name].get(utterance_id) if one.reads_text else utterance, checksums):
                continue
            if utterance_id not in known:
                return None
            failures[utterance_id] = known[utterance_id]
        stores[one.identity.fingerprint] = store
    return CachedFeatures(stores, failures)


def _is_stored(store: FeatureStore, utterance: Utterance | None, checksums: Mapping[str, str | None]) -> bool:
    """Return whether a store has an utterance with this audio or text; if the file is missing, it is not compared."""
    if utterance is None or utterance.utterance_id not in store:
        return False
    [(sha256, start, end)] = store.recordings([utterance.utterance_id])
    now = Transcript(text=utterance.transcript).sha256 if store.is_of_words else checksums[utterance.path]
    part = utterance.start or 0.0, math.inf if utterance.end is None else utterance.end
    return (start, end) == part and now in (None, sha256)


def _find_store(cache: Path, needed: NeededStore) -> FeatureStore | None:
    """Return the store of a cache with the needed identity; its usual name is tried first."""
    try:
        found = FeatureCache(cache)
        for name in sorted(found, key=lambda name: name != needed.name):
            store = found[name]
            if store.identity.fingerprint == needed.identity.fingerprint:
                return store
    except (FeatcacheError, OSError):
        pass
    return None
