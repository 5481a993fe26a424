"""Workspace × what a user names → the corpus that is extracted: its utterances, and where it and its stores are."""

import json
import logging
import os
from contextlib import AbstractContextManager
from dataclasses import dataclass
from glob import escape
from pathlib import Path

from featcache.checksums import CHECKSUMS, replacing_checksums
from featcache.corpora import CorpusFiles, read_corpus
from featcache.errors import CorpusError, listed
from featcache.files import remove_unfinished, replace_file
from featcache.locks import FOREVER, held
from featcache.manifest import Manifest
from featcache.workspace import Workspace

MANIFEST = "manifest.csv"

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Place:
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


def find_place(workspace: Workspace, corpus: str | None, data: Path | None, *, audio: bool) -> Place:
    """Find a corpus.

    Args:
        workspace: Where to look.
        corpus: Its name; by default that of the folder.
        data: Where its audio lies; by default under ``corpora``.
        audio: Whether audio is needed; else a cache's manifest will do where the corpus is not there any more.

    Raises:
        CorpusError: there is none, or there are several and none was named.
        StoreError: the same of caches.
    """
    if not audio and data is None and not _is_there(workspace, corpus) and _is_cached(workspace, corpus):
        cache = workspace.find_cache(corpus)
        return Place(cache=cache, root=cache, manifest=Manifest.read(cache / MANIFEST), files=None)
    name, files = find_files(workspace, corpus, data)
    return Place(cache=workspace.cache(name), root=files.root, manifest=files.manifest, files=files)


def find_files(
    workspace: Workspace, corpus: str | None, data: str | os.PathLike[str] | None
) -> tuple[str, CorpusFiles]:
    """The name of a corpus and its files; those that are left out are told.

    Args:
        workspace: Where everything lives.
        corpus: Name under ``data/corpora``; may be left out when there is one.
        data: The corpus's folder, or a manifest as CSV, when it lies elsewhere.

    Raises:
        CorpusError: there is none, or there are several and none was named.
        StoreError: its name makes no name of a folder.
    """
    name, folder = workspace.find_corpus(corpus, None if data is None else Path(data))
    workspace.check_corpus(name)
    files = read_corpus(folder)
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
        for name in (MANIFEST, "corpus.json", CHECKSUMS):
            remove_unfinished(cache, name)
        with replacing_checksums(cache, MANIFEST, "corpus.json"):
            files.manifest.write(path)
            replace_file(cache / "corpus.json", json.dumps({"corpus": files.corpus.name}).encode())


def describing(cache: Path) -> AbstractContextManager[None]:
    """Let whoever writes a cache's manifest do so in turn."""
    return held(cache / ".manifest.lock", f"{cache / MANIFEST} is being written by another process", wait=FOREVER)


def _is_there(workspace: Workspace, corpus: str | None) -> bool:
    """Whether there is such a corpus, or any."""
    if corpus is not None:
        return workspace.corpus(corpus).is_dir()
    return workspace.corpora.is_dir() and any(path.is_dir() for path in workspace.corpora.iterdir())


def _is_cached(workspace: Workspace, corpus: str | None) -> bool:
    """Whether the cache of such a corpus, or of any, says which utterances there are."""
    return any(workspace.caches.glob(f"{'*' if corpus is None else escape(corpus)}/{MANIFEST}"))
