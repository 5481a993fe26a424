"""A path or name → the cache, store, run or transcripts with this path or name."""

from collections.abc import Iterator
from enum import Enum, auto
from pathlib import Path

from featcache.cache.failures import FAILURES
from featcache.cache.shards import shard_numbers
from featcache.errors import StoreError, unknown_name
from featcache.runs.file_names import CONFIG, METRICS
from featcache.runs.writer import UNFINISHED, unfinished_runs
from featcache.transcripts.files import FOLDER, transcript_names
from featcache.workspace import Workspace

WRITTEN = (".png", ".svg", ".pdf", ".csv")
"""Suffixes of the figures and tables that a command writes beside each other."""


class Kind(Enum):
    """Kinds of things with a name."""

    TRANSCRIPTS = auto()
    CACHE = auto()
    RUN = auto()
    STORE = auto()


def find_named(workspace: Workspace, wanted: Path | None) -> tuple[Path, Kind]:
    """Return the path and the kind of a cache, store, run or transcripts.

    Args:
        workspace: Workspace in which names are searched.
        wanted: Path or name; None for the only cache.

    Raises:
        StoreError: Nothing has this path or name, or several things have this name.
    """
    path = _only_cache(workspace) if wanted is None else wanted
    if path.name in ("", ".."):  # The kind of the current folder may depend on its parent folder.
        path = path.resolve()
    found = _known(path)
    if found is None:
        path = _by_name(workspace, path)
        found = _known(path)
    if found is None:
        raise StoreError(f"{path} is no cache, store, run or transcripts; expected the folder or name of one")
    return found


def _only_cache(workspace: Workspace) -> Path:
    caches = sorted(path.parent.name for path in workspace.home.glob("cache/*/manifest.csv"))
    if len(caches) > 1:
        raise StoreError("which cache? " + " or ".join(f"'featcache info {name}'" for name in caches))
    return workspace.find_cache(None)


def _known(path: Path) -> tuple[Path, Kind] | None:
    """Return the path and kind of the thing at a path, or around the file there; None if it is something else."""
    inside = path.is_file() and (path.suffix == ".h5" or path.name in (METRICS, CONFIG, "manifest.csv"))
    folder = path.parent if inside else path
    kinds = {Kind.TRANSCRIPTS: _is_transcripts, Kind.CACHE: _is_cache, Kind.RUN: _is_run, Kind.STORE: _is_store}
    for kind, is_kind in kinds.items():
        if is_kind(folder):
            return folder, kind
    if inside:
        raise StoreError(f"{folder} is no cache, store, run or transcripts")
    return None


def _by_name(workspace: Workspace, wanted: Path) -> Path:
    """Return the path of the thing with a name: ``egemaps``, or ``emodb/egemaps`` if several corpora have it."""
    named: dict[str, list[Path]] = {}
    for path in _everything(workspace):
        in_corpus = [] if path.parent.name == "cache" else [f"{_corpus_of(path)}/{path.name}"]
        for name in (path.name, *in_corpus):
            named.setdefault(name, []).append(path)
    found = named.get(wanted.as_posix(), [])
    if not found:
        if wanted.exists():
            return wanted
        if not named:
            raise StoreError(f"no path {str(wanted)!r}, and no caches or runs under {workspace.home}")
        known = [name for name in named if ("/" in name) == (len(wanted.parts) > 1)]
        raise StoreError(unknown_name("cache, store, run or transcripts", str(wanted), known))
    if len(found) > 1:
        raise StoreError(f"which {str(wanted)!r}? {' or '.join(map(str, found))}")
    return found[0]


def _everything(workspace: Workspace) -> Iterator[Path]:
    """Yield the paths of all caches, stores, transcripts and runs."""
    for cache in folders_in(workspace.home / "cache"):
        yield cache
        yield from (path for path in folders_in(cache) if path.name != FOLDER)
        yield from (cache / FOLDER / name for name in transcript_names(cache))
    for corpus in folders_in(workspace.home / "runs"):
        yield from folders_in(corpus)
        yield from (path for path in unfinished_runs(corpus) if not path.exists())


def _corpus_of(path: Path) -> str:
    return path.parent.parent.name if path.parent.name == FOLDER else path.parent.name


def folders_in(folder: Path) -> list[Path]:
    """Return the visible folders in a folder, sorted; an empty list if it does not exist."""
    found = folder.iterdir() if folder.is_dir() else ()
    return sorted(path for path in found if path.is_dir() and not path.name.startswith("."))


def _is_transcripts(path: Path) -> bool:
    return path.parent.name == FOLDER and name_of_transcripts(path) in transcript_names(path.parent.parent)


def _is_cache(path: Path) -> bool:
    return (path / "manifest.csv").is_file()


def _is_run(path: Path) -> bool:
    return (path / METRICS).is_file() or _hidden(path).is_dir() or (path.is_dir() and path.name.endswith(UNFINISHED))


def _is_store(path: Path) -> bool:
    """Return whether a folder contains features, or an extraction that has not written any yet."""
    begun = any(path.glob(".lock*")) or (path / FAILURES).is_file() or _is_cache(path.parent)
    return path.is_dir() and path.name != FOLDER and (bool(shard_numbers(path)) or begun)


def _hidden(path: Path) -> Path:
    return path.parent / f".{path.name}{UNFINISHED}"


def name_of_transcripts(path: Path) -> str:
    """Return the name of transcripts from the path of their folder or of one of their files."""
    return path.stem if path.suffix in (".csv", ".json") else path.name


def output_path(path: Path, option: str, example: str) -> Path:
    """Return the path of figures, without suffix; the suffix of a figure or table is removed, because all are written.

    Args:
        path: Path that the user gave.
        option: Its option, for the message.
        example: Path such as the option expects, for the message.

    Raises:
        StoreError: the path has no name, or is a folder.
    """
    if not path.name or path.name == ".." or path.is_dir():
        raise StoreError(f"{option} {path}: expected the path of a file without suffix, such as {example}")
    return path.with_suffix("") if path.suffix.lower() in WRITTEN else path
