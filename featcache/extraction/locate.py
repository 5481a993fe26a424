"""Workspace × corpus name or folder → the corpus to extract: its utterances, its folder and its cache."""

import logging
import os
from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from glob import escape
from pathlib import Path
from typing import Any

from featcache.cache.shards import read_catalogue, shard_numbers
from featcache.corpora import CorpusFiles, read_corpus
from featcache.corpora.corpus_folder import find_corpus_folder
from featcache.corpora.recorded import CORPUS_FILE, corpus_record, recorded_speakers
from featcache.errors import CorpusError, StoreError, listed
from featcache.extraction.inputs import AudioInput
from featcache.extraction.plan import is_same
from featcache.files.checksums import CHECKSUMS, replacing_checksums
from featcache.files.locks import FOREVER, held
from featcache.files.regular import read_regular, remove_unfinished, replace_file
from featcache.manifest import Manifest, Utterance
from featcache.terminal.progress import map_in_threads
from featcache.workspace import Workspace

MANIFEST = "manifest.csv"

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class LocatedCorpus:
    """Corpus and its cache.

    Attributes:
        cache: Folder of its stores.
        root: Folder that the paths in the manifest are relative to; the cache if there is no audio.
        manifest: All utterances of the corpus.
        files: Files of the corpus; None if only the cache is known.
    """

    cache: Path
    root: Path
    manifest: Manifest
    files: CorpusFiles | None


def find_place(
    workspace: Workspace,
    corpus: str | None,
    data: Path | None,
    *,
    audio: bool,
    layout: str | None = None,
    speaker_from: str | None = None,
) -> LocatedCorpus:
    """Find a corpus.

    Args:
        workspace: Folder of corpora, caches and runs.
        corpus: Name of the corpus; by default the name of its folder.
        data: Folder of its audio; by default under ``corpora``.
        audio: Whether audio is needed; if not, and the corpus is missing, the manifest of its cache is used.
        layout: Name or reference in ``CORPORA`` of the known corpus, if its files do not show it.
        speaker_from: Regular expression that finds the speakers; by default, the recorded one of the cache.

    Raises:
        CorpusError: there is no corpus, or there are several and none was named.
        StoreError: there is no cache, or there are several and none was named.
    """
    if not audio and data is None and not _is_there(workspace, corpus) and _is_cached(workspace, corpus):
        cache = workspace.find_cache(corpus)
        if speaker_from is not None:
            raise CorpusError("--speaker-from needs the corpus, not only its cache; give its folder with --data")
        return LocatedCorpus(cache=cache, root=cache, manifest=Manifest.read(cache / MANIFEST), files=None)
    name, files = find_files(workspace, corpus, data, layout, speaker_from)
    return LocatedCorpus(cache=workspace.cache(name), root=files.root, manifest=files.manifest, files=files)


def find_files(
    workspace: Workspace,
    corpus: str | None,
    data: str | os.PathLike[str] | None,
    layout: str | None = None,
    speaker_from: str | None = None,
) -> tuple[str, CorpusFiles]:
    """Return the name of a corpus and its files, and log which files are ignored.

    Args:
        workspace: Folder of corpora, caches and runs.
        corpus: Name under ``data/corpora``; optional if there is only one.
        data: Folder of the corpus, or a manifest as CSV, if it is not under ``data/corpora``.
        layout: Name or reference in ``CORPORA`` of the known corpus, if its files do not show it.
        speaker_from: Regular expression that finds the speakers; by default, the recorded one of the cache.

    Raises:
        CorpusError: there is no corpus, or there are several and none was named.
        StoreError: the name of the corpus cannot be the name of a folder.
    """
    name, folder = find_corpus_folder(workspace, corpus, None if data is None else Path(data))
    workspace.check_corpus(name)
    files = read_corpus(folder, layout, speaker_from=speaker_from or recorded_speakers(workspace.cache(name)))
    if files.ignored:
        log.warning("audio files outside the corpus are ignored (%d): %s", len(files.ignored), listed(files.ignored))
    return name, files


def keep_manifest(cache: Path, files: CorpusFiles) -> None:
    """Write the manifest of a corpus and ``corpus.json`` into its cache.

    Raises:
        CorpusError: the cache belongs to other utterances.
    """
    path, content = cache / MANIFEST, files.manifest.content()
    known = path.is_file() and path.stat().st_size == len(content) and read_regular(path) == content
    if path.exists() and not known and not set(Manifest.read(path).utterance_ids) & set(files.manifest.utterance_ids):
        raise CorpusError(
            f"{cache} is the cache of another corpus: it has none of the utterances of {files.root}; "
            "give this corpus another name with --corpus"
        )
    # Only one process at a time is here, so that unfinished files of killed processes can be removed.
    with describing(cache):
        for name in (MANIFEST, CORPUS_FILE, CHECKSUMS):
            remove_unfinished(cache, name)
        with replacing_checksums(cache, MANIFEST, CORPUS_FILE):
            replace_file(path, content)
            replace_file(cache / CORPUS_FILE, corpus_record(files))


def describing(cache: Path) -> AbstractContextManager[None]:
    """Return a lock under which only one process at a time writes the manifest of a cache."""
    return held(cache / ".manifest.lock", f"{cache / MANIFEST} is being written by another process", wait=FOREVER)


def compare_audio(
    place: LocatedCorpus, wanted: Sequence[Utterance], stores: Collection[str], workers: int, audio: AudioInput
) -> None:
    """Compare the audio of a corpus with the audio of the cache's other stores, before anything is written.

    Another corpus may have the same ids, so that the ids do not show whether the cache belongs to this corpus. Stores
    of text, and stores that do not record their audio, are not compared. If only some utterances differ, a warning is
    logged.

    Args:
        place: The corpus; nothing is compared if only its cache is known.
        wanted: The requested utterances.
        stores: Names of the stores that will be filled, which are compared later.
        workers: Number of threads.
        audio: Audio files of the corpus.

    Raises:
        CorpusError: the audio of all common utterances of a store differs.
    """
    if place.files is None:
        return
    cache, root = place.cache, place.root
    others = {folder.name: _audio_of(folder) for folder in _stores_of(cache) if folder.name not in stores}
    known = {utterance_id for entries in others.values() for utterance_id in entries}
    paths = sorted({utterance.path for utterance in wanted if utterance.utterance_id in known})
    checksums = map_in_threads(audio.checksum, paths, workers, "comparing checksums")
    for name, entries in others.items():
        compared = [u for u in wanted if u.utterance_id in entries]
        other = [u.utterance_id for u in compared if not is_same(entries[u.utterance_id], u, checksums[u.path])]
        if other and len(other) == len(compared):
            raise CorpusError(
                f"{cache / name} was made from other audio than {root}: all {len(other)} common utterances "
                f"differ ({listed(other)}); give this corpus another name with --corpus, or remove that store if it is "
                "out of date"
            )
        if other:
            log.warning(
                "%s was made from other audio in %d of %d utterances (%s); extract it again, or 'featcache fit' "
                "refuses to use it with newer stores",
                *(cache / name, len(other), len(compared), listed(other)),
            )


def _stores_of(cache: Path) -> list[Path]:
    return sorted(folder for folder in cache.iterdir() if shard_numbers(folder)) if cache.is_dir() else []


def _audio_of(folder: Path) -> dict[str, Any]:
    """Return utterance id → its row in a store, for utterances with a recorded audio checksum."""
    try:
        catalogue = read_catalogue(folder)
    except StoreError:  # Reported when the store is used.
        return {}
    if catalogue.identity.reads_text:
        return {}
    return {row["id"]: row for row in catalogue.utterances if row["audio_sha256"]}


def _is_there(workspace: Workspace, corpus: str | None) -> bool:
    """Return whether the named corpus exists or, without a name, any corpus."""
    if corpus is not None:
        return workspace.corpus(corpus).is_dir()
    return workspace.corpora.is_dir() and any(path.is_dir() for path in workspace.corpora.iterdir())


def _is_cached(workspace: Workspace, corpus: str | None) -> bool:
    """Return whether the cache of the named corpus has a manifest or, without a name, any cache."""
    return any(workspace.caches.glob(f"{'*' if corpus is None else escape(corpus)}/{MANIFEST}"))
