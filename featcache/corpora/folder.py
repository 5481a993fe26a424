"""Table of utterances beside the audio → Manifest, for any corpus.

The table is featcache's own ``manifest.csv``, the metadata of a Hugging Face audio folder, an audformat database,
EmoBox's JSON lines, or a Hugging Face data set whose Parquet or Arrow files contain the audio, too.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from featcache.corpora import audformat, embedded_audio, emobox, huggingface
from featcache.corpora.base import Corpus, CorpusFiles
from featcache.errors import CorpusError
from featcache.manifest import Manifest

MANIFEST = "manifest.csv"


@dataclass(frozen=True, kw_only=True)
class Reader:
    """Reader of one kind of table.

    Attributes:
        fits: Function that returns whether a file is such a table, or a folder contains one.
        read: Function that reads the file or folder and returns the folder to which paths are relative, and the
            utterances.
    """

    fits: Callable[[Path], bool]
    read: Callable[[Path], tuple[Path, Manifest]]


@dataclass(frozen=True, kw_only=True)
class FolderCorpus(Corpus):
    """A corpus that is described by a table of utterances."""

    def read(self, path: Path) -> CorpusFiles:
        """Read the table in a folder, or a table with any file name.

        Args:
            path: The folder, or the table. Audio paths are relative to the folder that contains the table.

        Returns:
            The utterances.

        Raises:
            CorpusError: the table does not exist, or is none of the known kinds.
            ManifestError: rows are faulty.
        """
        reader = find_reader(path)
        if reader is None:
            table = path / MANIFEST if path.is_dir() else path
            raise CorpusError(f"{table} is not a CSV file; write one with a column 'path' and a row per utterance")
        root, manifest = reader.read(path)
        return CorpusFiles(corpus=self, root=root, manifest=manifest)


def find_reader(path: Path) -> Reader | None:
    """Return the reader for a table, or for the table in a folder; None if it is none of the known kinds."""
    return next((reader for reader in READERS if reader.fits(path)), None)


def _is_manifest(path: Path) -> bool:
    # Anything called manifest.csv counts: if it is not a regular file, reading it reports that.
    return os.path.lexists(path / MANIFEST) or (path.is_file() and path.suffix.lower() in (".csv", ".tsv"))


def _read_manifest(path: Path) -> tuple[Path, Manifest]:
    table = path / MANIFEST if path.is_dir() else path
    return table.parent, Manifest.read(table)


READERS = (
    Reader(fits=_is_manifest, read=_read_manifest),
    Reader(fits=audformat.fits, read=audformat.read),
    Reader(fits=emobox.fits, read=emobox.read),
    Reader(fits=huggingface.fits, read=huggingface.read),
    Reader(fits=embedded_audio.fits, read=embedded_audio.read),
)
FOLDER = FolderCorpus(
    name="folder",
    title="a folder with manifest.csv",
    description="Any audio with a table of paths, speakers and labels: manifest.csv (only the column 'path' is "
    "required), metadata.csv or metadata.jsonl of a Hugging Face audio folder, Parquet files of a "
    "Hugging Face data set, folders of datasets.save_to_disk, db.yaml of an audformat database, or the JSON lines of "
    "EmoBox.",
    license="depends on the audio",
    source="columns utterance_id, path, start, end, speaker_id, emotion or any other labels, transcript",
)
