"""Manifest × extractors → cache. The one place where a model meets the cache.

What is to be done is planned first: utterances that are stored already are left out, the rest is cut, in the
manifest's order, into groups that make a shard each. Threads take the utterances of a group through decoding,
resampling and every extractor, while finished groups are written: each utterance is decoded once, whatever it feeds.
Utterances that are computed in windows are decoded for each store, window by window, and wait in spools on the disk.
"""

import json
import logging
import os
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from featcache.cache.layout import is_pooled, settings_of
from featcache.cache.locks import finishing, locked
from featcache.cache.shards import read_catalogue, shard_numbers
from featcache.cache.writer import StoreWriter
from featcache.corpora import CorpusFiles, read_corpus
from featcache.errors import AudioError, ClusterError, CorpusError, StoreError, listed
from featcache.extraction.cluster import ClusterRun
from featcache.extraction.plan import Item, Plan, Target, default_batch_seconds, default_workers, make_plan, tell_size
from featcache.extraction.report import ExtractionReport, summarise_report, write_failures
from featcache.extraction.run import Run
from featcache.extraction.worker import recipe_of
from featcache.extractors import DESCRIPTORS, create_extractor, made_with, store_name, usable_devices
from featcache.extractors.base import CHUNK_OPTIONS, Extractor
from featcache.files import replace_file
from featcache.manifest import Manifest, Utterance
from featcache.scheduler import connected
from featcache.threads import one_thread_each
from featcache.workspace import Workspace

__all__ = ["ExtractionReport", "extract", "summarise_report"]

log = logging.getLogger(__name__)

StorageDtype = Literal["float16", "float32", "int8"]


def extract(
    *,
    model: str = "wav2vec2-base",
    corpus: str | None = None,
    data: str | os.PathLike[str] | None = None,
    egemaps: bool = True,
    name: str | None = None,
    store: StorageDtype | None = None,
    pool: bool = False,
    limit: int | None = None,
    device: str = "cpu",
    workers: int | None = None,
    batch_seconds: float | None = None,
    strict: bool = False,
    dry_run: bool = False,
    shard_index: int = 0,
    num_shards: int = 1,
    scheduler: str | None = None,
    home: str | os.PathLike[str] | None = None,
    **options: Any,
) -> ExtractionReport:
    """Run a frozen extractor over a corpus and keep its features.

    Args:
        model: ``egemaps``, ``egemaps-functionals``, ``spectrogram``, a short model name, a Hugging Face id or a folder.
        corpus: Name under ``data/corpora``; may be left out when there is one.
        data: The corpus's folder, or a manifest as CSV, when it lies elsewhere.
        egemaps: Whether a model's extraction fills the store ``egemaps`` as well, from the same decoded audio.
        name: Name of the store; by default the model's.
        store: ``float16`` (the default for models), ``float32`` (always used for descriptors) or ``int8``, half of
            float16's bytes.
        pool: Keep the statistics of each utterance alone: mean, deviation and maximum of every layer, without frames.
        limit: Take only so many utterances, drawn from the whole corpus and always the same.
        device: As torch names it; ``auto`` is the first GPU, or the processor. Several, as in ``cuda:0,cuda:1``, hold
            a copy of the model each and share the batches.
        workers: Threads; by default one per core, and at least three for each of several devices.
        batch_seconds: Seconds of audio, padding included, that go through the model together. By default one
            utterance at a time on a processor, where padding costs time, and 120 s on a GPU. Changes no number.
        strict: Stop at the first utterance that fails.
        dry_run: Plan and tell, but compute and write nothing.
        shard_index: Which part of the corpus to do, from 0 on, when several processes or machines share the work.
        num_shards: How many parts there are. The parts need no coordination; together they make one store, and the
            one that ends last finishes it.
        scheduler: Address of a Dask scheduler, such as ``tcp://host:8786``, whose workers do the work on their own
            ``device``. They read the audio and write the stores under the same paths as this process.
        home: Where everything lives; by default ``$FEATCACHE_HOME``, or ``data``.
        options: Fields of the extractor's configuration: ``weights``, ``revision``, ``num_blocks``, ``layers``, …
            of :class:`~featcache.extractors.ssl.SSLConfig`; ``window``, ``hop``, ``n_fft``, … of the others;
            ``max_seconds``, ``chunk_seconds`` and ``overlap_seconds`` of all.

    Raises:
        FeatcacheError: no or several corpora; an unknown model; a store with other settings, or in use by another
            process; too little disk space; with ``strict``, an utterance that fails; a cluster that cannot be reached
            or whose workers differ. Everything written before is kept.
    """
    workspace = Workspace.at(home)
    corpus_name, files = find_files(workspace, corpus, data)
    cache = workspace.cache(corpus_name)
    part = _part(shard_index, num_shards, scheduler)
    requested = list(files.manifest.limited(limit))
    wanted = requested[shard_index::num_shards]
    if pool and store:
        raise StoreError(f"--store {store} and --pool exclude each other: statistics are always float32; leave out one")
    recipes = {name or store_name(model): recipe_of(model, options, "cpu" if model in DESCRIPTORS else device)}
    pooled = dict.fromkeys(recipes, pool)
    if egemaps and model not in DESCRIPTORS and "egemaps" not in recipes:
        beside = _beside(cache / "egemaps", options, pool)
        recipes["egemaps"], pooled["egemaps"] = recipe_of("egemaps", beside.options, "cpu"), beside.pool
    # the workers of a cluster use their own devices
    device = "cpu" if model in DESCRIPTORS or scheduler is not None else usable_devices(device)
    log.info("loading %s", model)
    models = {
        key: create_extractor(recipe.model, device=device, **dict(recipe.options)) for key, recipe in recipes.items()
    }
    workers = workers or default_workers(device)

    with ExitStack() as stack:
        client = None if scheduler is None or dry_run else stack.enter_context(connected(scheduler))
        if not dry_run:
            for store_folder in models:
                stack.enter_context(locked(cache / store_folder, part))
        targets = [
            Target(
                key,
                extractor,
                StoreWriter(
                    cache / key,
                    extractor.description,
                    _storage_dtype(extractor, store, pool=pooled[key]),
                    pool=pooled[key],
                    part=part,
                ),
            )
            for key, extractor in models.items()
        ]
        plan = make_plan(targets, files.root, wanted, workers)
        tell_size(plan, targets, cache)
        if dry_run:
            return _report(cache, targets, plan, plan.items, wanted, interrupted=False, seconds=0.0)
        keep_manifest(cache, files)
        start = time.perf_counter()
        run: Run | ClusterRun
        if client is not None:
            run = ClusterRun(client, targets, recipes, files.root, plan, batch_seconds=batch_seconds, strict=strict)
        else:
            seconds_together = default_batch_seconds(device) if batch_seconds is None else batch_seconds
            run = Run(targets, files.root, plan, workers=workers, batch_seconds=seconds_together, strict=strict)
        with one_thread_each():
            interrupted = run.to_the_end()
        for target in targets:
            with finishing(target.writer.folder):
                tried = {utterance.utterance_id for utterance in wanted}
                failed = write_failures(target.writer.folder, list(target.failures.values()), tried)
                target.writer.finish([utterance.utterance_id for utterance in requested], failed=failed)
        done = [item for item in plan.items if item.utterance.utterance_id in run.extracted]
        seconds = time.perf_counter() - start
        report = _report(cache, targets, plan, done, wanted, interrupted=interrupted, seconds=seconds)
    if report.failures and not any(target.writer.entries() for target in targets):
        first = report.failures[0]
        raise AudioError(
            f"none of the {len(wanted)} utterances could be extracted; {first.utterance_id!r}: {first.reason}"
        )
    return report


def find_files(
    workspace: Workspace, corpus: str | None, data: str | os.PathLike[str] | None
) -> tuple[str, CorpusFiles]:
    """The name of a corpus and its files; those that are left out are told.

    Args:
        workspace: Where everything lives.
        corpus: Name under ``data/corpora``; may be left out when there is one.
        data: The corpus's folder, or a manifest as CSV, when it lies elsewhere.
    """
    name, folder = workspace.find_corpus(corpus, None if data is None else Path(data))
    files = read_corpus(folder)
    if files.ignored:
        log.warning(
            "%d audio files are not part of the corpus and are left out: %s", len(files.ignored), listed(files.ignored)
        )
    return name, files


def _part(shard_index: int, num_shards: int, scheduler: str | None) -> tuple[int, int]:
    if not 0 <= shard_index < num_shards:
        raise StoreError(f"--shard-index is {shard_index}, expected 0 to {num_shards - 1} (--num-shards {num_shards})")
    if scheduler is not None and num_shards > 1:
        raise ClusterError("--scheduler shares the work among its workers itself; leave --num-shards out")
    return shard_index, num_shards


def _storage_dtype(extractor: Extractor, asked: StorageDtype | None, *, pool: bool) -> StorageDtype:
    if pool or extractor.description.dataset == "frames":
        return "float32"
    return asked or "float16"


@dataclass(frozen=True, kw_only=True)
class _Beside:
    """How the eGeMAPS store beside a model's is filled."""

    options: dict[str, Any]
    pool: bool


def _beside(folder: Path, options: dict[str, Any], pool: bool) -> _Beside:
    """An eGeMAPS store that is there is carried on as it was begun; a new one is cut and pooled as the model's is."""
    if not shard_numbers(folder):
        return _Beside(options={name: options.get(name) for name in CHUNK_OPTIONS}, pool=pool)
    attributes = read_catalogue(folder).attributes
    _, in_use = made_with(settings_of(attributes))
    return _Beside(options=in_use, pool=is_pooled(attributes))


def keep_manifest(cache: Path, files: CorpusFiles) -> None:
    """Write the manifest of a corpus, and which corpus it is, beside its features.

    Raises:
        CorpusError: the cache is of other utterances.
    """
    path = cache / "manifest.csv"
    if path.exists() and not set(Manifest.read(path).utterance_ids) & set(files.manifest.utterance_ids):
        raise CorpusError(
            f"{cache} is the cache of another corpus: it has none of the utterances of {files.root}; "
            "give this one another name with --corpus"
        )
    files.manifest.write(path)
    replace_file(cache / "corpus.json", json.dumps({"corpus": files.corpus.name}).encode())


def _report(
    cache: Path,
    targets: Sequence[Target],
    plan: Plan,
    done: Sequence[Item],
    wanted: Sequence[Utterance],
    *,
    interrupted: bool,
    seconds: float,
) -> ExtractionReport:
    return ExtractionReport(
        cache=cache,
        stores=tuple(target.name for target in targets),
        num_utterances=len(wanted),
        num_extracted=len(done),
        planned_bytes=plan.bytes,
        audio_seconds=sum(item.seconds for item in done),
        seconds=seconds,
        interrupted=interrupted,
        failures=tuple(failure for target in targets for failure in target.failures.values()),
    )
