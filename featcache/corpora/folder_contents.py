"""Folder of a corpus → paths of its audio and label files."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from featcache.errors import CorpusError
from featcache.files.regular import is_hidden, resolved
from featcache.manifest import Utterance

AUDIO_SUFFIXES = (".wav", ".flac", ".aiff", ".aif", ".au", ".ogg", ".oga", ".opus", ".mp3")
"""Suffixes of the audio files that libsndfile decodes; lossless ones first."""
MEDIA_SUFFIXES = (
    ".mp4",
    ".m4a",
    ".m4v",
    ".mov",
    ".mkv",
    ".mka",
    ".webm",
    ".avi",
    ".wmv",
    ".wma",
    ".aac",
    ".flv",
    ".3gp",
    ".amr",
)
"""Suffixes of the audio and video files that only FFmpeg decodes (PyAV, extra ``media``)."""


def best_format(same: list[Utterance]) -> list[Utterance]:
    """Return the files of an utterance in the best format: the first of ``AUDIO_SUFFIXES``, or its videos."""
    ranks = [_rank(utterance.path) for utterance in same]
    return [utterance for utterance, rank in zip(same, ranks, strict=True) if rank == min(ranks)]


def _rank(path: str) -> int:
    suffix = os.path.splitext(path)[1].lower()
    return AUDIO_SUFFIXES.index(suffix) if suffix in AUDIO_SUFFIXES else len(AUDIO_SUFFIXES)


def label_file(folder: Path, *names: str) -> Path | None:
    """Find a label file in the corpus folder, directly below it, or in its parent folder.

    Args:
        folder: The corpus folder.
        names: File names, tried in this order.

    Returns:
        The first file that exists, or None.
    """
    for name in names:
        for place in (folder / name, *visible(folder.glob(f"*/{name}"), folder), resolved(folder).parent / name):
            if os.path.isfile(place):  # False for names that no file can have
                return place
    return None


def audio_files(folder: Path) -> list[str]:
    """List the audio files anywhere below a folder, without hidden files and folders.

    Args:
        folder: The folder.

    Returns:
        Paths relative to the folder, sorted. A file that only FFmpeg decodes is left out if it lies beside an audio
        file of the same name: it is its source.

    Raises:
        CorpusError: the folder does not exist, or is a file.
    """
    if not folder.is_dir():
        raise CorpusError(f"{folder} is {'a file' if folder.exists() else 'missing'}; give the folder with the audio")
    files = files_below(folder, (*AUDIO_SUFFIXES, *MEDIA_SUFFIXES))
    audio = {os.path.splitext(file)[0] for file in files if not is_media(file)}
    return [file for file in files if not is_media(file) or os.path.splitext(file)[0] not in audio]


def is_media(path: str) -> bool:
    """Return whether a path has the suffix of a file that only FFmpeg decodes."""
    return path.lower().endswith(MEDIA_SUFFIXES)


def files_below(folder: Path, suffixes: tuple[str, ...]) -> list[str]:
    """List the files anywhere below a folder that have one of the suffixes, without hidden files.

    Args:
        folder: The folder.
        suffixes: Suffixes in lower case, such as ``.wav``.

    Returns:
        Paths relative to the folder, sorted.
    """
    files: list[str] = []
    visited: set[str] = set()
    for parent, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(parent)
        if real in visited:  # a link to a folder further up
            folders.clear()
            continue
        visited.add(real)
        folders[:] = sorted(name for name in folders if not is_hidden(name))
        before = "/".join([*Path(parent).relative_to(folder).parts, ""])
        files += [before + name for name in names if name.lower().endswith(suffixes) and not is_hidden(name)]
    return sorted(files)


def files_in(folder: Path, suffix: str) -> list[Path]:
    """List the files directly in a folder that have a suffix, sorted, without hidden files."""
    return visible(folder.glob(f"*{suffix}"), folder)


def visible(paths: Iterable[Path], folder: Path) -> list[Path]:
    """Return the paths below a folder that are not hidden, sorted."""
    return sorted(path for path in paths if not any(map(is_hidden, path.relative_to(folder).parts)))


def found(paths: Sequence[str]) -> str:
    """Return the audio files found as text for an error message: ``2 audio files ('a.wav', …)``."""
    return f"{len(paths)} audio files ({paths[0]!r}, …)" if paths else "no audio files"
