"""Manifest × extractors → cache. The one place where a model meets the cache.

What is to be done is planned first: utterances that are stored already are left out, the rest is cut, in the
manifest's order, into groups that make a shard each. Threads take the utterances of a group through decoding,
resampling and every extractor, while finished groups are written: each utterance is decoded once, whatever it feeds.
A text encoder reads the transcripts instead, and nothing is decoded.
Utterances that are computed in windows are decoded for each store, window by window, and wait in spools on the disk.
"""

import logging
import os
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from featcache.cache.failures import Failure, write_failures
from featcache.cache.layout import StorageDtype
from featcache.cache.locks import finishing, lock_if_writable
from featcache.cache.shards import read_catalogue, shard_numbers
from featcache.cache.writer import StoreWriter
from featcache.dask_client import connected
from featcache.errors import AudioError, ClusterError, DiskError, ModelError, StoreError
from featcache.extraction.dask_submit import ClusterRun
from featcache.extraction.dask_worker import Recipe, recipe_of
from featcache.extraction.inputs import source_of
from featcache.extraction.locate import LocatedCorpus, compare_audio, find_place, keep_manifest
from featcache.extraction.memory import check_memory
from featcache.extraction.plan import ExtractionPlan, PlannedUtterance, StoreJob, default_workers, make_plan, tell_size
from featcache.extraction.run import ExtractionRun
from featcache.extraction.summary import ExtractionReport, failures_of, summarise_report
from featcache.extractors import DESCRIPTORS, create_extractor, store_name, usable_devices
from featcache.extractors.base import Extractor
from featcache.features import CHUNK_OPTIONS
from featcache.manifest import Utterance
from featcache.threads import one_thread_each
from featcache.transcripts.text import MANIFEST, made_by, read_words
from featcache.workspace import Workspace, check_name

__all__ = ["ExtractionReport", "extract", "summarise_report"]

log = logging.getLogger(__name__)


def extract(
    *,
    model: str | None = None,
    text: str | None = None,
    transcripts: str | None = None,
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
        model: ``egemaps``, ``egemaps-functionals``, ``spectrogram``, a short model name, a Hugging Face id or a folder;
            ``wav2vec2-base`` by default.
        text: In place of a model of speech, an encoder of text, which reads the utterances' transcripts: a short name,
            a Hugging Face id or a folder. No audio is read, and a cache that has a manifest needs none.
        transcripts: For ``text``: the name of a machine's transcripts in the cache, in place of the manifest's.
        corpus: Name under ``data/corpora``; may be left out when there is one.
        data: The corpus's folder, or a manifest as CSV, when it lies elsewhere.
        egemaps: Whether a model's extraction fills the store ``egemaps`` as well, from the same decoded audio.
        name: Name of the store; by default the model's, with that of a machine's transcripts after it.
        store: ``float16`` (the default for models), ``float32`` (always used for descriptors) or ``int8``, half of
            float16's bytes.
        pool: Keep the statistics of each utterance alone: mean, deviation and maximum of every layer, without frames.
        limit: Take only so many utterances, drawn from the whole corpus and always the same.
        device: As torch names it; ``auto`` is CUDA, else Apple's ``mps``, else the CPU. Several, as in
            ``cuda:0,cuda:1``, hold
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
            ``max_seconds``, ``chunk_seconds`` and ``overlap_seconds`` of all. For ``text`` those of
            :class:`~featcache.extractors.text.TextConfig`: ``weights``, ``revision``, ``layers``, ``precision``.

    Raises:
        FeatcacheError: no or several corpora; an unknown model; a store with other settings, or in use by another
            process; too little disk space or memory; with ``strict``, an utterance that fails; a cluster that cannot
            be reached or whose workers differ. Everything written before is kept.
    """
    _check_options(model, text, transcripts, batch_seconds)
    asked = model or text or "wav2vec2-base"
    if pool and store:
        raise StoreError(f"--store {store} and --pool exclude each other: statistics are always float32; leave out one")
    place = find_place(Workspace.at(home), corpus, None if data is None else Path(data), audio=text is None)
    cache = place.cache
    part = _part(shard_index, num_shards, scheduler)
    requested = list(place.manifest.limited(limit))
    readable = wanted = requested[shard_index::num_shards]
    if text is not None:
        words = read_words(cache, place.manifest, transcripts)
        readable = [words[u.utterance_id] for u in wanted if u.utterance_id in words]
        options = {**options, **_of_text(cache, transcripts)}
    usual = "-".join(filter(None, (store_name(asked), transcripts)))
    name = check_name("store", usual if name is None else name, cache)
    recipes = {name: recipe_of(asked, options, "cpu" if asked in DESCRIPTORS else device)}
    pools = dict.fromkeys(recipes, pool)
    if egemaps and text is None and asked not in DESCRIPTORS and "egemaps" not in recipes:
        recipes["egemaps"], pools["egemaps"] = _beside(cache / "egemaps", options, pool)
    # the workers of a cluster use their own devices
    device = "cpu" if asked in DESCRIPTORS or scheduler is not None else usable_devices(device)
    workers = workers or default_workers(device)
    compare_audio(place, wanted, recipes, workers)
    log.info("loading %s", asked)
    models = {
        key: create_extractor(recipe.model, device=device, **dict(recipe.options)) for key, recipe in recipes.items()
    }

    with ExitStack() as stack:
        client = None if scheduler is None or dry_run else stack.enter_context(connected(scheduler))
        unwritable = None if dry_run else lock_if_writable(stack, [cache / key for key in models], part)
        targets = [
            _target(cache / key, extractor, store, pool=pools[key], part=part) for key, extractor in models.items()
        ]
        source = source_of(targets[0].extractor.description, place.root)
        plan = make_plan(targets, source, readable, workers)
        tell_size(plan, targets, source, cache)
        together = source.batch_length(device) if batch_seconds is None else batch_seconds
        check_memory(plan, targets, workers=workers, batch_length=together, elsewhere=scheduler is not None)
        if dry_run or unwritable is not None:
            _check_complete(targets, plan, unwritable)
            targets[0].failures |= failures_of(plan.unreadable, targets[0].name, wanted)
            return _report(cache, targets, plan, plan.items, wanted, interrupted=False, seconds=0.0)
        _begin(targets, place, requested)
        targets[0].failures |= _untranscribed(targets[0].name, transcripts, wanted, readable)
        start = time.perf_counter()
        run: ExtractionRun | ClusterRun
        if client is not None:
            run = ClusterRun(client, targets, recipes, source, plan, batch_length=batch_seconds, strict=strict)
        else:
            run = ExtractionRun(targets, source, plan, workers=workers, batch_length=together, strict=strict)
        with one_thread_each():
            interrupted = run.to_the_end()
        _finish(targets, wanted, requested, num_in_corpus=len(place.manifest))
        done = [item for item in plan.items if item.utterance.utterance_id in run.extracted]
        took = time.perf_counter() - start
        return _report(cache, targets, plan, done, wanted, interrupted=interrupted, seconds=took)


def _check_options(model: str | None, text: str | None, transcripts: str | None, batch_seconds: float | None) -> None:
    if "" in (model, text):  # a variable of a shell script that is not set
        raise ModelError("the name of the model is empty; name one, or leave --model and --text out")
    if text is None:
        if transcripts is not None:
            raise ModelError("--transcripts says what a model of text reads; name one with --text")
        return
    if model is not None:
        raise ModelError(f"--model {model} reads audio and --text {text} words; extract one after the other")
    if batch_seconds is not None:
        raise ModelError(f"--batch-seconds does not apply to {text!r}, which reads no audio")


def _of_text(cache: Path, transcripts: str | None) -> dict[str, Any]:
    """The options of an extractor that say whose transcripts it reads."""
    if transcripts is None:
        return {"text": True, "transcripts": MANIFEST}
    return {"text": True, "transcripts": transcripts, "transcripts_made_by": made_by(cache, transcripts)}


def _untranscribed(
    store: str, transcripts: str | None, wanted: Sequence[Utterance], readable: Sequence[Utterance]
) -> dict[str, Failure]:
    """The failures of utterances that a machine has no transcript of, be it an empty one."""
    there = {utterance.utterance_id for utterance in readable}
    reason = f"the transcripts {transcripts!r} lack it"
    return {
        u.utterance_id: Failure(store=store, utterance_id=u.utterance_id, path=u.path, reason=reason)
        for u in wanted
        if u.utterance_id not in there
    }


def _check_complete(targets: Sequence[StoreJob], plan: ExtractionPlan, unwritable: DiskError | None) -> None:
    """Refuse what would write to stores that cannot be written."""
    if unwritable is None:
        return
    if plan.items or not all(read_catalogue(target.writer.folder).complete for target in targets):
        raise unwritable


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


def _beside(folder: Path, options: dict[str, Any], pool: bool) -> tuple[Recipe, bool]:
    """How an eGeMAPS store is filled, and whether it keeps statistics alone.

    One that is there is carried on as it was begun; a new one is cut and pooled as the model's is.
    """
    if shard_numbers(folder):
        found = read_catalogue(folder).identity
        options, pool = found.model_and_options()[1], found.pool
    else:
        options = {name: options.get(name) for name in CHUNK_OPTIONS}
    return recipe_of("egemaps", options, "cpu"), pool


def _target(
    folder: Path, extractor: Extractor, store: StorageDtype | None, *, pool: bool, part: tuple[int, int]
) -> StoreJob:
    dtype = _storage_dtype(extractor, store, pool=pool)
    return StoreJob(folder.name, extractor, StoreWriter(folder, extractor.description, dtype, pool=pool, part=part))


def _begin(targets: Sequence[StoreJob], place: LocatedCorpus, requested: Sequence[Utterance]) -> None:
    """Keep the manifest, and have the stores that lack something say what they are asked for."""
    if place.files is not None:
        keep_manifest(place.cache, place.files)
    ids = [utterance.utterance_id for utterance in requested]
    for target in targets:
        target.writer.begin(ids, num_in_corpus=len(place.manifest), write=bool(target.todo))


def _finish(
    targets: Sequence[StoreJob], wanted: Sequence[Utterance], requested: Sequence[Utterance], *, num_in_corpus: int
) -> None:
    """List what failed, write the indexes, and refuse to have extracted nothing at all."""
    for target in targets:
        with finishing(target.writer.folder):
            tried = {utterance.utterance_id for utterance in wanted}
            failed = write_failures(target.writer.folder, list(target.failures.values()), tried)
            ids = [utterance.utterance_id for utterance in requested]
            target.writer.finish(ids, failed=failed, num_in_corpus=num_in_corpus)
    failures = [failure for target in targets for failure in target.failures.values()]
    if failures and not any(target.writer.entries() for target in targets):
        first = failures[0]
        raise AudioError(
            f"none of the {len(wanted)} utterances could be extracted; {first.utterance_id!r}: {first.reason}"
        )


def _report(
    cache: Path,
    targets: Sequence[StoreJob],
    plan: ExtractionPlan,
    done: Sequence[PlannedUtterance],
    wanted: Sequence[Utterance],
    *,
    interrupted: bool,
    seconds: float,
) -> ExtractionReport:
    length = sum(item.length for item in done)
    reads_words = any(target.extractor.description.tokenise for target in targets)
    return ExtractionReport(
        cache=cache,
        stores=tuple(target.name for target in targets),
        num_utterances=len(wanted),
        num_extracted=len(done),
        planned_bytes=plan.bytes,
        audio_seconds=0.0 if reads_words else length,
        num_tokens=int(length) if reads_words else 0,
        seconds=seconds,
        interrupted=interrupted,
        failures=tuple(failure for target in targets for failure in target.failures.values()),
        ends_early=tuple(plan.ends_early),
    )
