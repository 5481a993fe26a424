"""Name of a corpus → its folder in the workspace, or how to get it."""

from pathlib import Path

from featcache.corpora import CORPORA
from featcache.workspace import Workspace


def find_corpus_folder(workspace: Workspace, corpus: str | None, data: Path | None) -> tuple[str, Path]:
    """Return the name and the folder of a corpus, as :meth:`Workspace.find_corpus` does.

    Args:
        workspace: Folder of corpora, caches and runs.
        corpus: Name of the corpus; by default the name of the folder.
        data: Folder of the audio; by default a folder in ``corpora``.

    Raises:
        CorpusError: there is no such corpus, or there are several and no name is given. If ``featcache fetch`` gets
            the corpus, the message says so.
    """
    advice = ""
    if data is None and corpus is not None and corpus in CORPORA and CORPORA[corpus].download:
        advice = f"get it with 'featcache fetch {corpus}', "
    return workspace.find_corpus(corpus, data, advice=advice)
