"""Path → Corpus and Manifest: finds out which corpus lies there and reads it."""

from pathlib import Path

from featcache.corpora.base import Corpus, CorpusFiles, NamedCorpus, audio_files, found
from featcache.corpora.emodb import EMODB
from featcache.corpora.folder import FOLDER, MANIFEST
from featcache.corpora.ravdess import RAVDESS
from featcache.errors import CorpusError, unknown_name

__all__ = ["CORPORA", "Corpus", "CorpusFiles", "read_corpus"]

CORPORA: dict[str, Corpus] = {corpus.name: corpus for corpus in (EMODB, RAVDESS, FOLDER)}


def read_corpus(path: Path, kind: str | None = None) -> CorpusFiles:
    """Read the corpus that lies in a folder.

    Args:
        path: A folder, or a manifest as a CSV file.
        kind: A name in ``CORPORA``. By default a manifest.csv decides, and without one the corpus whose names
            most of the audio files bear.

    Raises:
        CorpusError: nothing there, an unknown kind, or no corpus that is known.
        ManifestError: a faulty manifest.csv, or different files for one utterance.
    """
    if kind is not None and kind not in CORPORA:
        raise CorpusError(unknown_name("corpus", kind, CORPORA))
    corpus = _recognise(path) if kind is None else CORPORA[kind]
    return corpus.read(path)


def _recognise(path: Path) -> Corpus:
    if path.is_file() or (path / MANIFEST).is_file():
        return FOLDER
    paths = audio_files(path)
    named = [corpus for corpus in CORPORA.values() if isinstance(corpus, NamedCorpus)]
    fits = {corpus.name: sum(corpus.match(file) is not None for file in paths) for corpus in named}
    name = max(fits, key=lambda name: fits[name])
    if fits[name] == 0:
        known = ", ".join(f"{corpus.title} (like {corpus.example!r})" for corpus in named)
        raise CorpusError(
            f"{path}: {found(paths)}, not named as in a corpus that is known: {known}; "
            f"for other audio put a {MANIFEST} with a column 'path' there"
        )
    return CORPORA[name]
