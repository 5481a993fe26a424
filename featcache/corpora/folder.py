"""manifest.csv beside the audio → Manifest: any corpus."""

from dataclasses import dataclass
from pathlib import Path

from featcache.corpora.base import Corpus, CorpusFiles
from featcache.errors import CorpusError
from featcache.manifest import Manifest

MANIFEST = "manifest.csv"


@dataclass(frozen=True, kw_only=True)
class FolderCorpus(Corpus):
    """A corpus that a CSV file describes."""

    def read(self, path: Path) -> CorpusFiles:
        """Read ``manifest.csv`` in a folder, or a CSV file of any name; audio paths start from the folder it lies in.

        Raises:
            CorpusError: there is no such file, or it is not a CSV.
            ManifestError: its rows are faulty.
        """
        table = path / MANIFEST if path.is_dir() else path
        if not table.is_file() or table.suffix.lower() != ".csv":
            raise CorpusError(f"{table} is not a CSV file; write one with a column 'path' and a row per utterance")
        return CorpusFiles(corpus=self, root=table.parent, manifest=Manifest.read(table))


FOLDER = FolderCorpus(
    name="folder",
    title="a folder with manifest.csv",
    description="Any audio with a table of its paths, speakers and labels; only the column 'path' is required.",
    license="that of the audio",
    source="columns utterance_id, path, start, end, speaker_id, emotion or any other labels, transcript",
)
