"""Workspace × what a user names → the corpus that is extracted: its utterances, and where it and its stores are."""

import logging
import os
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from glob import escape
from pathlib import Path
from typing import Any

from featcache.cache.shards import read_catalogue, shard_numbers
from featcache.corpora import CorpusFiles, read_corpus
from featcache.corpora.recorded import CORPUS_FILE, corpus_record
from featcache.errors import CorpusError, StoreError, listed
from featcache.extraction.inputs import AudioInput
from featcache.extraction.plan import is_same
from featcache.files.checksums import CHECKSUMS, replacing_checksums
from featcache.files.locks import FOREVER, held
from featcache.files.regular import remove_unfinished, replace_file
from featcache.manifest import Manifest, Utterance
from featcache.workspace import Workspace

MANIFEST = "manifest.csv"

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class LocatedCorpus:
    """A corpus.

    Attributes:
        cache: The folder of its stores.
        root: What the manifest's paths start from; the cache where there is no audio.
        manifest: All its utterances.
        files: As they were found; None where the cache alone knows them.
    """

    cache: Path
    root: Path
    manifest: Manifest
    files: CorpusFiles | None


def find_place(
    workspace: Workspace, corpus: str | None, data: Path | None, *, audio: bool, layout: str | None = None
) -> LocatedCorpus:
    """Find a corpus.

    Args:
        workspace: Where to look.
        corpus: Its name; by default that of the folder.
        data: Where its audio lies; by default under ``corpora``.
        audio: Whether audio is needed; else a cache's manifest will do where the corpus is not there any more.
        layout: Which known corpus it is, where its files do not tell: a name or reference in ``CORPORA``.

    Raises:
        CorpusError: there is none, or there are several and none was named.
        StoreError: the same of caches.
    """
    if not audio and data is None and not _is_there(workspace, corpus) and _is_cached(workspace, corpus):
        cache = workspace.find_cache(corpus)
        return LocatedCorpus(cache=cache, root=cache, manifest=Manifest.read(cache / MANIFEST), files=None)
    name, files = find_files(workspace, corpus, data, layout)
    return LocatedCorpus(cache=workspace.cache(name), root=files.root, manifest=files.manifest, files=files)


def find_files(
    workspace: Workspace, corpus: str | None, data: str | os.PathLike[str] | None, layout: str | None = None
) -> tuple[str, CorpusFiles]:
    """The name of a corpus and its files; those that are left out are told.

    Args:
        workspace: Where everything lives.
        corpus: Name under ``data/corpora``; may be left out when there is one.
        data: The corpus's folder, or a manifest as CSV, when it lies elsewhere.
        layout: Which known corpus it is, where its files do not tell: a name or reference in ``CORPORA``.

    Raises:
        CorpusError: there is none, or there are several and none was named.
        StoreError: its name makes no name of a folder.
    """
    name, folder = workspace.find_corpus(corpus, None if data is None else Path(data))
    workspace.check_corpus(name)
    files = read_corpus(folder, layout)
    if files.ignored:
        log.warning(
            "%d audio files are not part of the corpus and are left out: %s", len(files.ignored), listed(files.ignored)
        )
    return name, files


def keep_manifest(cache: Path, files: CorpusFiles) -> None:
    """Write the manifest of a corpus, and which corpus it is, beside its features.

    Raises:
        CorpusError: the cache is of other utterances.
    """
    path = cache / MANIFEST
    if path.exists() and not set(Manifest.read(path).utterance_ids) & set(files.manifest.utterance_ids):
        raise CorpusError(
            f"{cache} is the cache of another corpus: it has none of the utterances of {files.root}; "
            "give this one another name with --corpus"
        )
    # parts of an extraction take turns, so that what a killed one left can go
    with describing(cache):
        for name in (MANIFEST, CORPUS_FILE, CHECKSUMS):
            remove_unfinished(cache, name)
        with replacing_checksums(cache, MANIFEST, CORPUS_FILE):
            files.manifest.write(path)
            replace_file(cache / CORPUS_FILE, corpus_record(files))


def describing(cache: Path) -> AbstractContextManager[None]:
    """Let whoever writes a cache's manifest do so in turn."""
    return held(cache / ".manifest.lock", f"{cache / MANIFEST} is being written by another process", wait=FOREVER)


def compare_audio(place: LocatedCorpus, wanted: Sequence[Utterance], stores: Collection[str], workers: int) -> None:
    """Compare the audio of a corpus with what the cache's other stores were made of, before anything is written.

    Ids alone do not tell whether a cache is of this corpus: another one may have the same. Stores of text, and those
    that do not know their audio, are not compared.

    Args:
        place: The corpus; where the cache alone knows it, there is nothing to compare.
        wanted: The utterances that are to be extracted.
        stores: The names of the stores that are going to be filled, and compared when it is their turn.
        workers: Threads.

    Raises:
        CorpusError: a store that has nothing in common with this audio. Where some of it has changed there is a
            warning.
    """
    if place.files is None:
        return
    cache, root = place.cache, place.root
    others = {folder.name: _audio_of(folder) for folder in _stores_of(cache) if folder.name not in stores}
    known = {utterance_id for entries in others.values() for utterance_id in entries}
    paths = sorted({utterance.path for utterance in wanted if utterance.utterance_id in known})
    with ThreadPoolExecutor(workers) as pool:
        checksums = dict(zip(paths, pool.map(AudioInput(root).checksum, paths), strict=True))
    for name, entries in others.items():
        compared = [u for u in wanted if u.utterance_id in entries]
        other = [u.utterance_id for u in compared if not is_same(entries[u.utterance_id], u, checksums[u.path])]
        if other and len(other) == len(compared):
            raise CorpusError(
                f"{cache / name} is of other audio than {root} in all {len(other)} utterances that both have "
                f"({listed(other)}); give this corpus another name with --corpus, or remove that store if it is out of "
                "date"
            )
        if other:
            log.warning(
                "%s is of other audio than there is now in %d of %d utterances (%s); extract it again, or 'featcache "
                "fit' refuses to use it with newer stores",
                *(cache / name, len(other), len(compared), listed(other)),
            )


def _stores_of(cache: Path) -> list[Path]:
    return sorted(folder for folder in cache.iterdir() if shard_numbers(folder)) if cache.is_dir() else []


def _audio_of(folder: Path) -> dict[str, Any]:
    """Utterance id → its row in a store, where that says which audio it is of."""
    try:
        catalogue = read_catalogue(folder)
    except StoreError:  # told when it is used
        return {}
    if catalogue.identity.reads_text:
        return {}
    return {row["id"]: row for row in catalogue.utterances if row["audio_sha256"]}


def _is_there(workspace: Workspace, corpus: str | None) -> bool:
    """Whether there is such a corpus, or any."""
    if corpus is not None:
        return workspace.corpus(corpus).is_dir()
    return workspace.corpora.is_dir() and any(path.is_dir() for path in workspace.corpora.iterdir())


def _is_cached(workspace: Workspace, corpus: str | None) -> bool:
    """Whether the cache of such a corpus, or of any, says which utterances there are."""
    return any(workspace.caches.glob(f"{'*' if corpus is None else escape(corpus)}/{MANIFEST}"))
