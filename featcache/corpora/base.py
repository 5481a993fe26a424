"""Folder of audio → Manifest: the base classes of all corpora."""

import math
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from featcache.corpora.downloads import RemoteFile
from featcache.errors import CorpusError, ManifestError, listed
from featcache.files.regular import is_hidden, resolved
from featcache.manifest import Manifest, Utterance
from featcache.terminal.progress import tracked
from featcache.units import counted

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


@dataclass(frozen=True, kw_only=True)
class Corpus(ABC):
    """Description of a corpus, independent of its location.

    Attributes:
        name: Name on the command line.
        title: Full name.
        description: One or a few sentences.
        license: Licence of the audio.
        source: Address of the corpus, and the files that featcache needs.
        download: Files for ``featcache fetch``, if anybody may download them without an application.
        classes: Values of the label ``target``, in the corpus's own order; empty if all values are allowed.
        published_counts: Class → number of utterances in the whole corpus, as its authors or later users report it.
        part: Label whose values are parts that many users download alone; empty if there are none.
        part_counts: Value of ``part`` → published counts of this part; their sum is ``published_counts``.
        protocols: Names of the protocols published for this corpus; the general ones fit every corpus.
        dialogue: Label that all utterances of one conversation share; empty if the corpus has no conversations.
        target: Label that is predicted by default.
        dimensions: Name of a numeric label → lowest and highest allowed value, in the corpus's unit.
        max_frames: Default number of 20 ms frames of each utterance that a fit uses.
            Source: Pepino et al. 2021, as run: 250 for RAVDESS, 400 for IEMOCAP.
    """

    name: str
    title: str
    description: str
    license: str
    source: str
    download: tuple[RemoteFile, ...] = ()
    classes: tuple[str, ...] = ()
    published_counts: Mapping[str, int] = field(default_factory=dict)
    part: str = ""
    part_counts: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    protocols: tuple[str, ...] = ()
    dialogue: str = ""
    target: str = "emotion"
    dimensions: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    max_frames: int = 400

    @abstractmethod
    def read(self, path: Path) -> "CorpusFiles":
        """Read the utterances of the corpus at a path.

        Args:
            path: The folder of the corpus, or its table of utterances.

        Returns:
            The utterances, and the files that are ignored or missing.

        Raises:
            CorpusError: the path does not contain this corpus, or its label files are missing or faulty.
            ManifestError: the utterances contradict each other.
        """


@dataclass(frozen=True, kw_only=True)
class CorpusFiles:
    """A corpus as found on disk.

    Attributes:
        corpus: Description of the corpus.
        root: Folder to which the paths in the manifest are relative.
        manifest: The utterances.
        ignored: Audio files that are not in the manifest: other names, second copies of the same file, no label.
        missing: Ids of utterances that the corpus's label files name but whose audio is missing.
        reference: Name or reference of the corpus in ``featcache.corpora.CORPORA``; ``read_corpus`` sets it.
        speaker_from: Regular expression that found the speakers in paths or ids; empty if the corpus names them.
    """

    corpus: Corpus
    root: Path
    manifest: Manifest
    ignored: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    reference: str = ""
    speaker_from: str = ""


def as_named(path: Path, utterances: list[Utterance]) -> tuple[list[Utterance], list[str]]:
    """Return the utterances unchanged, and no missing ones, for corpora without label files."""
    return utterances, []


@dataclass(frozen=True, kw_only=True)
class NamedCorpus(Corpus):
    r"""A corpus whose utterances are recognised by their file names.

    To use your own corpus, write a module or a file with an instance, and name it: ``layout="mylab.corpora:MYCORPUS"``
    or ``layout="./mycorpus.py:MYCORPUS"``. A package can offer the corpus under a short name with an entry point in
    the group ``featcache.corpora``. Folders with such file names are then recognised without ``layout``, like the
    folders of built-in corpora.

    Attributes:
        name: Name of a built-in corpus; users refer to any other corpus by its entry point or reference.
        title: Full name, for listings and messages.
        description: One or a few sentences.
        license: Licence of the audio.
        source: Address of the corpus, and the files that featcache needs.
        download: Files for ``featcache fetch``, if anybody may download them without an application.
        classes: Values of the label ``target``, in the order of tables; empty if all values are allowed.
        published_counts: Class → number of utterances in the whole corpus, if published.
        part: Label whose values are parts that many users download alone; empty if there are none.
        part_counts: Value of ``part`` → published counts of this part; their sum is ``published_counts``.
        protocols: Names of protocols published for this corpus.
        dialogue: Label that all utterances of one conversation share; empty if the corpus has no conversations.
        target: Label that is predicted by default, ``emotion`` if not given.
        dimensions: Name of a numeric label → lowest and highest allowed value; :meth:`read` refuses other values.
        max_frames: Default number of 20 ms frames of each utterance that a fit uses, 400 if not given.
        example: Example of a file name, for messages.
        pattern: Regular expression for the path without its extension; made by :func:`named`.
        utterance: Function that receives the path relative to the corpus folder and the match of its name, and returns
            the utterance. A KeyError that it raises means that the name contains a code unknown to the corpus.
        recognised: Whether folders with such file names are this corpus without ``--layout``, True if not given.
        complete: Function that receives the corpus folder and the utterances found. It returns these utterances with
            the contents of the corpus's label files, and the ids of utterances in the label files whose audio is
            missing. Utterances that it does not return are ignored. By default, the utterances stay unchanged.

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
        ...         labels={"emotion": EMOTIONS[emotion]},  # a KeyError reports an unknown code
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
    recognised: bool = True
    complete: Callable[[Path, list[Utterance]], tuple[list[Utterance], list[str]]] = as_named

    def match(self, path: str) -> re.Match[str] | None:
        """Match a path against the file names of this corpus.

        Args:
            path: Path relative to the corpus folder.

        Returns:
            The match of the path without its extension, or None if the file does not belong to this corpus.
        """
        return self.pattern.fullmatch(os.path.splitext(path)[0])

    def record(self) -> dict[str, Any]:
        """Return the description of the corpus as JSON values, if it is one of YAML, else an empty dictionary."""
        return {}

    def read(self, path: Path, paths: Sequence[str] | None = None) -> CorpusFiles:
        """Read the utterances anywhere below a folder, sorted by path.

        Args:
            path: The folder.
            paths: The result of ``audio_files`` for this folder, if already known.

        Returns:
            The utterances, and the files that are ignored or missing.

        Raises:
            CorpusError: the path is not a folder, no file is named as in this corpus, file names contain unknown
                codes, or label files are missing or faulty (for example, a number outside its range).
            ManifestError: two different files have the same name.
        """
        paths = audio_files(path) if paths is None else paths
        copies: dict[str, list[Utterance]] = {}
        ignored, impossible = [], []
        for file in tracked("reading file names", paths):
            match = self.match(file)
            if match is None:
                ignored += [] if is_media(file) else [file]  # Many corpora have videos beside their audio.
                continue
            try:
                utterance = self.utterance(file, match)
            except KeyError:
                impossible.append(file)
            else:
                copies.setdefault(utterance.utterance_id, []).append(utterance)
        if impossible:
            raise CorpusError(
                f"{path}: {counted(len(impossible), 'file name', 'have')} codes that {self.title} does not have: "
                f"{listed(impossible)}; rename them, like {self.example!r}, or remove them"
            )
        if not copies:
            raise CorpusError(
                f"{path}: {found(paths)}, expected file names of {self.title}, like {self.example!r}; check the folder"
            )
        copies = {name: _best_format(same) if len(same) > 1 else same for name, same in copies.items()}
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
                f"{path}: the label files of {self.title} contain none of the {len(copies)} utterances found; "
                "check that audio and labels are from the same release"
            )
        _check_numbers(path, utterances, self.dimensions)
        _check_decodable(path, self.title, [utterance.path for utterance in utterances])
        kept = {utterance.path for utterance in utterances}
        ignored += [first.path for first, *_ in copies.values() if first.path not in kept]
        return CorpusFiles(
            corpus=self,
            root=path,
            manifest=Manifest(utterances),
            ignored=tuple(sorted(ignored)),
            missing=tuple(missing),
        )


def _best_format(same: list[Utterance]) -> list[Utterance]:
    """Return the files of an utterance in the best format: the first of ``AUDIO_SUFFIXES``, or its videos."""
    ranks = [_rank(utterance.path) for utterance in same]
    return [utterance for utterance, rank in zip(same, ranks, strict=True) if rank == min(ranks)]


def _rank(path: str) -> int:
    suffix = os.path.splitext(path)[1].lower()
    return AUDIO_SUFFIXES.index(suffix) if suffix in AUDIO_SUFFIXES else len(AUDIO_SUFFIXES)


def _check_decodable(path: Path, title: str, files: Sequence[str]) -> None:
    media = [file for file in files if is_media(file)]
    if media and find_spec("av") is None:
        raise CorpusError(
            f"{path}: {len(media)} of the {len(files)} files of {title} are like {media[0]!r}, which needs PyAV: "
            "pip install 'featcache[media]'; or convert them to WAV with ffmpeg"
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
    """Compile a pattern of file names in any folder.

    Args:
        name: Regular expression for the file name without its extension.
        flags: Further flags of the regular expression.

    Returns:
        A pattern for whole paths without their extension.
    """
    return re.compile(f"(?:.*/)?{name}", re.ASCII | re.DOTALL | flags)


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
