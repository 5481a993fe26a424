"""``data/`` or ``$FEATCACHE_HOME`` → which corpus, which cache, which runs a command is about."""

import os
from dataclasses import dataclass
from pathlib import Path

from featcache.errors import CorpusError, StoreError
from featcache.files import is_hidden


@dataclass(frozen=True, kw_only=True)
class Workspace:
    """The folder under which everything lives.

    Attributes:
        home: Its path.
    """

    home: Path

    @classmethod
    def at(cls, home: str | os.PathLike[str] | None = None) -> "Workspace":
        """The workspace at ``home``; by default at ``$FEATCACHE_HOME``, or ``data`` in the current folder."""
        return cls(home=Path(home or os.environ.get("FEATCACHE_HOME") or "data"))

    @property
    def corpora(self) -> Path:
        return self.home / "corpora"

    def cache(self, corpus: str) -> Path:
        return self.home / "cache" / corpus

    def runs(self, corpus: str) -> Path:
        return self.home / "runs" / corpus

    def find_corpus(self, corpus: str | None, data: Path | None) -> tuple[str, Path]:
        """The name and the folder of the corpus to extract.

        Args:
            corpus: Its name; by default that of the folder.
            data: Where its audio lies; by default under ``corpora``.

        Raises:
            CorpusError: there is none, or there are several and none was named.
        """
        if data is not None:
            if not data.exists():
                raise CorpusError(f"--data {data}: no such folder")
            folder = data.resolve()
            return corpus or (folder.stem if folder.is_file() else folder.name), data
        if corpus is not None:
            folder = self.corpora / corpus
            if not folder.is_dir():
                raise CorpusError(
                    f"no corpus {corpus!r} under {self.corpora} (there: {_names(self.corpora)}); "
                    "put it there or give its folder with --data PATH"
                )
            return corpus, folder
        names = _folders(self.corpora)
        if len(names) == 1:
            return names[0], self.corpora / names[0]
        if names:
            raise CorpusError(f"several corpora under {self.corpora}: {', '.join(names)}; choose with --corpus NAME")
        raise CorpusError(f"no corpus under {self.corpora}; put one there or give its folder with --data PATH")

    def find_cache(self, corpus: str | None) -> Path:
        """The folder of the cache to fit.

        Raises:
            StoreError: there is none, or there are several and none was named.
        """
        folder = self.home / "cache"
        if corpus is not None:
            if not (folder / corpus).is_dir():
                raise StoreError(
                    f"no cache {corpus!r} under {folder} (there: {_names(folder)}); run 'featcache extract'"
                )
            return folder / corpus
        names = _folders(folder)
        if len(names) == 1:
            return folder / names[0]
        if names:
            raise StoreError(f"several caches under {folder}: {', '.join(names)}; choose with --corpus NAME")
        raise StoreError(f"no cache under {folder}; make one with 'featcache extract --model wav2vec2-base'")


def _folders(folder: Path) -> list[str]:
    if not folder.is_dir():
        return []
    return sorted(path.name for path in folder.iterdir() if path.is_dir() and not is_hidden(path.name))


def _names(folder: Path) -> str:
    return ", ".join(_folders(folder)) or "none"
