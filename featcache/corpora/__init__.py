"""Path → Corpus and Manifest: recognition and reading of corpora."""

import logging
import os
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from featcache.corpora.base import Corpus, CorpusFiles, NamedCorpus
from featcache.corpora.cremad import CREMAD
from featcache.corpora.emodb import EMODB
from featcache.corpora.emovo import EMOVO
from featcache.corpora.folder import FOLDER, MANIFEST, find_reader
from featcache.corpora.folder_contents import audio_files
from featcache.corpora.iemocap import IEMOCAP
from featcache.corpora.known_speakers import with_known_speakers
from featcache.corpora.meld import MELD
from featcache.corpora.msp_improv import MSP_IMPROV
from featcache.corpora.msp_podcast import MSP_PODCAST
from featcache.corpora.plain_audio import AUDIO
from featcache.corpora.ravdess import RAVDESS
from featcache.corpora.registered import CorpusRegistry, shipped_descriptions
from featcache.corpora.savee import SAVEE
from featcache.corpora.shemo import SHEMO
from featcache.corpora.speaker_expression import speakers_from
from featcache.corpora.tess import TESS
from featcache.errors import CorpusError, listed
from featcache.manifest import Manifest
from featcache.units import counted

__all__ = ["CORPORA", "Corpus", "CorpusFiles", "NamedCorpus", "read_corpus", "recognise"]

NAMED: tuple[NamedCorpus, ...] = (
    CREMAD,
    EMODB,
    EMOVO,
    IEMOCAP,
    MELD,
    MSP_IMPROV,
    MSP_PODCAST,
    RAVDESS,
    SAVEE,
    SHEMO,
    TESS,
)
CORPORA = CorpusRegistry(
    "corpus",
    "featcache.corpora",
    {**{corpus.name: corpus for corpus in NAMED}, **shipped_descriptions(), FOLDER.name: FOLDER, AUDIO.name: AUDIO},
    base=Corpus,
    error=CorpusError,
    instances=True,
)

# Number of file names by which most corpora are ruled out in a large folder.
_SAMPLE = 1000

log = logging.getLogger(__name__)


def read_corpus(path: Path, kind: str | Corpus | None = None, *, speaker_from: str | None = None) -> CorpusFiles:
    """Read the corpus in a folder.

    Args:
        path: A folder, or a table of utterances (see ``featcache.corpora.folder``).
        kind: A name in ``CORPORA``, or a corpus from outside of featcache that the user named, or the corpus itself.
            By default, a table of utterances is read if the folder contains one, otherwise the corpus that matches most
            audio file names.
        speaker_from: Regular expression that finds the speaker in each path or id, in place of the corpus's speakers.

    Returns:
        The corpus, its utterances, and the files that are ignored or missing.

    Raises:
        CorpusError: the path does not exist, the kind is unknown, no known corpus or two corpora match the file names,
            or label files are missing or faulty.
        ManifestError: a faulty table of utterances, different files for one utterance, or no speaker in some paths.
    """
    if isinstance(kind, Corpus):
        files = _read(kind.name, kind, path)
    elif kind is not None:
        files = _read(kind, CORPORA.find(kind), path)
    elif path.is_file() or find_reader(path):
        files = _read(FOLDER.name, FOLDER, path)
    else:
        paths = audio_files(path)
        reference = recognise(path, paths)
        if reference is None:
            raise _unrecognised(path, paths)
        if not CORPORA.is_builtin(reference):
            log.info("%s is read as the corpus %r", path, reference)
        files = _read(reference, CORPORA.available()[reference], path, paths)
    if files.missing:
        log.warning(
            "%s: the labels of %s name %s whose audio is missing: %s",
            path,
            files.corpus.title,
            counted(len(files.missing), "utterance"),
            listed(files.missing),
        )
    if speaker_from is not None:
        manifest = Manifest(speakers_from(list(files.manifest), speaker_from))
        return replace(files, manifest=manifest, speaker_from=speaker_from)
    if files.corpus is FOLDER:
        return replace(files, manifest=with_known_speakers(files.manifest, CORPORA))
    return files


def _read(reference: str, corpus: Corpus, path: Path, paths: Sequence[str] | None = None) -> CorpusFiles:
    with CORPORA.guarding(reference, f"read {path}"):
        if isinstance(corpus, NamedCorpus) and type(corpus).read is NamedCorpus.read:
            files = corpus.read(path, paths)
        else:
            files = corpus.read(path)
        if not isinstance(files, CorpusFiles):
            raise TypeError(f"read() returned {type(files).__name__}, expected CorpusFiles")
        return replace(files, reference=reference)


def recognise(path: Path, paths: Sequence[str]) -> str | None:
    """Return the name of the known corpus that matches most audio file names; None if no corpus matches any.

    Args:
        path: The folder.
        paths: The result of ``audio_files`` for this folder.

    Raises:
        CorpusError: two corpora match equally many names.
    """
    some = paths[:: max(1, len(paths) // _SAMPLE)]
    fits = _fits(_named(), some)
    if len(some) < len(paths):
        # Names that no corpus has, and corpora that are rare among them, need all names.
        clear = sum(fits.values()) >= len(some) / 2
        fits = _fits({name: one for name, one in _named().items() if name in fits or not clear}, paths)
    if not fits:
        return None
    (reference, most), *others = fits.most_common()
    if others and others[0][1] == most:
        raise CorpusError(
            f"{path}: {most} files are named as in {reference}, and equally many as in {others[0][0]}; "
            "give the folder of one of them, or choose with --layout"
        )
    return reference


def _fits(corpora: Mapping[str, NamedCorpus], paths: Sequence[str]) -> Counter[str]:
    """Return the number of file names that each corpus matches, for corpora that match any."""
    fits: Counter[str] = Counter()
    for reference, corpus in corpora.items():
        with CORPORA.guarding(reference, "match file names"):
            fits[reference] = sum(corpus.match(file) is not None for file in paths)
    return +fits


def _named() -> Mapping[str, NamedCorpus]:
    return {name: one for name, one in CORPORA.available().items() if isinstance(one, NamedCorpus) and one.recognised}


def _unrecognised(path: Path, paths: Sequence[str]) -> CorpusError:
    if not paths:
        names = sorted(os.listdir(path))
        there = f", only {listed(names)}" if names else ", it is empty"
        return CorpusError(f"{path}: no audio files and no table of utterances{there}; check the folder")
    return CorpusError(
        f"{path}: {counted(len(paths), 'audio file')} ({listed(paths, at_most=2)}), expected file names of a "
        f"known corpus ('featcache corpora' lists them) or a table of utterances; choose a corpus with --layout NAME, "
        f"describe the names with 'featcache new-corpus {shlex.quote(str(path))}', add a {MANIFEST} with a column "
        f"'path', or read the audio without labels with --layout {AUDIO.name}"
    )
