"""Path → Corpus and Manifest: finds out which corpus lies there and reads it."""

import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from featcache.corpora.base import Corpus, CorpusFiles, NamedCorpus, audio_files, found
from featcache.corpora.cremad import CREMAD
from featcache.corpora.emodb import EMODB
from featcache.corpora.emovo import EMOVO
from featcache.corpora.folder import FOLDER, MANIFEST, find_reader
from featcache.corpora.iemocap import IEMOCAP
from featcache.corpora.meld import MELD
from featcache.corpora.msp_improv import MSP_IMPROV
from featcache.corpora.msp_podcast import MSP_PODCAST
from featcache.corpora.ravdess import RAVDESS
from featcache.corpora.savee import SAVEE
from featcache.corpora.shemo import SHEMO
from featcache.corpora.tess import TESS
from featcache.errors import CorpusError, listed, unknown_name

__all__ = ["CORPORA", "Corpus", "CorpusFiles", "read_corpus"]

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
CORPORA: dict[str, Corpus] = {corpus.name: corpus for corpus in (*NAMED, FOLDER)}

log = logging.getLogger(__name__)


def read_corpus(path: Path, kind: str | None = None) -> CorpusFiles:
    """Read the corpus that lies in a folder.

    Args:
        path: A folder, or a table of utterances: see ``featcache.corpora.folder``.
        kind: A name in ``CORPORA``. By default a table of utterances decides, and without one the corpus whose names
            most of the audio files bear.

    Raises:
        CorpusError: nothing there, an unknown kind, no corpus that is known or two that fit as well, or label files
            that are missing or faulty.
        ManifestError: a faulty table of utterances, or different files for one utterance.
    """
    if kind is not None and kind not in CORPORA:
        raise CorpusError(unknown_name("corpus", kind, CORPORA))
    if kind is not None:
        files = CORPORA[kind].read(path)
    elif path.is_file() or find_reader(path):
        files = FOLDER.read(path)
    else:
        paths = audio_files(path)
        files = _recognise(path, paths).read(path, paths)
    if files.missing:
        log.warning(
            "%s: the labels of %s name %d utterances whose audio is not there: %s",
            path,
            files.corpus.title,
            len(files.missing),
            listed(files.missing),
        )
    return files


def _recognise(path: Path, paths: Sequence[str]) -> NamedCorpus:
    fits = Counter(corpus.name for file in paths for corpus in NAMED if corpus.match(file))
    if not fits:
        for corpus in NAMED:
            corpus.check_converted(path)
        known = ", ".join(f"{corpus.title} (like {corpus.example!r})" for corpus in NAMED)
        raise CorpusError(
            f"{path}: {found(paths)}, not named as in a corpus that is known: {known}; "
            f"for other audio put a {MANIFEST} with a column 'path' there"
        )
    (name, most), *others = fits.most_common()
    if others and others[0][1] == most:
        raise CorpusError(
            f"{path}: {most} files are named as in {name}, and as many as in {others[0][0]}; "
            "give the folder of one of them"
        )
    return next(corpus for corpus in NAMED if corpus.name == name)
