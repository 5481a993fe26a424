"""Corpora, models, stores and runs → lists on the terminal."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from featcache.corpora import CORPORA
from featcache.errors import CorpusError, StoreError, listed
from featcache.extractors import DESCRIPTORS, EXTRACTORS
from featcache.extractors.models import dimensions, is_local, known_models, known_text_models
from featcache.files.regular import is_hidden, resolved
from featcache.protocols import PROTOCOLS, Protocol, default_of
from featcache.protocols.general import GENERAL
from featcache.report.tables import ResultRow, plain_table, results_table
from featcache.runs.reader import RunFolder
from featcache.terminal.console import Console, print_line, print_pairs
from featcache.units import format_bytes
from featcache.workspace import Workspace

FRAMES_PER_HOUR = 50 * 3600


def print_corpora(name: str | None) -> None:
    """What is known of corpora; of one in full.

    Raises:
        CorpusError: an unknown name.
    """
    workspace = Workspace.at()
    if name is not None:
        corpus = CORPORA.find(name)
        rows = {
            "title": corpus.title,
            "what": corpus.description,
            "from": corpus.source,
            "licence": corpus.license,
            "classes": ", ".join(corpus.classes) or "whatever the manifest says",
            "numbers": ", ".join(f"{name} {low:g} to {high:g}" for name, (low, high) in corpus.dimensions.items())
            or "-",
            "utterances": _counted(corpus.published_counts),
            "protocol": f"{default_of(corpus)}, unless --protocol says otherwise",
            "frames used": f"the first {corpus.max_frames} of each utterance, unless --max-frames says otherwise",
        }
        print_pairs(rows)
        print()
        names = dict.fromkeys([*corpus.protocols, *(protocol.name for protocol in GENERAL)])
        _print_protocols({name: PROTOCOLS[name] for name in names if name in PROTOCOLS})
        return
    table = plain_table("Corpus", "What", "Published protocols")
    for reference, corpus in CORPORA.available().items():
        table.add_row(reference, corpus.description, ", ".join(corpus.protocols) or "-")
    console = Console()
    console.print(table)
    console.print()
    _print_protocols(PROTOCOLS.available())
    there = sorted(path.name for path in workspace.corpora.glob("*") if path.is_dir() and not is_hidden(path.name))
    cached = sorted(path.parent.name for path in workspace.home.glob("cache/*/manifest.csv"))
    print_line()
    print_line(f"under {workspace.corpora}: {', '.join(there) or 'none'}")
    print_line(f"under {workspace.home / 'cache'}: {', '.join(cached) or 'none'}")


def print_models() -> None:
    """All short names, with the size of their features and whether the weights are on this machine."""
    table = plain_table("Model", "Layers x size", "Cache per hour", "Transcribes", "Here", "Hugging Face id")
    for name, entry in known_models().items():
        layers, size = dimensions(entry["family"], entry["config"])
        hourly = format_bytes(layers * size * FRAMES_PER_HOUR * 2)
        here = "yes" if is_local(name) else "-"
        transcribes = "yes" if entry["family"] == "whisper" else "-"
        table.add_row(name, f"{layers} x {size}", hourly, transcribes, here, entry["model_id"])
    of_text = plain_table("Text model", "Layers x size", "Per 1000 tokens", "Here", "Hugging Face id")
    for name, entry in known_text_models().items():
        layers, size = entry["num_layers"], entry["hidden_size"]
        here = "yes" if is_local(name) else "-"
        of_text.add_row(name, f"{layers} x {size}", format_bytes(layers * size * 1000 * 2), here, entry["model_id"])
    console = Console()
    console.print(table)
    outside = [name for name in EXTRACTORS if not EXTRACTORS.is_builtin(name)]
    console.print(
        "\nCache per hour of audio, float16. Models that are not here are fetched from the Hugging Face hub; "
        "--weights random builds each of them untrained, offline.\n"
        f"Also: {', '.join((*DESCRIPTORS, *outside))}, opensmile:SET, opensmile:FILE.conf, any Hugging Face id, any "
        "folder that holds a model.\n"
    )
    console.print(of_text)
    console.print(
        "\nThese read transcripts: extract --text NAME; any other encoder of text works by its Hugging Face id or "
        "folder. Untrained ones read bytes."
    )


def print_verification(folder: Path, *, data: Path | None, number: int, model: str | None, device: str) -> None:
    """Check a store's checksums and that its features are finite, then compute some utterances anew.

    Raises:
        StoreError: damaged files, features that are NaN or infinite, or further off than rounding explains.
    """
    from featcache.cache.reader import FeatureStore
    from featcache.cache.shards import shard_numbers
    from featcache.extraction.verify import check_all_finite, damaged_files, recompute, unchecked_files

    damaged = list(damaged_files(folder))
    if damaged:
        raise StoreError(f"{folder} is damaged: {'; '.join(damaged)}; remove damaged shards and extract again")
    store = FeatureStore(folder)
    console = Console()
    console.print(f"{len(shard_numbers(folder))} shards: every checksum holds")
    unchecked = unchecked_files(folder)
    if unchecked:
        told = f"without a checksum of the whole, from an earlier release: {listed(unchecked)}"
        print_line(told)
    check_all_finite(store)
    if number == 0:
        return
    if store.identity.is_imported:
        print_line("no utterance was computed again: the features were imported, and what computed them is not known")
        return
    try:
        root = None if store.is_of_words else Workspace.at().find_corpus(resolved(folder).parent.name, data)[1]
    except CorpusError as error:
        if data is not None:
            raise
        print_line(f"no utterance was computed again, because the corpus was not found: {error}")
        return
    deviations = recompute(store, root, number, model=model, device=device)
    table = plain_table("Layer", "Largest deviation", "Tolerance")
    for deviation in deviations:
        table.add_row(deviation.layer or "-", f"{deviation.largest:.1e}", f"{deviation.tolerance:.1e}")
    console.print(table)
    outside = [deviation.layer or "features" for deviation in deviations if not deviation.within]
    if outside:
        raise StoreError(
            f"{folder}: {', '.join(outside)} deviate by more than rounding explains from what is computed now"
        )


def print_merge(into: Path, parts: Sequence[Path]) -> None:
    """Merge stores, and say what came of it."""
    from featcache.extraction.merge import merge

    merged = merge(into, parts)
    shards = f"{merged.num_shards} shards taken" if merged.num_shards else "nothing new"
    failed = f", {merged.num_failed} listed in failures.csv" if merged.num_failed else ""
    console = Console(soft_wrap=True)
    console.print(f"{shards}; {merged.num_utterances} utterances{failed}")
    if not merged.complete:
        console.print("not finished: utterances are missing; merge the other parts too, or run 'featcache extract'")
    console.print(str(into))


def print_runs(runs: Sequence[RunFolder]) -> None:
    """The table of results."""
    Console().print(results_table([result_row(run) for run in runs]))


def result_row(run: RunFolder) -> ResultRow:
    """The row of one run; features of untrained models are called so."""
    config = run.config
    names = [f"{name} (untrained)" if name in config["untrained"] else name for name in config["features"]]
    return ResultRow(
        metrics=run.metrics,
        features=" + ".join(names),
        layers=config["layers"],
        head=config["head"],
        norm=config["norm"],
        protocol=config["protocol"],
    )


def _print_protocols(protocols: Mapping[str, Protocol]) -> None:
    table = plain_table("Protocol", "What")
    for name, protocol in protocols.items():
        table.add_row(name, protocol.description)
    Console().print(table)


def _counted(counts: Mapping[str, int]) -> str:
    if not counts:
        return "whatever there are"
    return f"{', '.join(f'{name} {count}' for name, count in counts.items())}; together {sum(counts.values())}"
