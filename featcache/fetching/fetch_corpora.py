"""Name of a corpus → its folder, downloaded from its authors and unpacked."""

import logging
import shutil
from pathlib import Path

from featcache.corpora import CORPORA, Corpus, NamedCorpus
from featcache.corpora.folder_contents import audio_files
from featcache.errors import CorpusError, DiskError
from featcache.extractors.safetensors_revision import is_offline
from featcache.fetching.http_download import download, part_size, remote_size
from featcache.fetching.model_folder import new_folder, only_one
from featcache.fetching.unpack_archives import Unpacking
from featcache.files.disk import writing
from featcache.units import counted, format_bytes
from featcache.workspace import Workspace

log = logging.getLogger(__name__)


def fetch_corpus(name: str, out: Path | None) -> Path:
    """Return the folder of a corpus after downloading and unpacking it.

    Args:
        name: Name in ``CORPORA``.
        out: Folder to write; by default that of the corpus in the workspace.

    Raises:
        CorpusError: its authors do not let anybody download it, it cannot be downloaded, or an archive is damaged or
            contains something dangerous.
        DiskError: the files cannot be written, or the disk has too little space.
    """
    corpus = CORPORA.find(name)
    folder = Workspace.at().corpus(name) if out is None else out
    if _exists(corpus, folder):
        return folder
    if not corpus.download:
        raise CorpusError(
            f"{name} cannot be fetched: featcache knows no archive that anybody may download without an application or "
            f"an account (licence: {corpus.license}); get it from {corpus.source}, and put it into {folder}"
        )
    if is_offline():
        raise CorpusError(f"{name}: not downloaded (HF_HUB_OFFLINE is set); get it elsewhere, and copy it to {folder}")
    with only_one(folder):
        if not _exists(corpus, folder):
            try:
                _fetch(name, corpus, folder)
            except KeyboardInterrupt:
                log.info("%s: run the same command again to continue", name)
                raise
    return folder


def _exists(corpus: Corpus, folder: Path) -> bool:
    """Return whether a folder contains a corpus already.

    Raises:
        CorpusError: it contains something else.
    """
    if folder.is_dir() and not any(folder.iterdir()):
        return False
    if not folder.exists() and not folder.is_symlink():
        return False
    if folder.is_dir() and _count(corpus, folder):
        log.info("%s: it is in %s already; 'featcache check' tells whether files are missing", corpus.name, folder)
        return True
    raise CorpusError(f"{folder} exists and contains no file of {corpus.title}; choose another folder with --out")


def _count(corpus: Corpus, folder: Path) -> int:
    """Return the number of audio files that are named as in the corpus."""
    paths = audio_files(folder)
    return sum(corpus.match(path) is not None for path in paths) if isinstance(corpus, NamedCorpus) else len(paths)


def _fetch(name: str, corpus: Corpus, folder: Path) -> None:
    """Download all files into a hidden folder beside the new one, unpack them into another one, and rename it."""
    store = folder.with_name(f".{folder.name}.download")
    targets = [store / remote.file_name for remote in corpus.download]
    _announce(name, corpus, store)
    with writing(store):
        store.mkdir(parents=True, exist_ok=True)
    for remote, target in zip(corpus.download, targets, strict=True):
        download(remote, target, f"{name}: {remote.file_name}")
    with new_folder(folder) as temporary:
        unpacking = Unpacking(temporary)
        for remote, target in zip(corpus.download, targets, strict=True):
            log.info("%s: unpacking %s", name, remote.file_name)
            try:
                unpacking.add(target, remote.folder)
            except CorpusError:
                if not remote.checksum:  # Perhaps the download is at fault. The next call repeats it.
                    target.unlink(missing_ok=True)
                raise
        try:
            _check_names(name, corpus, temporary)
        except CorpusError:
            shutil.rmtree(store, ignore_errors=True)
            raise
    shutil.rmtree(store, ignore_errors=True)


def _announce(name: str, corpus: Corpus, store: Path) -> None:
    """Log addresses, size and licence, and check that the disk has enough space.

    Raises:
        CorpusError: a server cannot be reached, or has no such file.
        DiskError: the disk has too little space.
    """
    missing = [one for one in corpus.download if not (store / one.file_name).is_file()]
    sizes = [remote_size(one) for one in missing]
    known = sum(size for size in sizes if size is not None)
    unknown = sum(size is None for size in sizes)
    size = format_bytes(known) if known or not unknown else ""
    told = " and ".join(filter(None, [size, f"{counted(unknown, 'file')} of unknown size" if unknown else ""]))
    others = f" and {counted(len(missing) - 1, 'other file')}" if missing[1:] else ""
    if missing:
        log.info("%s: %s from %s%s", name, told, missing[0].address, others)
    log.info("%s: licence %s; see %s", name, corpus.license, corpus.source)
    done = sum(part_size(store / one.file_name) for one in missing)
    if done:
        log.info("%s: %s of it are here already", name, format_bytes(done))
    # Unpacked files are at least as large as their archives.
    needed = max(0, known - done) + known
    existing = next(path for path in (store, *store.absolute().parents) if path.is_dir())
    free = shutil.disk_usage(existing).free
    if needed > free:
        raise DiskError(
            f"{name} needs at least {format_bytes(needed)} in {existing}, but {format_bytes(free)} are free; free disk "
            "space, or choose a folder on another disk with --out"
        )


def _check_names(name: str, corpus: Corpus, folder: Path) -> None:
    """Check that the unpacked files are the corpus; log a warning if there are fewer than published.

    Raises:
        CorpusError: no file is named as in the corpus.
    """
    number, published = _count(corpus, folder), sum(corpus.published_counts.values())
    if not number:
        example = f", like {corpus.example!r}" if isinstance(corpus, NamedCorpus) else ""
        raise CorpusError(
            f"{name}: the archive contains no audio file of {corpus.title}{example}; it has changed, so get the corpus "
            f"from {corpus.source}"
        )
    if number < published:
        log.warning(
            "%s: %s found, but %d utterances are published; compare the folder with %s",
            name,
            counted(number, "audio file", "were"),
            published,
            corpus.source,
        )
