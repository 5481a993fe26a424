"""Folder of audio → Manifest: what every corpus has in common."""

import math
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from featcache.errors import CorpusError, ManifestError, listed
from featcache.files.regular import is_hidden, resolved
from featcache.manifest import Manifest, Utterance

AUDIO_SUFFIXES = (".wav", ".flac", ".ogg", ".mp3", ".aiff", ".aif", ".au")
"""What libsndfile decodes."""
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
)
"""What holds sound too, but has to be converted first."""


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
        published_counts: Class → utterances in the whole corpus, as its authors or later users report them.
        protocols: The published protocols made for it; the general ones fit every corpus.
        dialogue: The label that the utterances of one conversation have in common; empty where everybody speaks alone.
        target: The label that is predicted unless another is asked for.
        dimensions: Label that is a number → the lowest and the highest that may stand there, in the corpus's unit.
        max_frames: How many frames of 20 ms a fit looks at unless told otherwise.
            Source: Pepino et al. 2021, as run: 250 for RAVDESS, 400 for IEMOCAP.
    """

    name: str
    title: str
    description: str
    license: str
    source: str
    classes: tuple[str, ...] = ()
    published_counts: Mapping[str, int] = field(default_factory=dict)
    protocols: tuple[str, ...] = ()
    dialogue: str = ""
    target: str = "emotion"
    dimensions: Mapping[str, tuple[float, float]] = field(default_factory=dict)
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
        ignored: Audio files found that are not among them: other names, second copies of the same file, no label.
        missing: Utterances that the corpus's label files name, but whose audio is not there.
        reference: What ``featcache.corpora.CORPORA`` knows the corpus by; ``read_corpus`` fills it in.
    """

    corpus: Corpus
    root: Path
    manifest: Manifest
    ignored: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    reference: str = ""


def as_named(path: Path, utterances: list[Utterance]) -> tuple[list[Utterance], list[str]]:
    """The utterances as their names describe them: nothing to add, nothing missing."""
    return utterances, []


@dataclass(frozen=True, kw_only=True)
class NamedCorpus(Corpus):
    r"""A corpus whose files are known by their names.

    To use one of your own, write a module or a file with an instance, and name it: ``layout="mylab.corpora:MYCORPUS"``
    or ``layout="./mycorpus.py:MYCORPUS"``. A package can offer it under a name with an entry point in the group
    ``featcache.corpora``; folders whose files are named so are then recognised, like those of the corpora that come
    with featcache.

    Attributes:
        example: One such name.
        pattern: Matches the whole path without its extension; made by :func:`named`.
        utterance: Path relative to the corpus folder, and the match of its name → the utterance.
            A KeyError means a code that the corpus does not have.
        complete: Corpus folder and the utterances found → those utterances with what the corpus's label files say,
            and the ids of utterances that these name but that were not found. Utterances it leaves out are ignored.

    Example:
        >>> from featcache.corpora.base import NamedCorpus, named
        >>> from featcache.manifest import Utterance
        >>> EMOTIONS = {"H": "happiness", "S": "sadness"}
        >>> def utterance(path, match):  # path "spk1/spk1_H_03.wav", match of "spk1_H_03"
        ...     speaker, emotion, number = match.groups()
        ...     return Utterance(
        ...         utterance_id=match[0].rpartition("/")[2],
        ...         path=path,
        ...         speaker_id=speaker,
        ...         labels={"emotion": EMOTIONS[emotion]},  # a KeyError is a code that the corpus does not have
        ...     )
        >>> MYCORPUS = NamedCorpus(
        ...     name="mycorpus",
        ...     title="My corpus",
        ...     description="2 speakers, 2 emotions.",
        ...     license="free for research",
        ...     source="https://example.org/mycorpus",
        ...     classes=tuple(EMOTIONS.values()),
        ...     example="spk1_H_03.wav",
        ...     pattern=named(r"(spk\d+)_([A-Z])_(\d\d)"),
        ...     utterance=utterance,
        ... )
        >>> match = MYCORPUS.match("spk1/spk1_H_03.wav")
        >>> MYCORPUS.utterance("spk1/spk1_H_03.wav", match).labels
        {'emotion': 'happiness'}
    """

    example: str
    pattern: re.Pattern[str]
    utterance: Callable[[str, re.Match[str]], Utterance]
    complete: Callable[[Path, list[Utterance]], tuple[list[Utterance], list[str]]] = as_named

    def match(self, path: str) -> re.Match[str] | None:
        """How a file is named, or None when its name is not one of this corpus."""
        return self.pattern.fullmatch(os.path.splitext(path)[0])

    def check_converted(self, path: Path) -> None:
        """Refuse a folder where this corpus lies as video, or as audio that cannot be decoded.

        Raises:
            CorpusError: some of its files are named as in this corpus.
        """
        media = [file for file in files_below(path, MEDIA_SUFFIXES) if self.match(file)]
        if media:
            stem, suffix = os.path.splitext(media[0])
            raise CorpusError(
                f"{path}: {self.title}, but {len(media)} of its files are {suffix} (such as {media[0]!r}), which "
                f"cannot be decoded; convert each of them to WAV, as with 'ffmpeg -i {stem}{suffix} {stem}.wav'"
            )

    def read(self, path: Path, paths: Sequence[str] | None = None) -> CorpusFiles:
        """Find the utterances anywhere below a folder, sorted by path.

        Args:
            path: The folder.
            paths: What ``audio_files`` finds there, when it is known already.

        Raises:
            CorpusError: not a folder; no file is named as in this corpus, or some have codes that it does not have;
                label files that are missing, or that say what cannot be, such as a number out of its range.
            ManifestError: two different files bear the same name.
        """
        paths = audio_files(path) if paths is None else paths
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
            self.check_converted(path)
            raise CorpusError(
                f"{path}: {found(paths)}, none named as in {self.title}, like {self.example!r}; check the folder"
            )
        for utterance_id, same in copies.items():
            names = [utterance.path for utterance in same]
            if len(names) > 1 and len({(path / name).stat().st_size for name in names}) > 1:
                raise ManifestError(
                    f"{path}: {listed(names)} are different files for utterance {utterance_id!r}; keep one of them"
                )
            ignored += names[1:]
        utterances, missing = self.complete(path, [first for first, *_ in copies.values()])
        if not utterances:
            raise CorpusError(
                f"{path}: the label files of {self.title} name none of the {len(copies)} utterances found there; "
                "check that audio and labels are of one release"
            )
        _check_numbers(path, utterances, self.dimensions)
        kept = {utterance.utterance_id for utterance in utterances}
        ignored += [first.path for utterance_id, (first, *_) in copies.items() if utterance_id not in kept]
        return CorpusFiles(
            corpus=self,
            root=path,
            manifest=Manifest(utterances),
            ignored=tuple(sorted(ignored)),
            missing=tuple(missing),
        )


def _check_numbers(path: Path, utterances: Sequence[Utterance], dimensions: Mapping[str, tuple[float, float]]) -> None:
    strange = [
        f"{utterance.utterance_id!r} has {name} {utterance.labels[name]!r}, expected a number from {low:g} to {high:g}"
        for utterance in utterances
        for name, (low, high) in dimensions.items()
        if utterance.labels.get(name, "") != "" and not low <= _number(utterance.labels[name]) <= high
    ]
    if strange:
        others = f" (and {len(strange) - 1} more)" if strange[1:] else ""
        raise CorpusError(f"{path}: {strange[0]}{others}; fetch the label files again, or empty the field")


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def named(name: str, flags: re.RegexFlag = re.NOFLAG) -> re.Pattern[str]:
    """The pattern of file names, without their extension, in any folder."""
    return re.compile(f"(?:.*/)?{name}", re.ASCII | re.DOTALL | flags)


def label_file(folder: Path, *names: str) -> Path | None:
    """The first of these files in the corpus folder, in a folder right inside it, or in the folder that holds it."""
    for name in names:
        for place in (folder / name, *visible(folder.glob(f"*/{name}"), folder), resolved(folder).parent / name):
            if place.is_file():
                return place
    return None


def audio_files(folder: Path) -> list[str]:
    """The audio files anywhere below a folder, relative to it, sorted; hidden files and folders are left out.

    Raises:
        CorpusError: the folder does not exist, or is a file.
    """
    if not folder.is_dir():
        raise CorpusError(f"{folder} is {'a file' if folder.exists() else 'missing'}; give the folder of the audio")
    return files_below(folder, AUDIO_SUFFIXES)


def files_below(folder: Path, suffixes: tuple[str, ...]) -> list[str]:
    """The files anywhere below a folder whose names end so, relative to it, sorted; hidden ones are left out."""
    files: list[str] = []
    visited: set[str] = set()
    for parent, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(parent)
        if real in visited:  # a link to a folder further up
            folders.clear()
            continue
        visited.add(real)
        folders[:] = sorted(name for name in folders if not is_hidden(name))
        here = Path(parent).relative_to(folder)
        files += [(here / name).as_posix() for name in names if name.lower().endswith(suffixes) and not is_hidden(name)]
    return sorted(files)


def files_in(folder: Path, suffix: str) -> list[Path]:
    """The files right inside a folder whose names end so, sorted; hidden ones are left out."""
    return visible(folder.glob(f"*{suffix}"), folder)


def visible(paths: Iterable[Path], folder: Path) -> list[Path]:
    """Those of the paths below a folder that are not hidden, sorted."""
    return sorted(path for path in paths if not any(map(is_hidden, path.relative_to(folder).parts)))


def found(paths: Sequence[str]) -> str:
    """What was found, for an error message: ``2 audio files ('a.wav', …)``."""
    return f"{len(paths)} audio files ({paths[0]!r}, …)" if paths else "no audio files"
