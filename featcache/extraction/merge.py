"""Stores → one store, for parts of a corpus that were extracted into separate folders. Shards get new numbers.

Utterances that the store already contains are kept, and so are their rows in the manifest. Of several parts with the
same utterance, the first one counts. If the same utterance was made from different audio, this is reported and nothing
is merged. A shard is added completely if it contains a missing utterance; its other utterances do no harm, because
equal settings and equal audio give equal features. The parts are only read.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from featcache.cache import layout
from featcache.cache.failures import Failure, read_failures, write_failures
from featcache.cache.identity import read_extractor_description
from featcache.cache.known_audio import KnownAudio
from featcache.cache.locks import locked
from featcache.cache.request import known_request
from featcache.cache.shards import Catalogue, Shard, combine, read_catalogue, shard_numbers
from featcache.cache.tuned_store import TunedOrigin, read_tested, write_tested
from featcache.cache.writer import StoreWriter
from featcache.corpora.recorded import CORPUS_FILE
from featcache.errors import StoreError, listed
from featcache.extraction.locate import describing
from featcache.files.checksums import replacing_checksums
from featcache.files.disk import writing
from featcache.files.regular import link_or_copy, replace_file, resolved
from featcache.manifest import Manifest
from featcache.terminal.progress import progress
from featcache.units import format_bytes
from featcache.workspace import check_name

MANIFEST, CORPUS = "manifest.csv", CORPUS_FILE
KEPT = "shards that were merged before are kept"


@dataclass(frozen=True, kw_only=True)
class Merged:
    """Result of a merge.

    Attributes:
        num_shards: Number of shards that were added.
        num_utterances: Number of utterances in the store afterwards.
        num_failed: Number of utterances that are known to fail, listed in ``failures.csv``.
        complete: Whether all utterances requested for the store and its parts are stored or known to fail.
    """

    num_shards: int
    num_utterances: int
    num_failed: int
    complete: bool


class _Part:
    """Store that is merged: its utterances, their shards, and the requested utterances."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        catalogue = read_catalogue(folder)
        numbers = shard_numbers(folder)
        first = Shard(folder / layout.shard_name(numbers[0]))
        self.attributes, self.identity = first.attributes, first.identity
        self.read = "text" if self.identity.reads_text else "audio"
        self.tables = {}
        for number in numbers:
            shard = Shard(folder / layout.shard_name(number))
            shard.identity.check_same(self.identity, shard.path, "remove it and extract again")
            self.tables[number] = shard.utterances
        self.rows = {row["id"]: row for row in combine(self.tables)}
        self.failures = read_failures(folder)
        path = folder.parent / MANIFEST
        self.manifest = Manifest.read(path) if path.is_file() else None
        self.num_in_corpus = catalogue.num_in_corpus
        self.requested = self._requested(catalogue)
        # An unfinished part of an earlier release does not record its request; it may be the whole manifest.
        self.guess = None if self.manifest is None else set(self.manifest.utterance_ids)

    def _requested(self, catalogue: Catalogue) -> set[str] | None:
        """Return the ids of the requested utterances; None if they are not recorded."""
        request = known_request(self.folder)
        if request is not None:
            return set(request.utterance_ids)
        if self.manifest is not None and catalogue.num_requested is not None:
            return set(self.manifest.limited(catalogue.num_requested).utterance_ids)
        return set(self.rows) if catalogue.complete else None

    def shards_with(self, missing: set[str]) -> list[int]:
        """Return the shards that contain utterances, and the shards with the newest rows of all utterances in them."""
        found: set[int] = set()
        new = {int(self.rows[utterance_id]["shard"]) for utterance_id in missing}
        while new:
            found |= new
            new = {int(self.rows[key]["shard"]) for number in new for key in self.tables[number]["id"]} - found
        return sorted(found)


def merge(into: Path, parts: Sequence[Path]) -> Merged:
    """Merge several stores with the same settings into one.

    Args:
        into: Folder of the store to fill; created if it is missing. If it lies in a cache, or in a folder that contains
            only stores, ``manifest.csv`` and ``corpus.json`` of the parts are added next to it.
        parts: Folders of the stores to add.

    Returns:
        Numbers of added shards, stored utterances and failures.

    Raises:
        StoreError: a part is not a store, is damaged, is ``into`` itself, or was made with other settings; an utterance
            was made from different audio; a store is being written. Nothing is merged in these cases. Also if the disk
            is full or the merge was stopped: added shards are kept, and the same call continues from there.
    """
    if any(resolved(part) == resolved(into) for part in parts):
        raise StoreError(f"{into} is also one of the parts; name it only once, as the first argument")
    sources = [_Part(part) for part in parts]
    is_cache = _is_cache(into)
    place = resolved(into)
    check_name("store", place.name, place.parent, advice="choose another folder")
    with locked(into):
        everything = [*([_Part(into)] if shard_numbers(into) else []), *sources]
        first = everything[0]
        for source in sources:
            hint = f"only stores with the same settings can be merged with {first.folder}"
            source.identity.check_same(first.identity, source.folder, hint)
        description, made = read_extractor_description(first.attributes), first.identity
        writer = StoreWriter(into, description, made.storage_dtype, pool=made.pool)
        missing = _missing(everything)
        taken = [
            source.folder / layout.shard_name(number)
            for source in sources
            for number in source.shards_with(missing[source.folder])
        ]
        if is_cache:
            with describing(into.parent):
                _keep_manifest(into.parent, sources)
        if taken:  # Written before the first shard, so that another merge can complete an interrupted one.
            known = set[str]().union(*(part.requested or () for part in everything))
            writer.begin(sorted(known), num_in_corpus=_num_in_corpus(into, everything))
            _keep_tested(into, everything)
        _take(taken, into, writer.next_number())
        return _finish(writer, everything, len(taken))


def _missing(everything: Sequence[_Part]) -> dict[Path, set[str]]:
    """Return part → its utterances that no earlier part has.

    Raises:
        StoreError: the same utterance was made from different audio.
    """
    holders: dict[str, _Part] = {}
    missing: dict[Path, set[str]] = {}
    for part in everything:
        again = part.rows.keys() & holders.keys()
        other = [key for key in sorted(again) if not _is_same_audio(part.rows[key], holders[key].rows[key])]
        if other:
            raise StoreError(
                f"{part.folder} has {listed(other)} from other {part.read} than {holders[other[0]].folder}; "
                "extract the part that is out of date again, or leave it out"
            )
        missing[part.folder] = part.rows.keys() - again
        holders |= dict.fromkeys(missing[part.folder], part)
    return missing


def _is_same_audio(one: Any, other: Any) -> bool:
    times, other_times = ([row["start"], row["end"]] for row in (one, other))
    return one["audio_sha256"] == other["audio_sha256"] and np.array_equal(times, other_times, equal_nan=True)


def _take(shards: Sequence[Path], into: Path, number: int) -> None:
    """Add shards to the store, with numbers from ``number`` on."""
    if not shards:
        return
    sizes = [path.stat().st_size for path in shards]
    with progress("merge", sum(sizes), rate=lambda done, took: f"{format_bytes(done / took)}/s") as advance:
        # The last one first, so that an outdated row is never added without the newer row that replaces it.
        for position in reversed(range(len(shards))):
            target = into / layout.shard_name(number + position)
            with writing(target, KEPT):
                try:
                    link_or_copy(shards[position], target, KEPT)
                except FileExistsError as error:
                    raise StoreError(
                        f"another process wrote {target} at the same time; {KEPT}: wait until it ends, and run the "
                        "same command again to continue"
                    ) from error
            advance(sizes[position])


def _finish(writer: StoreWriter, everything: Sequence[_Part], num_shards: int) -> Merged:
    """Write the utterances that failed in all parts, and the index."""
    stored = {key for part in everything for key in part.rows}
    failures: dict[str, Failure] = {}
    for part in everything:
        for failure in part.failures:
            if failure.utterance_id not in stored:
                failures.setdefault(failure.utterance_id, failure)
    failed = write_failures(writer.folder, list(failures.values()), stored | failures.keys())
    asked = [part.guess if part.requested is None else part.requested for part in everything]
    known = [ids for ids in asked if ids is not None]
    requested = sorted(set[str]().union(*known)) if len(known) == len(asked) else None
    guessed = any(part.requested is None for part in everything)
    if guessed and requested is not None and not stored.union(failed).issuperset(requested):
        requested = None  # Fewer utterances may have been requested.
    writer.finish(requested, failed=failed, num_in_corpus=_num_in_corpus(writer.folder, everything))
    store = read_catalogue(writer.folder)
    return Merged(
        num_shards=num_shards,
        num_utterances=len(store.utterances),
        num_failed=len(failed),
        complete=store.complete,
    )


def _num_in_corpus(into: Path, everything: Sequence[_Part]) -> int | None:
    """Return the number of utterances in the corpus, from the manifest of the cache or else from one of the stores."""
    path = into.parent / MANIFEST
    if path.is_file():
        return len(Manifest.read(path))
    return max((part.num_in_corpus for part in everything if part.num_in_corpus is not None), default=None)


def _keep_tested(into: Path, everything: Sequence[_Part]) -> None:
    """Add the test parts and the audio of the run whose fine-tuned models made the stores, if a part has them."""
    origin = TunedOrigin.of(everything[0].identity)
    if origin is None:
        return
    folders = [part.folder for part in everything]
    if tested := next((one for one in (read_tested(folder, origin) for folder in folders) if one is not None), None):
        write_tested(into, tested)
    if audio := next((one for one in map(KnownAudio.read, folders) if one is not None), None):
        audio.write(into)


def _is_cache(into: Path) -> bool:
    """Return whether the folder of a store is in a cache, or in a folder that contains only stores."""
    folder = into.parent
    if not folder.is_dir() or (folder / MANIFEST).is_file():
        return True
    return all(path.is_dir() and (path.name == into.name or shard_numbers(path)) for path in folder.iterdir())


def _keep_manifest(cache: Path, sources: Sequence[_Part]) -> None:
    """Add the parts' utterances to the manifest of the cache, and ``corpus.json`` if it is missing."""
    path = cache / MANIFEST
    there = Manifest.read(path) if path.is_file() else ()
    utterances = {utterance.utterance_id: utterance for utterance in there}
    for source in sources:
        for utterance in source.manifest or ():
            utterances.setdefault(utterance.utterance_id, utterance)
    if len(utterances) > len(there):
        with replacing_checksums(cache, MANIFEST):
            Manifest(list(utterances.values())).write(path)
    names = [source.folder.parent / CORPUS for source in sources if (source.folder.parent / CORPUS).is_file()]
    if names and not (cache / CORPUS).is_file():
        with replacing_checksums(cache, CORPUS):
            replace_file(cache / CORPUS, names[0].read_bytes())
