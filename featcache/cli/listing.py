"""Corpora, stores and runs → lists on the terminal."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from featcache.cli.columns import print_fitting
from featcache.corpora import CORPORA, Corpus
from featcache.errors import CorpusError, StoreError, listed
from featcache.evaluate.scores import chance_of, digits_of, heading_of, label_of, name_of_main_score
from featcache.files.regular import is_hidden, resolved
from featcache.protocols import PROTOCOLS, default_of
from featcache.protocols.general import GENERAL
from featcache.registry import DESCRIPTIONS, name_plugins
from featcache.report.tables import ResultRow, interval, mean_and_std, plain_table, results_table
from featcache.runs.identity import TEST_CORPORA
from featcache.runs.reader import RunFolder
from featcache.runs.validation import validation_scores
from featcache.terminal.console import Console, print_line, print_pairs
from featcache.units import counted, format_bytes
from featcache.workspace import Workspace


def print_corpora(name: str | None) -> None:
    """Print the corpora that are available here, and all known ones; or the details of one corpus.

    Args:
        name: Name of the corpus whose details are printed, or None.

    Raises:
        CorpusError: The name is unknown.
    """
    if name is None:
        _print_available(Workspace.at())
        print_line()
        _print_known()
    else:
        _print_corpus(name)


def _print_available(workspace: Workspace) -> None:
    """Print one line for each corpus with audio or a cache in the workspace."""
    audio = {path.name for path in workspace.corpora.glob("*") if path.is_dir() and not is_hidden(path.name)}
    cached = {path.parent.name for path in workspace.caches.glob("*/manifest.csv")}
    for folder, found in ((workspace.corpora, audio), (workspace.caches, cached)):
        if not found:
            print_line(f"no corpora in {folder}")
    if audio | cached:
        print_fitting(
            {
                "Available here": sorted(audio | cached),
                "Audio": [_yes(name in audio) for name in sorted(audio | cached)],
                "Cache": [_yes(name in cached) for name in sorted(audio | cached)],
            }
        )


def _print_known() -> None:
    """Print one line for each corpus with a known layout, and the names of the general protocols."""
    corpora = CORPORA.available()
    print_fitting(
        {
            "Known corpora": list(corpora),
            "Title": [corpus.title for corpus in corpora.values()],
            "Fetch": [_yes(bool(corpus.download)) for corpus in corpora.values()],
            "Classes": [str(len(corpus.classes) or "-") for corpus in corpora.values()],
            "Utterances": [str(sum(corpus.published_counts.values()) or "-") for corpus in corpora.values()],
            "Dimensional labels": [", ".join(corpus.dimensions) or "-" for corpus in corpora.values()],
        }
    )
    published = {name for corpus in corpora.values() for name in corpus.protocols} - {one.name for one in GENERAL}
    print_line()
    print_line(
        f"Protocols for any corpus: {', '.join(name for name in PROTOCOLS.available() if name not in published)}"
    )
    print_line(
        "'featcache corpora NAME' shows the classes, licence and protocols of a corpus. Fetch: 'featcache fetch NAME' "
        "downloads it, because its authors let anybody do so."
    )


def _print_corpus(name: str) -> None:
    """Print the details and protocols of one corpus."""
    if name not in CORPORA and (Workspace.at().caches / name / "manifest.csv").is_file():
        raise CorpusError(f"{name!r} is a cached corpus, not a known one; 'featcache info {name}' shows its content")
    if name.endswith(DESCRIPTIONS):
        name_plugins(name)
    corpus = CORPORA.find(name)
    print_pairs(
        {
            "title": corpus.title,
            "content": corpus.description,
            "source": corpus.source,
            **_of_download(corpus),
            "licence": corpus.license,
            **_of_description(corpus),
            "classes": ", ".join(corpus.classes) or "the classes of the manifest",
            "dimensions": ", ".join(f"{name} {low:g} to {high:g}" for name, (low, high) in corpus.dimensions.items())
            or "-",
            "utterances": _counted(corpus.published_counts),
            "protocol": f"{default_of(corpus)} (change it with --protocol)",
            "frames used": f"the first {corpus.max_frames} of each utterance (change them with --max-frames)",
        }
    )
    print_line()
    names = dict.fromkeys([*corpus.protocols, *(protocol.name for protocol in GENERAL)])
    print_pairs({name: PROTOCOLS[name].description for name in names if name in PROTOCOLS}, title="Protocols")


def _of_download(corpus: Corpus) -> dict[str, str]:
    """Return how to download a corpus that anybody may download."""
    if not corpus.download:
        return {}
    size = sum(one.size or 0 for one in corpus.download)
    known = format_bytes(size) if all(one.size for one in corpus.download) else "size shown before the download"
    checked = " and ".join(dict.fromkeys(one.checked for one in corpus.download if one.checked))
    addresses = f", {'address' if len(corpus.download) == 1 else 'addresses'} from {checked}" if checked else ""
    return {"get it": f"featcache fetch {corpus.name} ({counted(len(corpus.download), 'file')}, {known}{addresses})"}


def _of_description(corpus: Corpus) -> dict[str, str]:
    """Return what a description says about a corpus in addition."""
    known = {"citation": getattr(corpus, "citation", ""), "names from": getattr(corpus, "checked", "")}
    return {name: value for name, value in known.items() if value}


def _yes(value: bool) -> str:
    return "yes" if value else "-"


def print_verification(
    folder: Path, *, data: Path | None, number: int, model: str | None, augment: Sequence[str], device: str
) -> None:
    """Check that a store is undamaged and its features are finite, and compare it with recomputed utterances.

    Args:
        folder: Folder of the store.
        data: Folder of the corpus; None for the corpus in the workspace.
        number: Number of utterances to recompute.
        model: New folder of the model or file of the extractor, if it was moved.
        augment: Augmentations of a view whose noise or impulse responses are from a folder.
        device: Device of the computation.

    Raises:
        StoreError: Files are damaged, features are NaN or infinite, or differences exceed the tolerance.
    """
    from featcache.cache.reader import FeatureStore
    from featcache.cache.shards import shard_numbers
    from featcache.extraction.verify import check_all_finite, damaged_files, recompute, unchecked_files

    damaged = list(damaged_files(folder))
    if damaged:
        raise StoreError(f"{folder} is damaged: {'; '.join(damaged)}; remove damaged shards and extract again")
    store = FeatureStore(folder)
    print_line(f"{counted(len(shard_numbers(folder)), 'shard')}: all checksums are correct")
    unchecked = unchecked_files(folder)
    if unchecked:
        print_line(f"files without a checksum, from an earlier release: {listed(unchecked)}")
    check_all_finite(store)
    if number == 0:
        return
    if store.identity.is_imported:
        print_line("no utterance was recomputed: the features are imported, and their extractor is unknown")
        return
    try:
        root = None if store.is_of_words else Workspace.at().find_corpus(resolved(folder).parent.name, data)[1]
    except CorpusError as error:
        if data is not None:
            raise
        print_line(f"no utterance was recomputed, because the corpus was not found: {error}")
        return
    deviations = recompute(store, root, number, model=model, augment=augment, device=device)
    table = plain_table("Layer", "Maximum absolute error", "Tolerance")
    for deviation in deviations:
        table.add_row(deviation.layer or "-", f"{deviation.largest:.1e}", f"{deviation.tolerance:.1e}")
    Console().print(table)
    outside = [deviation.layer or "features" for deviation in deviations if not deviation.within]
    if outside:
        raise StoreError(
            f"{folder}: {', '.join(outside)} differ from the recomputed features by more than the tolerance"
        )


def print_merge(into: Path, parts: Sequence[Path]) -> None:
    """Merge stores, and print the result.

    Args:
        into: Store to fill.
        parts: Stores to merge.
    """
    from featcache.extraction.merge import merge

    merged = merge(into, parts)
    shards = f"{counted(merged.num_shards, 'shard')} copied" if merged.num_shards else "nothing new"
    failed = f", {merged.num_failed} listed in failures.csv" if merged.num_failed else ""
    print_line(f"{shards}; {counted(merged.num_utterances, 'utterance')}{failed}")
    if not merged.complete:
        print_line("not finished: utterances are missing; merge the other parts too, or run 'featcache extract'")
    print_line(str(into))


def print_runs(runs: Sequence[RunFolder]) -> None:
    """Print a table of scores with one row per run."""
    _print_results([result_row(run) for run in runs])


def print_fitted(runs: Sequence[RunFolder]) -> None:
    """Print a table of scores with one row per run, and below it the chance level.

    The validation scores are a column of the table if the terminal is wide enough. Otherwise, the validation score of a
    single run is below the table.
    """
    rows = [result_row(run) for run in runs]
    told = list(dict.fromkeys(text for run in runs if (text := chance_of(run.metrics))))
    name = name_of_main_score(rows[0].validation)
    if not _print_results(rows) and len(rows) == 1 and name:
        score = rows[0].validation[name]
        told.append(f"validation: {label_of(name)} {mean_and_std(score['mean'], score['std'], digits_of(name))}")
    if told:
        print_line("; ".join(told))
    for run in runs:
        _print_corpora(run, title=run.name if len(runs) > 1 else "")


def _print_corpora(run: RunFolder, title: str) -> None:
    """Print the score of each test corpus, if a run has several; above them the title, if there is one."""
    of_corpora = run.metrics.get(TEST_CORPORA, {})
    name = name_of_main_score(run.metrics)
    if of_corpora and name:
        print_line()
        if title:
            print_line(f"{title}:")
        scores = [content[name] for content in of_corpora.values()]
        print_fitting(
            {
                "Test corpus": list(of_corpora),
                "Utterances": [str(content["num_utterances"]) for content in of_corpora.values()],
                heading_of(name): [mean_and_std(one["mean"], one["std"], digits_of(name)) for one in scores],
                "95 % CI": [interval(one["ci95"], digits_of(name)) if one["ci95"] else "-" for one in scores],
            }
        )


def _print_results(rows: Sequence[ResultRow]) -> bool:
    """Print a table of scores; return whether it has the validation scores, which need a wide terminal."""
    console, table = Console(), results_table(rows)
    shown = table.fits(console)
    console.print(table if shown else results_table(rows, validation=False))
    return shown


def result_row(run: RunFolder) -> ResultRow:
    """Return the table row of a run; features of untrained models are marked."""
    config = run.config
    names = [f"{name} (untrained)" if name in config["untrained"] else name for name in config["features"]]
    return ResultRow(
        metrics=run.metrics,
        validation=validation_scores(run),
        features=" + ".join(names) or "-",
        layers=config["layers"],
        head=config["head"],
        norm=config["norm"],
        protocol=config["protocol"],
    )


def _counted(counts: Mapping[str, int]) -> str:
    if not counts:
        return "not fixed"
    return f"{', '.join(f'{name} {count}' for name, count in counts.items())}; in total {sum(counts.values())}"
