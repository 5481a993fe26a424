"""Folder of audio → Manifest: the base classes of all corpora."""

import math
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from featcache.corpora.downloads import RemoteFile
from featcache.corpora.folder_contents import audio_files, best_format, found, is_media
from featcache.errors import CorpusError, ManifestError, listed
from featcache.manifest import Manifest, Utterance
from featcache.terminal.progress import tracked
from featcache.units import counted


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
        copies = {name: best_format(same) if len(same) > 1 else same for name, same in copies.items()}
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
