"""A path or a name → what it is, what it holds and what made it: a cache, a store, transcripts, a run."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featcache.cache.failures import FAILURES, read_failures
from featcache.cli.listing import result_row
from featcache.errors import StoreError, unknown_name
from featcache.files.regular import resolved
from featcache.report.tables import results_table
from featcache.runs.file_names import CONFIG, METRICS
from featcache.runs.reader import RunFolder
from featcache.runs.writer import UnfinishedRun
from featcache.terminal.console import Console, print_line, print_pairs
from featcache.terminal.escape import escaped
from featcache.transcripts.files import (
    AGAIN,
    FOLDER,
    JOURNAL,
    is_finished,
    read_description,
    table_path,
    transcript_names,
)
from featcache.units import format_bytes
from featcache.workspace import Workspace

if TYPE_CHECKING:
    from featcache.cache.reader import FeatureStore
    from featcache.manifest import Manifest

EXTRACT_AGAIN = "run the same 'featcache extract' again"
# A run on its way lies in a hidden folder beside its name.
UNFINISHED = ".unfinished"


def print_info(wanted: Path | None) -> None:
    """Print what something holds and what made it; of a cache, all its stores and transcripts.

    Args:
        wanted: A path, or the name of a cache, store, run or transcripts; by default the only cache.

    Raises:
        StoreError: there is no such thing, or there are several of that name.
    """
    workspace = Workspace.at()
    path = _only_cache(workspace) if wanted is None else wanted
    if path.name in ("", ".."):  # the current folder is known by its parent's, too
        path = path.resolve()
    show = _kind_of(path)
    if show is None:
        path = _found(workspace, path)
        show = _kind_of(path)
    if show is None:
        raise StoreError(f"{path} is no store, cache, run or transcripts; 'featcache corpora' and 'runs' list them")
    show(path)


def _only_cache(workspace: Workspace) -> Path:
    caches = sorted(path.parent.name for path in workspace.home.glob("cache/*/manifest.csv"))
    if len(caches) > 1:
        raise StoreError(
            f"several caches under {workspace.home / 'cache'}: {', '.join(caches)}; name one, as in "
            f"'featcache info {caches[0]}'"
        )
    return workspace.find_cache(None)


def _found(workspace: Workspace, wanted: Path) -> Path:
    """What bears a name; ``emodb/egemaps`` tells stores and runs of several corpora apart."""
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
            raise StoreError(f"no such path {str(wanted)!r}, and no caches and runs under {workspace.home}")
        raise StoreError(unknown_name("name", str(wanted), named) + "; the path of a store, cache or run works too")
    if len(found) > 1:
        raise StoreError(f"several are called {str(wanted)!r}: {', '.join(map(str, found))}; give a path")
    return found[0]


def _everything(workspace: Workspace) -> Iterator[Path]:
    """The paths of all caches, stores, transcripts and runs, with the names that they are called by."""
    for cache in _folders(workspace.home / "cache"):
        yield cache
        yield from (path for path in _folders(cache) if path.name != FOLDER)
        yield from (cache / FOLDER / name for name in transcript_names(cache))
    for corpus in _folders(workspace.home / "runs"):
        yield from _folders(corpus)
        hidden = (path.name[1:].removesuffix(UNFINISHED) for path in corpus.glob(f".*{UNFINISHED}"))
        yield from (corpus / name for name in hidden if not (corpus / name).exists())


def _corpus_of(path: Path) -> str:
    return path.parent.parent.name if path.parent.name == FOLDER else path.parent.name


def _folders(folder: Path) -> list[Path]:
    found = folder.iterdir() if folder.is_dir() else ()
    return sorted(path for path in found if path.is_dir() and not path.name.startswith("."))


def _kind_of(path: Path) -> Callable[[Path], None] | None:
    """How to show what lies at a path; None where it is nothing that is known."""
    kinds: dict[Callable[[Path], bool], Callable[[Path], None]] = {
        _is_in_folder: _show_folder,
        _is_transcripts: _show_transcripts,
        _is_cache: _show_cache,
        _is_run: _show_run,
        _is_store: _show_store,
    }
    return next((show for is_kind, show in kinds.items() if is_kind(path)), None)


def _is_in_folder(path: Path) -> bool:
    return path.is_file() and (path.suffix == ".h5" or path.name in (METRICS, CONFIG, "manifest.csv"))


def _is_transcripts(path: Path) -> bool:
    return path.parent.name == FOLDER and _name_of_transcripts(path) in transcript_names(path.parent.parent)


def _is_cache(path: Path) -> bool:
    return (path / "manifest.csv").is_file()


def _is_run(path: Path) -> bool:
    return (path / METRICS).is_file() or _hidden(path).is_dir() or (path.is_dir() and path.name.endswith(UNFINISHED))


def _is_store(path: Path) -> bool:
    """Whether it holds features, or an extraction began here that has written none yet."""
    from featcache.cache.shards import shard_numbers

    begun = any(path.glob(".lock*")) or (path / FAILURES).is_file() or _is_cache(path.parent)
    return path.is_dir() and path.name != FOLDER and (bool(shard_numbers(path)) or begun)


def _show_folder(file: Path) -> None:
    show = _kind_of(file.parent)
    if show is None:
        raise StoreError(f"{file.parent} is no store, cache, run or transcripts")
    show(file.parent)


def _show_cache(path: Path) -> None:
    from featcache.cache.reader import FeatureCache

    manifest = FeatureCache(path).manifest
    print_pairs(
        {
            "cache": path,
            "utterances": len(manifest),
            "speakers": len(manifest.speaker_ids),
            "labels": ", ".join(manifest.label_columns) or "none",
        }
    )
    for folder in _folders(path):
        if folder.name != FOLDER:
            print_line()
            _show_store(folder, manifest)
    for name in transcript_names(path):
        print_line()
        _show_transcripts(path / FOLDER / name)


def _show_store(path: Path, manifest: "Manifest | None" = None) -> None:
    from featcache.cache.layout import settings_of
    from featcache.cache.reader import FeatureStore
    from featcache.cache.shards import shard_numbers

    if manifest is None:
        manifest = _manifest_beside(path)
    if not shard_numbers(path):
        of = f" of {len(manifest)}" if manifest else ""
        told = {"store": path, "finished": f"no: it ended before any features were written; {EXTRACT_AGAIN}"}
        print_pairs({**told, "utterances": f"0{of}", **_failed(path)})
        return
    store = FeatureStore(path)
    size = sum(file.stat().st_size for file in store.path.glob("*.h5") if file.is_file())
    ids = store.utterance_ids
    known: dict[str, Any] = {
        "store": store.path,
        **_progress(store, manifest),
        **_failed(path),
        **({} if store.is_of_words else {"audio": f"{store.duration(ids):.0f} s"}),
        "cut": _cut(store),
        "tokens" if store.is_of_words else "frames": int(store.num_frames(ids).sum()),
        "on disk": format_bytes(size),
    }
    hidden = {"settings", "complete", "layers", "num_requested", "num_in_corpus", "extractor", "dataset"}
    if "num_blocks" not in settings_of(store.metadata):  # it has all that the model has
        hidden.add("num_blocks")
    rest = {
        name: value for name, value in sorted(store.metadata.items()) if name not in hidden and value not in ("", [""])
    }
    if store.is_of_words:
        rest.pop("sampling_rate")
    else:
        rest["sampling_rate"] = rest["sampling_rate"] or "each file's own"
    print_pairs({**known, **rest})


def _progress(store: "FeatureStore", manifest: "Manifest | None") -> dict[str, str]:
    """How much of the corpus a store holds, and whether that is all it was asked for."""
    asked, total = store.num_requested, store.num_in_corpus or (len(manifest) if manifest else None)
    limited = asked is not None and total is not None and asked < total
    finished = "yes" if store.complete else f"no: {EXTRACT_AGAIN}"
    if store.complete and limited:
        finished = f"yes, as far as asked: --limit {asked}"
    return {"finished": finished, "utterances": f"{len(store)} of {total}" if total else str(len(store))}


def _failed(folder: Path) -> dict[str, str]:
    failures = read_failures(folder)
    return {"failed": f"{len(failures)}, listed in {FAILURES}"} if failures else {}


def _manifest_beside(path: Path) -> "Manifest | None":
    from featcache.manifest import Manifest

    file = resolved(path).parent / "manifest.csv"
    return Manifest.read(file) if file.is_file() else None


def _cut(store: "FeatureStore") -> str:
    if store.is_of_words:
        limit = store.metadata.get("max_tokens")
        full = int((store.num_frames(store.utterance_ids) == limit).sum())
        return f"{full} utterances fill the {limit} tokens that the model reads" if full else "none"
    most = store.metadata.get("max_seconds")
    longer = [i for i in store if most is not None and store.duration([i]) > most]
    return f"{len(longer)} utterances, to their first {most:g} s" if longer else "none"


def _show_transcripts(path: Path) -> None:
    cache, name = path.parent.parent, _name_of_transcripts(path)
    if not is_finished(cache, name):
        journal = cache / FOLDER / name / JOURNAL
        number = max(0, journal.read_bytes().count(b"\n") - 1) if journal.is_file() else 0  # the first line is a header
        finished = f"no: {number} utterances are kept; {AGAIN}"
        print_pairs({"transcripts": table_path(cache, name), "finished": finished})
        return
    print_pairs(_about_transcripts(cache, name))


def _name_of_transcripts(path: Path) -> str:
    return path.stem if path.suffix in (".csv", ".json") else path.name


def _about_transcripts(cache: Path, name: str) -> dict[str, Any]:
    description = read_description(cache, name)
    settings, errors = description["settings"], description.get("wer")
    return {
        "transcripts": table_path(cache, name),
        "finished": "yes",
        "utterances": description.get("num_utterances", "-"),
        "failed": description.get("num_failed", "-"),
        "model_id": settings.get("model_id", "-"),
        "revision": description.get("revision") or "-",
        "language": settings.get("language") or "as the model finds or knows",
        "WER": f"{errors['percent']:.1f} % of {errors['num_words']} words ({errors['normaliser']})" if errors else "-",
    }


def _hidden(path: Path) -> Path:
    return path.parent / f".{path.name}{UNFINISHED}"


def _show_run(path: Path) -> None:
    if path.name.endswith(UNFINISHED):
        path = path.with_name(path.name[1:].removesuffix(UNFINISHED))
    number = len(UnfinishedRun(path, {}).finished())
    if not (path / METRICS).is_file():
        told = f"no: {number} trainings are finished and kept; run the same 'featcache fit' again with --resume"
        print_pairs({"run": path, "finished": told})
        return
    run = RunFolder(path)
    metrics = run.metrics
    print_pairs(
        {
            "run": path,
            "finished": "yes" + (f"; it is being replaced: {number} new trainings are kept" if number else ""),
            "utterances": metrics.get("num_utterances", "-"),
            "speakers": metrics.get("num_speakers") or "unknown",
            "folds": metrics.get("num_folds", "-"),
            "seeds": metrics.get("num_seeds", "-"),
            "settings": path / CONFIG,
            **{name: value for name, value in _settings(run.config).items() if value not in (None, "", [], {})},
        }
    )
    print_line()
    Console().print(results_table([result_row(run)]))


def _settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """What a run was fitted on; the rest stands in its table and in ``config.yaml``."""
    names = ("corpus", "target", "task", "select", "norm_by", "pooling", "featcache_version")
    return {name: escaped(str(config[name])) for name in names if config.get(name)}
