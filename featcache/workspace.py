"""``data/`` or ``$FEATCACHE_HOME`` → which corpus, which cache, which runs a command is about; and names → folders."""

import os
from dataclasses import dataclass
from pathlib import Path

from featcache.errors import CorpusError, StoreError
from featcache.files.regular import is_hidden, resolved

# File systems take 255 bytes; unfinished files have longer names than what they will be.
MOST_NAME_BYTES = 200
# No file of any suffix may have these names on Windows.
_DEVICES = {
    *("CON", "PRN", "AUX", "NUL", "CLOCK$", "CONIN$", "CONOUT$"),
    *(f"{device}{number}" for device in ("COM", "LPT") for number in "0123456789¹²³"),
}
# What lies in the folder where these will lie.
_TAKEN = {"store": ("transcripts", "manifest.csv", "corpus.json")}
# What would be taken for a file of another one.
_SUFFIXES = {"transcripts": (".csv", ".json")}


def check_name(kind: str, name: str, folder: Path | None = None, *, advice: str = "choose another with --name") -> str:
    """A name that makes the name of a folder or a file, on every system.

    Args:
        kind: What is called so: ``store``, ``transcripts``, ``corpus``, ``run``, ….
        name: The name.
        folder: Where folders of such names lie. One that is there already is taken as it is called, unless it is
            hidden or featcache's own.
        advice: What the user can do.

    Returns:
        The name.

    Raises:
        StoreError: it would leave its folder, hide itself, or be no file name somewhere.
    """
    reason = _reserved(kind, name) or _unsafe(name)
    there = reason is None and folder is not None and (folder / name).is_dir()
    if reason is None and not there:
        reason = _unusual(kind, name)
    if reason is None:
        return name
    raise StoreError(f"{kind} name {_shown(name)}: {reason}; {advice}")


def _shown(name: str) -> str:
    return repr(name if len(name) <= 60 else f"{name[:60]}…")


def _reserved(kind: str, name: str) -> str | None:
    return "featcache uses it itself" if name.casefold() in _TAKEN.get(kind, ()) else None


def _unsafe(name: str) -> str | None:
    """Why a name would not be that of a visible file in its folder."""
    if not name:
        return "it is empty"
    if name.startswith("."):
        return "it begins with a dot"
    return _too_long(name, 255) or _first_of(name, "/\\\0")


def _unusual(kind: str, name: str) -> str | None:
    """Why some system would not take a name."""
    if too_long := _too_long(name, MOST_NAME_BYTES):
        return too_long
    if not name.isprintable():
        return "it has line breaks or other characters that cannot be printed"
    if name != name.strip() or name.endswith("."):
        return "it begins or ends with a blank, or ends with a dot"
    if name.partition(".")[0].rstrip().upper() in _DEVICES:
        return "Windows reserves it"
    if name.endswith(_SUFFIXES.get(kind, ())):
        return "it has the suffix of a file"
    return _first_of(name, ':*?"<>|')


def _too_long(name: str, most: int) -> str | None:
    return f"it is longer than {MOST_NAME_BYTES} bytes" if len(name.encode(errors="surrogatepass")) > most else None


def _first_of(name: str, characters: str) -> str | None:
    return next((f"it contains {character!r}" for character in name if character in characters), None)


def _inside(folder: Path, name: str) -> Path:
    """What is called so in a folder, however odd the name: older versions took any."""
    outside = name in ("", ".", "..") or _first_of(name, "/\\\0" + (":" if os.name == "nt" else ""))
    if outside or _too_long(name, 255):
        raise StoreError(
            f"--corpus {_shown(name)}: expected the name of a corpus, as of a folder in {folder}, and not a path"
        )
    return folder / name


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

    @property
    def caches(self) -> Path:
        return self.home / "cache"

    def corpus(self, name: str) -> Path:
        return _inside(self.corpora, name)

    def cache(self, corpus: str) -> Path:
        return _inside(self.caches, corpus)

    def runs(self, corpus: str) -> Path:
        return _inside(self.home / "runs", corpus)

    def check_corpus(self, name: str) -> str:
        """A name under which the features of a corpus can be kept.

        Raises:
            StoreError: it makes no name of a folder.
        """
        return check_name(
            "corpus", name, self.caches, advice="choose another with --corpus, and give its folder with --data"
        )

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
            folder = resolved(data)
            return (folder.stem if folder.is_file() else folder.name) if corpus is None else corpus, data
        if corpus is not None:
            folder = self.corpus(corpus)
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
        folder = self.caches
        if corpus is not None:
            if not self.cache(corpus).is_dir():
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
