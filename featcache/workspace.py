"""``data/`` or ``$FEATCACHE_HOME`` → folders of the corpus, cache and runs of a command; and check of their names."""

import os
from dataclasses import dataclass
from pathlib import Path

from featcache.errors import CorpusError, StoreError, did_you_mean
from featcache.files.regular import is_hidden, resolved

# File systems allow 255 bytes, but temporary files have longer names than the final files.
MOST_NAME_BYTES = 200
# Windows reserves these names, with every suffix.
_DEVICES = {
    *("CON", "PRN", "AUX", "NUL", "CLOCK$", "CONIN$", "CONOUT$"),
    *(f"{device}{number}" for device in ("COM", "LPT") for number in "0123456789¹²³"),
}
# Kind of name → names that featcache itself uses in the same folder.
_TAKEN = {"store": ("transcripts", "manifest.csv", "corpus.json")}
# Kind of name → suffixes that would make it the file name of another entry.
_SUFFIXES = {"transcripts": (".csv", ".json")}


def check_name(kind: str, name: str, folder: Path | None = None, *, advice: str = "choose another with --name") -> str:
    """Check that a name is a valid name of a folder or file on every operating system.

    Args:
        kind: Kind of name: ``store``, ``transcripts``, ``corpus``, ``run``, ….
        name: Name to check.
        folder: Folder of all entries of this kind. The name of an existing folder is accepted, unless it is hidden or
            used by featcache itself.
        advice: Advice to the user for the message.

    Returns:
        The same name.

    Raises:
        StoreError: the name would lead out of its folder, is hidden, or is not a valid file name on some system.
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
    return "featcache uses this name itself" if name.casefold() in _TAKEN.get(kind, ()) else None


def _unsafe(name: str) -> str | None:
    """Return why a name is not the name of a visible file in its folder; None if it is."""
    if not name:
        return "it is empty"
    if name.startswith("."):
        return "it begins with a dot"
    return _too_long(name, 255) or _first_of(name, "/\\\0")


def _unusual(kind: str, name: str) -> str | None:
    """Return why some operating system does not accept a name; None if all accept it."""
    if too_long := _too_long(name, MOST_NAME_BYTES):
        return too_long
    if not name.isprintable():
        return "it contains line breaks or other characters that cannot be printed"
    if name != name.strip() or name.endswith("."):
        return "it begins or ends with a space, or ends with a dot"
    if name.partition(".")[0].rstrip().upper() in _DEVICES:
        return "Windows reserves it"
    if name.endswith(_SUFFIXES.get(kind, ())):
        return "it ends with a suffix that files of this folder have"
    return _first_of(name, ':*?"<>|')


def _too_long(name: str, most: int) -> str | None:
    return f"it is longer than {MOST_NAME_BYTES} bytes" if len(name.encode(errors="surrogatepass")) > most else None


def _first_of(name: str, characters: str) -> str | None:
    return next((f"it contains {character!r}" for character in name if character in characters), None)


def _inside(folder: Path, name: str) -> Path:
    """Return the path of a name in a folder; unusual names are accepted, because older versions allowed them."""
    outside = name in ("", ".", "..") or _first_of(name, "/\\\0" + (":" if os.name == "nt" else ""))
    if outside or _too_long(name, 255):
        raise StoreError(
            f"--corpus {_shown(name)}: expected the name of a corpus, which is a folder in {folder}, not a path"
        )
    return folder / name


@dataclass(frozen=True, kw_only=True)
class Workspace:
    """Folder that contains all corpora, caches and runs.

    Attributes:
        home: Path of the folder.
    """

    home: Path

    @classmethod
    def at(cls, home: str | os.PathLike[str] | None = None) -> "Workspace":
        """Return the workspace in ``home``; by default in ``$FEATCACHE_HOME``, or ``data`` in the current folder."""
        return cls(home=Path(home or os.environ.get("FEATCACHE_HOME") or "data"))

    @property
    def corpora(self) -> Path:
        """Folder of all corpora."""
        return self.home / "corpora"

    @property
    def caches(self) -> Path:
        """Folder of all caches."""
        return self.home / "cache"

    @property
    def models(self) -> Path:
        """Folder of the models that ``featcache fetch`` converted, or that were copied from another machine."""
        return self.home / "models"

    def corpus(self, name: str) -> Path:
        """Return the folder of the audio of a corpus."""
        return _inside(self.corpora, name)

    def cache(self, corpus: str) -> Path:
        """Return the folder of the cache of a corpus."""
        return _inside(self.caches, corpus)

    def runs(self, corpus: str) -> Path:
        """Return the folder of the runs of a corpus."""
        return _inside(self.home / "runs", corpus)

    def check_corpus(self, name: str) -> str:
        """Check that the name of a corpus can be the name of its cache folder, and return it.

        Raises:
            StoreError: the name is not a valid name of a folder.
        """
        return check_name(
            "corpus", name, self.caches, advice="choose another with --corpus, and give its folder with --data"
        )

    def find_corpus(self, corpus: str | None, data: Path | None, *, advice: str = "") -> tuple[str, Path]:
        """Return the name and the folder of the corpus to extract.

        Args:
            corpus: Name of the corpus; by default the name of the folder.
            data: Folder of the audio; by default a folder in ``corpora``.
            advice: Further advice for the message if there is no corpus of this name.

        Raises:
            CorpusError: there is no such corpus, or there are several and no name is given.
        """
        if data is not None:
            if not data.exists():
                raise CorpusError(f"--data {data}: no such folder")
            folder = resolved(data)
            return (folder.stem if folder.is_file() else folder.name) if corpus is None else corpus, data
        if corpus is not None:
            folder = self.corpus(corpus)
            if not folder.is_dir():
                meant = did_you_mean(corpus, _folders(self.corpora))
                raise CorpusError(
                    f"no corpus {corpus!r} under {self.corpora} (available: {_names(self.corpora)}); "
                    f"{advice}put it there or give its folder with --data PATH{meant}"
                )
            return corpus, folder
        names = _folders(self.corpora)
        if len(names) == 1:
            return names[0], self.corpora / names[0]
        if names:
            raise CorpusError(f"several corpora under {self.corpora}; which corpus? {_choices(names)}")
        raise CorpusError(
            f"no corpus under {self.corpora}; put one there or give its folder with --data PATH; 'featcache corpora' "
            "lists those that 'featcache fetch NAME' downloads"
        )

    def find_cache(self, corpus: str | None) -> Path:
        """Return the folder of the cache to fit.

        Args:
            corpus: Name of the corpus; by default the only one.

        Raises:
            StoreError: there is no such cache, or there are several and no name is given.
        """
        folder = self.caches
        if corpus is not None:
            if not self.cache(corpus).is_dir():
                raise StoreError(
                    f"no cache {corpus!r} under {folder} (available: {_names(folder)}); make one with "
                    f"'featcache extract --data PATH --model NAME'{did_you_mean(corpus, _folders(folder))}"
                )
            return folder / corpus
        names = _folders(folder)
        if len(names) == 1:
            return folder / names[0]
        if names:
            raise StoreError(f"several caches under {folder}; which corpus? {_choices(names)}")
        raise StoreError(f"no cache under {folder}; make one with 'featcache extract --data PATH --model NAME'")


def _folders(folder: Path) -> list[str]:
    if not folder.is_dir():
        return []
    return sorted(path.name for path in folder.iterdir() if path.is_dir() and not is_hidden(path.name))


def _names(folder: Path) -> str:
    return ", ".join(_folders(folder)) or "none"


def _choices(names: list[str]) -> str:
    return " or ".join(f"--corpus {name}" for name in names)
