"""Table of utterances beside the audio → Manifest: any corpus.

A table is featcache's own ``manifest.csv``, or what others keep beside their audio: the metadata of a Hugging Face
audio folder, an audformat database, EmoBox's JSON lines.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from featcache.corpora import audformat, emobox, huggingface
from featcache.corpora.base import Corpus, CorpusFiles
from featcache.errors import CorpusError
from featcache.manifest import Manifest

MANIFEST = "manifest.csv"


@dataclass(frozen=True, kw_only=True)
class Reader:
    """A kind of table.

    Attributes:
        fits: Whether a file is one, or a folder holds one.
        read: Such a file or folder → the folder its paths start from, and the utterances.
    """

    fits: Callable[[Path], bool]
    read: Callable[[Path], tuple[Path, Manifest]]


@dataclass(frozen=True, kw_only=True)
class FolderCorpus(Corpus):
    """A corpus that a table describes."""

    def read(self, path: Path) -> CorpusFiles:
        """Read the table in a folder, or a table of any name; audio paths start from the folder it lies in.

        Raises:
            CorpusError: there is no such file, or it is none of the tables that are known.
            ManifestError: its rows are faulty.
        """
        reader = find_reader(path)
        if reader is None:
            table = path / MANIFEST if path.is_dir() else path
            raise CorpusError(f"{table} is not a CSV file; write one with a column 'path' and a row per utterance")
        root, manifest = reader.read(path)
        return CorpusFiles(corpus=self, root=root, manifest=manifest)


def find_reader(path: Path) -> Reader | None:
    """What can read a file, or the table that a folder holds; None when nothing can."""
    return next((reader for reader in READERS if reader.fits(path)), None)


def _is_manifest(path: Path) -> bool:
    # whatever is called so, also what is no regular file, which is then refused by that name
    return os.path.lexists(path / MANIFEST) or (path.is_file() and path.suffix.lower() in (".csv", ".tsv"))


def _read_manifest(path: Path) -> tuple[Path, Manifest]:
    table = path / MANIFEST if path.is_dir() else path
    return table.parent, Manifest.read(table)


READERS = (
    Reader(fits=_is_manifest, read=_read_manifest),
    Reader(fits=audformat.fits, read=audformat.read),
    Reader(fits=emobox.fits, read=emobox.read),
    Reader(fits=huggingface.fits, read=huggingface.read),
)
FOLDER = FolderCorpus(
    name="folder",
    title="a folder with manifest.csv",
    description="Any audio with a table of its paths, speakers and labels: manifest.csv, of which only the column "
    "'path' is required; metadata.csv or metadata.jsonl of a Hugging Face audio folder; db.yaml of an audformat "
    "database; the JSON lines of EmoBox.",
    license="that of the audio",
    source="columns utterance_id, path, start, end, speaker_id, emotion or any other labels, transcript",
)
