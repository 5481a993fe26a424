"""Stores → one store. Whole shards under new numbers, for parts of a corpus that were extracted into folders apart.

An utterance that the store has already stays as it is, and so does its row in the manifest; among the parts the first
one counts. The same utterance from other audio is a contradiction that is told, and nothing is merged. A shard is taken
when it has an utterance that is missing, and then with whatever else it holds: with equal settings, equal audio gives
equal features. The parts are only read.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from featcache.cache import layout
from featcache.cache.failures import Failure, read_failures, write_failures
from featcache.cache.identity import read_extractor_description
from featcache.cache.locks import locked
from featcache.cache.request import known_request
from featcache.cache.shards import Catalogue, Shard, combine, read_catalogue, shard_numbers
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
KEPT = "what was merged before is kept"


@dataclass(frozen=True, kw_only=True)
class Merged:
    """What a merge did.

    Attributes:
        num_shards: How many were taken now.
        num_utterances: In the store now.
        num_failed: Known to fail, and listed in ``failures.csv``.
        complete: Whether everything is there, or known to fail, that the store and its parts were asked for.
    """

    num_shards: int
    num_utterances: int
    num_failed: int
    complete: bool


class _Part:
    """A store that is merged: which utterances it has, where, and which it was asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        catalogue = read_catalogue(folder)
        numbers = shard_numbers(folder)
        first = Shard(folder / layout.shard_name(numbers[0]))
        self.attributes, self.identity = first.attributes, first.identity
        self.read = "words" if self.identity.reads_text else "audio"
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
        # a part of an earlier release that has no index yet does not say what it was asked for
        self.guess = None if self.manifest is None else set(self.manifest.utterance_ids)

    def _requested(self, catalogue: Catalogue) -> set[str] | None:
        """What the store says it was asked for, if it does."""
        request = known_request(self.folder)
        if request is not None:
            return set(request.utterance_ids)
        if self.manifest is not None and catalogue.num_requested is not None:
            return set(self.manifest.limited(catalogue.num_requested).utterance_ids)
        return set(self.rows) if catalogue.complete else None

    def shards_with(self, missing: set[str]) -> list[int]:
        """The shards that hold these utterances, and those that hold the newest of what else comes with them."""
        found: set[int] = set()
        new = {int(self.rows[utterance_id]["shard"]) for utterance_id in missing}
        while new:
            found |= new
            new = {int(self.rows[key]["shard"]) for number in new for key in self.tables[number]["id"]} - found
        return sorted(found)


def merge(into: Path, parts: Sequence[Path]) -> Merged:
    """Make one store of several of the same settings.

    Args:
        into: The store to be filled; made when missing. In a cache, or in a folder that is none yet but holds nothing
            else, it finds or gets the parts' ``manifest.csv`` and ``corpus.json`` beside it.
        parts: Folders of stores.

    Raises:
        StoreError: a part that is no store, is damaged, is ``into`` itself, or was made with other settings; an
            utterance from different audio; a store in use. Nothing is merged then. Or a full disk, or a merge that
            was stopped: what was taken is kept, and the same call does the rest.
    """
    if any(resolved(part) == resolved(into) for part in parts):
        raise StoreError(f"{into} is itself among the parts; name it once, as what they are merged into")
    sources = [_Part(part) for part in parts]
    is_cache = _is_cache(into)
    place = resolved(into)
    check_name("store", place.name, place.parent, advice="choose another folder")
    with locked(into):
        everything = [*([_Part(into)] if shard_numbers(into) else []), *sources]
        first = everything[0]
        for source in sources:
            hint = f"only what was made as {first.folder} was can be merged with it"
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
        if taken:  # before the first shard, so that a merge that is stopped can be completed by another one
            known = set[str]().union(*(part.requested or () for part in everything))
            writer.begin(sorted(known), num_in_corpus=_num_in_corpus(into, everything))
        _take(taken, into, writer.next_number())
        return _finish(writer, everything, len(taken))


def _missing(everything: Sequence[_Part]) -> dict[Path, set[str]]:
    """Part → the utterances that none before it has."""
    holders: dict[str, _Part] = {}
    missing: dict[Path, set[str]] = {}
    for part in everything:
        again = part.rows.keys() & holders.keys()
        other = [key for key in sorted(again) if not _is_same_audio(part.rows[key], holders[key].rows[key])]
        if other:
            raise StoreError(
                f"{part.folder} has {listed(other)} from other {part.read} than {holders[other[0]].folder}; "
                "extract what is out of date again, or leave it out"
            )
        missing[part.folder] = part.rows.keys() - again
        holders |= dict.fromkeys(missing[part.folder], part)
    return missing


def _is_same_audio(one: Any, other: Any) -> bool:
    times, other_times = ([row["start"], row["end"]] for row in (one, other))
    return one["audio_sha256"] == other["audio_sha256"] and np.array_equal(times, other_times, equal_nan=True)


def _take(shards: Sequence[Path], into: Path, number: int) -> None:
    """Let the store have these shards too, with numbers from this one on."""
    if not shards:
        return
    sizes = [path.stat().st_size for path in shards]
    with progress("merge", sum(sizes), rate=lambda done, took: f"{format_bytes(done / took)}/s") as advance:
        # the last one first: a row that is out of date never stands without the newer one that counts
        for position in reversed(range(len(shards))):
            target = into / layout.shard_name(number + position)
            with writing(target, KEPT):
                try:
                    link_or_copy(shards[position], target, KEPT)
                except FileExistsError as error:
                    raise StoreError(
                        f"another process has written {target} meanwhile; {KEPT}: wait for it to end, and the same "
                        "command does the rest"
                    ) from error
            advance(sizes[position])


def _finish(writer: StoreWriter, everything: Sequence[_Part], num_shards: int) -> Merged:
    """List what failed everywhere, and write the index."""
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
        requested = None  # it may have been asked for less
    writer.finish(requested, failed=failed, num_in_corpus=_num_in_corpus(writer.folder, everything))
    store = read_catalogue(writer.folder)
    return Merged(
        num_shards=num_shards,
        num_utterances=len(store.utterances),
        num_failed=len(failed),
        complete=store.complete,
    )


def _num_in_corpus(into: Path, everything: Sequence[_Part]) -> int | None:
    """How many utterances the corpus has: as the manifest beside the store says, else as one of the stores does."""
    path = into.parent / MANIFEST
    if path.is_file():
        return len(Manifest.read(path))
    return max((part.num_in_corpus for part in everything if part.num_in_corpus is not None), default=None)


def _is_cache(into: Path) -> bool:
    """Whether the folder around a store is a cache, or empty but for stores."""
    folder = into.parent
    if not folder.is_dir() or (folder / MANIFEST).is_file():
        return True
    return all(path.is_dir() and (path.name == into.name or shard_numbers(path)) for path in folder.iterdir())


def _keep_manifest(cache: Path, sources: Sequence[_Part]) -> None:
    """Add what the cache's manifest lacks, if need be all of it, and say which corpus it is."""
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
