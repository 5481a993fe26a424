"""A cache, store, run or transcripts → its content and origin, on the terminal."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featcache.cache.failures import FAILURES, read_failures
from featcache.cli.listing import print_runs
from featcache.cli.named import Kind, find_named, folders_in, name_of_transcripts
from featcache.files.regular import resolved
from featcache.runs.file_names import CONFIG, METRICS
from featcache.runs.reader import RunFolder
from featcache.runs.writer import UNFINISHED, UnfinishedRun
from featcache.terminal.console import print_line, print_pairs
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
from featcache.units import counted, format_bytes
from featcache.workspace import Workspace

if TYPE_CHECKING:
    from featcache.cache.reader import FeatureStore
    from featcache.manifest import Manifest

EXTRACT_AGAIN = "run the same 'featcache extract' again"


def print_info(wanted: Path | None) -> None:
    """Print the content and origin of a cache, store, run or transcripts.

    All stores and transcripts of a cache are printed.

    Args:
        wanted: Path or name of a cache, store, run or transcripts; None for the only cache.

    Raises:
        StoreError: Nothing has this path or name, or several things have this name.
    """
    show = {
        Kind.TRANSCRIPTS: _show_transcripts,
        Kind.CACHE: _show_cache,
        Kind.RUN: _show_run,
        Kind.STORE: _show_store,
    }
    path, kind = find_named(Workspace.at(), wanted)
    show[kind](path)


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
    for folder in folders_in(path):
        if folder.name != FOLDER:
            print_line()
            _show_store(folder, manifest, names=False)
    for name in transcript_names(path):
        print_line()
        _show_transcripts(path / FOLDER / name)


def _show_store(path: Path, manifest: "Manifest | None" = None, *, names: bool = True) -> None:
    """Print the content and origin of a store; without ``names``, only the number of its feature names."""
    from featcache.cache.reader import FeatureStore
    from featcache.cache.shards import shard_numbers
    from featcache.cache.tuned_store import TUNED, TunedOrigin

    if manifest is None:
        manifest = _manifest_beside(path)
    if not shard_numbers(path):
        of = f" of {len(manifest)}" if manifest else ""
        told = {"store": path, "finished": f"no: extraction ended before features were written; {EXTRACT_AGAIN}"}
        print_pairs({**told, "utterances": f"0{of}", **_failed(path)})
        return
    store = FeatureStore(path)
    size = sum(file.stat().st_size for file in store.path.glob("*.h5") if file.is_file())
    ids = store.utterance_ids
    origin = TunedOrigin.of(store.identity)
    known: dict[str, Any] = {
        "store": store.path,
        **({} if origin is None else {"fine-tuned": origin.described}),
        **_progress(store, manifest),
        **_failed(path),
        **({} if store.is_of_words else {"audio": f"{store.duration(ids):.0f} s"}),
        "cut": _cut(store),
        "tokens" if store.is_of_words else "frames": int(store.num_frames(ids).sum()),
        "on disk": format_bytes(size),
    }
    hidden = {
        "settings",
        "complete",
        "layers",
        "num_requested",
        "num_in_corpus",
        "extractor",
        "dataset",
        "keep_padding",
        TUNED,
    }
    if "num_blocks" not in store.identity.settings:  # All blocks of the model are stored.
        hidden.add("num_blocks")
    rest = {
        name: value for name, value in sorted(store.metadata.items()) if name not in hidden and value not in ("", [""])
    }
    if store.is_of_words or store.identity.is_imported:
        rest.pop("sampling_rate")
    else:
        rest["sampling_rate"] = rest["sampling_rate"] or "the file's own"
    if "feature_names" in rest and not names:
        rest["feature_names"] = f"{len(rest['feature_names'])}; 'featcache info {store.name}' lists them"
    print_pairs({**known, **rest})


def _progress(store: "FeatureStore", manifest: "Manifest | None") -> dict[str, str]:
    """Return the number of stored utterances, and whether the extraction is finished."""
    asked, total = store.num_requested, store.num_in_corpus or (len(manifest) if manifest else None)
    limited = asked is not None and total is not None and asked < total
    finished = "yes" if store.complete else f"no: {EXTRACT_AGAIN}"
    if store.complete and limited:
        finished = f"yes, for --limit {asked}"
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
        return f"{counted(full, 'utterance')} with the maximum of {limit} tokens" if full else "none"
    most = store.metadata.get("max_seconds")
    longer = [i for i in store if most is not None and store.duration([i]) > most]
    return f"{counted(len(longer), 'utterance')}, to {most:g} s" if longer else "none"


def _show_transcripts(path: Path) -> None:
    cache, name = path.parent.parent, name_of_transcripts(path)
    if not is_finished(cache, name):
        journal = cache / FOLDER / name / JOURNAL
        number = (
            max(0, journal.read_bytes().count(b"\n") - 1) if journal.is_file() else 0
        )  # The first line is a header.
        finished = f"no: {counted(number, 'utterance')} finished; {AGAIN}"
        print_pairs({"transcripts": table_path(cache, name), "finished": finished})
        return
    print_pairs(_about_transcripts(cache, name))


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
        "parameters": description.get("num_parameters", "-"),
        "language": settings.get("language") or "detected by the model",
        "WER": f"{errors['percent']:.1f} % of {errors['num_words']} words ({errors['normaliser']})" if errors else "-",
    }


def _show_run(path: Path) -> None:
    if path.name.endswith(UNFINISHED):
        path = path.with_name(path.name[1:].removesuffix(UNFINISHED))
    number = len(UnfinishedRun(path, {}).finished())
    if not (path / METRICS).is_file():
        told = f"no: {counted(number, 'training')} finished; run the same command again with --resume"
        print_pairs({"run": path, "finished": told})
        return
    run = RunFolder(path)
    metrics = run.metrics
    print_pairs(
        {
            "run": path,
            "finished": f"yes; being replaced: {counted(number, 'new training')} finished" if number else "yes",
            "utterances": "no test part" if run.is_final else metrics.get("num_utterances", "-"),
            "speakers": "no test part" if run.is_final else metrics.get("num_speakers") or "unknown",
            "folds": metrics.get("num_folds", "-"),
            "seeds": metrics.get("num_seeds", "-"),
            "settings": path / CONFIG,
            **{name: value for name, value in _settings(run.config).items() if value not in (None, "", [], {})},
        }
    )
    print_line()
    print_runs([run])


def _settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the main settings of a run; its table and ``config.yaml`` contain the others."""
    names = ("corpus", "target", "task", "select", "norm_by", "pooling", "featcache_version")
    return {name: escaped(str(config[name])) for name in names if config.get(name)}
