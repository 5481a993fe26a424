"""AUDIO argument of a prediction → the utterances of a file, a folder, a table or a corpus."""

import logging
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from featcache.corpora import read_corpus, recognise
from featcache.corpora.base import CorpusFiles
from featcache.corpora.folder import MANIFEST, find_reader
from featcache.corpora.folder_contents import AUDIO_SUFFIXES, MEDIA_SUFFIXES, audio_files, files_below
from featcache.corpora.plain_audio import AUDIO, plain_utterances
from featcache.errors import CorpusError, FeatcacheError, ManifestError, StoreError, listed, unknown_name
from featcache.files.regular import is_hidden, resolved
from featcache.manifest import Manifest
from featcache.units import counted
from featcache.utterances import Utterance
from featcache.workspace import Workspace

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class AudioSource:
    """Utterances of one AUDIO argument.

    Attributes:
        root: Absolute folder that the paths are relative to.
        utterances: The utterances, in order.
        is_plain: Whether each utterance is a whole file, so that its path names it.
        is_file: Whether the argument is a single audio file.
        corpus: Name of the corpus; None for plain audio.
        cache: Cache of the corpus, if it has the same utterances.
        has_audio: Whether the audio exists; False if only the cache is known.
    """

    root: Path
    utterances: tuple[Utterance, ...]
    is_plain: bool
    is_file: bool = False
    corpus: str | None = None
    cache: Path | None = None
    has_audio: bool = True


def find_source(argument: str, workspace: Workspace, layout: str | None) -> AudioSource:
    """Return the utterances of one AUDIO argument: a path that exists, or the name of a corpus.

    Args:
        argument: File, folder, table of utterances, or name of a corpus.
        workspace: Folder of corpora, caches and runs.
        layout: Name or reference of the known corpus, if the files do not show it; only for folders.

    Raises:
        CorpusError: there is no such file, folder or corpus; a folder has no audio, or another layout.
        ManifestError: a table of utterances is faulty.
    """
    if not argument:
        raise CorpusError("AUDIO is empty; give a file, a folder or a corpus, or '.' for the current folder")
    path = Path(argument)
    if os.path.isdir(path):
        return _of_folder(path, resolved(path).name, workspace, layout)
    if os.path.lexists(path):
        if os.path.isfile(path) and find_reader(path):
            return _of_corpus(read_corpus(path), resolved(path).stem, workspace)
        return _of_file(path)
    if argument in _known(workspace):
        folder = workspace.corpus(argument)
        if folder.is_dir():
            return _of_folder(folder, argument, workspace, layout)
        cache = workspace.cache(argument)
        manifest = Manifest.read(cache / MANIFEST)
        return AudioSource(
            root=absolute(cache),
            utterances=tuple(manifest),
            is_plain=False,
            corpus=argument,
            cache=cache,
            has_audio=False,
        )
    if path.suffix.lower() in (*AUDIO_SUFFIXES, *MEDIA_SUFFIXES):
        return _of_file(path)  # listed as a failure with the reason, and the other files are processed
    raise CorpusError(unknown_name("file, folder or corpus", argument, _known(workspace)))


def absolute(path: Path) -> Path:
    """Return an absolute path; symbolic links stay, except where ``..`` would lead elsewhere behind them."""
    return resolved(path) if ".." in path.parts else Path(os.path.abspath(path))


def _known(workspace: Workspace) -> list[str]:
    """Return the names of the corpora in the workspace, with audio or with a cache."""
    audio = [path.name for path in workspace.corpora.glob("*") if path.is_dir() and not is_hidden(path.name)]
    return list(dict.fromkeys([*audio, *(path.parent.name for path in workspace.caches.glob(f"*/{MANIFEST}"))]))


def _of_file(path: Path) -> AudioSource:
    place = absolute(path.parent) / path.name
    utterance = Utterance(utterance_id=place.stem, path=place.name)
    return AudioSource(root=place.parent, utterances=(utterance,), is_plain=True, is_file=True)


def _of_folder(folder: Path, name: str, workspace: Workspace, layout: str | None) -> AudioSource:
    if layout is not None and layout != AUDIO.name:
        return _of_corpus(read_corpus(folder, layout), name, workspace)
    if layout is None and find_reader(folder):
        return _of_corpus(read_corpus(folder), name, workspace)
    paths = audio_files(folder)
    files = _recognised(folder, paths) if layout is None else None
    if files is not None:
        return _of_corpus(files, name, workspace)
    if not paths:
        log.warning("%s: no audio files", folder)
    _tell_ignored(folder, paths)
    utterances = tuple(plain_utterances(paths))
    cache = _cache_of(name, utterances, workspace)
    corpus = None if cache is None else name
    return AudioSource(root=absolute(folder), utterances=utterances, is_plain=True, corpus=corpus, cache=cache)


def _recognised(folder: Path, paths: Sequence[str]) -> CorpusFiles | None:
    """Return the files of a known corpus; None for other audio, all of which is to be predicted.

    A corpus does not count if most audio files do not belong to it. A corpus that cannot be read, for example because
    its labels are missing, is other audio, too: a prediction needs no labels.
    """
    try:
        reference = recognise(folder, paths)
        if reference is None:
            return None
        files = read_corpus(folder, reference)
    except FeatcacheError as error:
        log.warning("%s is read as plain audio, without speakers and transcripts: %s", folder, error)
        return None
    if len(files.ignored) > len(files.manifest):
        return None
    if files.ignored:
        log.warning(
            "%s: audio files outside the corpus %r are ignored (%d): %s; --layout %s predicts all files",
            *(folder, reference, len(files.ignored), listed(files.ignored), AUDIO.name),
        )
    return files


def _of_corpus(files: CorpusFiles, name: str, workspace: Workspace) -> AudioSource:
    utterances = tuple(files.manifest)
    cache = _cache_of(name, utterances, workspace)
    return AudioSource(root=absolute(files.root), utterances=utterances, is_plain=False, corpus=name, cache=cache)


def _cache_of(name: str, utterances: Sequence[Utterance], workspace: Workspace) -> Path | None:
    """Return the cache of this name if it has all of these utterances; their audio is not compared."""
    with suppress(StoreError, ManifestError):  # an impossible name, a damaged manifest
        cache = workspace.cache(name)
        if (cache / MANIFEST).is_file():
            known = set(Manifest.read(cache / MANIFEST).utterance_ids)
            return cache if all(utterance.utterance_id in known for utterance in utterances) else None
    return None


def _tell_ignored(folder: Path, paths: Sequence[str]) -> None:
    """Log how many files of a folder are ignored."""
    others = {*files_below(folder, ("",))} - {*paths}
    if others:
        log.info("%s: %s no audio, and ignored", folder, counted(len(others), "file", "are"))
