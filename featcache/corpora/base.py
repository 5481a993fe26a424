"""Folder of audio → Manifest: what every corpus has in common."""

import os
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from featcache.errors import CorpusError, ManifestError, listed
from featcache.manifest import Manifest, Utterance

AUDIO_SUFFIXES = (".wav", ".flac", ".ogg", ".mp3", ".aiff", ".aif", ".au")
"""What libsndfile decodes."""


@dataclass(frozen=True, kw_only=True)
class Corpus(ABC):
    """What is known about a corpus, wherever it lies.

    Attributes:
        name: What the command line calls it.
        title: What people call it.
        description: One sentence.
        license: What its audio may be used for.
        source: Where to get it.
        classes: The values of the label ``target``, in the corpus's own order; empty when any may stand there.
        protocols: The published protocols made for it; the general ones fit every corpus.
        target: The label that is predicted unless another is asked for.
        max_frames: How many frames of 20 ms a fit looks at unless told otherwise.
            Source: Pepino et al. 2021, as run: 250 for RAVDESS, 400 for IEMOCAP.
    """

    name: str
    title: str
    description: str
    license: str
    source: str
    classes: tuple[str, ...] = ()
    protocols: tuple[str, ...] = ()
    target: str = "emotion"
    max_frames: int = 400

    @abstractmethod
    def read(self, path: Path) -> "CorpusFiles":
        """Find the utterances that lie at a path."""


@dataclass(frozen=True, kw_only=True)
class CorpusFiles:
    """A corpus as it was found.

    Attributes:
        corpus: Which one it is.
        root: The folder that the paths of the manifest start from.
        manifest: Its utterances.
        ignored: Audio files found that are not among them: other names, and second copies of the same file.
    """

    corpus: Corpus
    root: Path
    manifest: Manifest
    ignored: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class NamedCorpus(Corpus):
    """A corpus that says everything in its file names.

    Attributes:
        example: One such name.
        pattern: Matches the whole name without its extension.
        utterance: Path relative to the corpus folder, and the match of its name → the utterance.
            A KeyError means a code that the corpus does not have.
    """

    example: str
    pattern: re.Pattern[str]
    utterance: Callable[[str, re.Match[str]], Utterance]

    def match(self, path: str) -> re.Match[str] | None:
        """How a file is named, or None when its name is not one of this corpus."""
        return self.pattern.fullmatch(PurePosixPath(path).stem)

    def read(self, path: Path) -> CorpusFiles:
        """Find the utterances anywhere below a folder, sorted by path.

        Raises:
            CorpusError: not a folder; no file is named as in this corpus, or some have codes that it does not have.
            ManifestError: two different files bear the same name.
        """
        paths = audio_files(path)
        copies: dict[str, list[Utterance]] = {}
        ignored, impossible = [], []
        for file in paths:
            match = self.match(file)
            if match is None:
                ignored.append(file)
                continue
            try:
                utterance = self.utterance(file, match)
            except KeyError:
                impossible.append(file)
            else:
                copies.setdefault(utterance.utterance_id, []).append(utterance)
        if impossible:
            raise CorpusError(
                f"{path}: {len(impossible)} file names have codes that {self.title} does not have: "
                f"{listed(impossible)}; rename them, like {self.example!r}, or take them away"
            )
        if not copies:
            raise CorpusError(
                f"{path}: {found(paths)}, none named as in {self.title}, like {self.example!r}; check the folder"
            )
        for utterance_id, same in copies.items():
            names = [utterance.path for utterance in same]
            if len({(path / name).stat().st_size for name in names}) > 1:
                raise ManifestError(
                    f"{path}: {listed(names)} are different files for utterance {utterance_id!r}; keep one of them"
                )
            ignored += names[1:]
        manifest = Manifest([first for first, *_ in copies.values()])
        return CorpusFiles(corpus=self, root=path, manifest=manifest, ignored=tuple(sorted(ignored)))


def audio_files(folder: Path) -> list[str]:
    """The audio files anywhere below a folder, relative to it, sorted; hidden files and folders are left out.

    Raises:
        CorpusError: the folder does not exist, or is a file.
    """
    if not folder.is_dir():
        raise CorpusError(f"{folder} is {'a file' if folder.exists() else 'missing'}; give the folder of the audio")
    files: list[str] = []
    visited: set[str] = set()
    for parent, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(parent)
        if real in visited:  # a link to a folder further up
            folders.clear()
            continue
        visited.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        here = Path(parent).relative_to(folder)
        files += [
            (here / name).as_posix()
            for name in names
            if name.lower().endswith(AUDIO_SUFFIXES) and not name.startswith(".")
        ]
    return sorted(files)


def found(paths: Sequence[str]) -> str:
    """What was found, for an error message: ``2 audio files ('a.wav', …)``."""
    return f"{len(paths)} audio files ({paths[0]!r}, …)" if paths else "no audio files"
