"""Name of a corpus → its folder in the workspace, or how to get it."""

from pathlib import Path

from featcache.corpora import CORPORA
from featcache.errors import CorpusError
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
    if data is None and corpus is not None and not workspace.corpus(corpus).is_dir() and is_fetchable(corpus):
        raise CorpusError(
            f"no corpus {corpus!r} under {workspace.corpora}; get it with 'featcache fetch {corpus}', put it there or "
            "give its folder with --data PATH"
        )
    return workspace.find_corpus(corpus, data)


def is_fetchable(name: str) -> bool:
    """Return whether ``featcache fetch`` downloads a corpus."""
    return name in CORPORA and bool(CORPORA.find(name).download)
