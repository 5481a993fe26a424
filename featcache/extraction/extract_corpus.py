"""Request × models → filled stores. The one place where a model meets the cache.

What is missing is planned first: utterances that are stored already are left out, the rest is cut, in the manifest's
order, into groups that make a shard each. Threads take the utterances of a group through decoding, resampling and every
extractor, while finished groups are written: each utterance is decoded once, whatever it feeds. A text encoder reads
the transcripts instead, and nothing is decoded. Utterances that are computed in windows are decoded for each store,
window by window, and wait in spools on the disk.
"""

import logging
import os
import time
from collections.abc import Collection, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featcache.cache.failures import Failure, write_failures
from featcache.cache.layout import StorageDtype
from featcache.cache.locks import finishing, lock_if_writable
from featcache.cache.shards import read_catalogue
from featcache.cache.writer import StoreWriter
from featcache.dask_client import connected
from featcache.errors import AudioError
from featcache.extraction.dask_submit import ClusterRun
from featcache.extraction.inputs import Input, input_of
from featcache.extraction.locate import compare_audio, keep_manifest
from featcache.extraction.memory import check_memory
from featcache.extraction.plan import ExtractionPlan, PlannedUtterance, StoreJob, make_plan, tell_size
from featcache.extraction.resolve import ExtractionOptions, ExtractionRequest, RequestedStore, resolve
from featcache.extraction.run import ExtractionRun
from featcache.extraction.summary import ExtractionReport, failures_of
from featcache.extractors import create_extractor
from featcache.extractors.base import Extractor
from featcache.registry import name_plugins
from featcache.threads import one_thread_each
from featcache.workspace import Workspace

if TYPE_CHECKING:
    from distributed import Client

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
        model: ``egemaps``, ``compare2016``, ``logmel``, … (see :data:`featcache.extractors.EXTRACTORS`), a short model
            name, a Hugging Face id, a folder, ``package.module:Class`` or ``./file.py:Class``;
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
        pool: Keep the statistics of each utterance alone: mean, standard deviation and maximum of every layer, without
            frames.
        limit: Random subset of so many utterances of the whole corpus, always the same.
        device: As torch names it; ``auto`` is CUDA, else Apple's ``mps``, else the CPU. Several, as in
            ``cuda:0,cuda:1``, hold a copy of the model each and share the batches.
        workers: Threads; by default one per core, and at least three for each of several devices.
        batch_seconds: Seconds of audio, padding included, that go through the model together. By default one
            utterance at a time on the CPU, where padding costs time, and 120 s on a GPU. Changes no number.
        strict: Stop at the first utterance that fails.
        dry_run: Only plan: compute and write nothing.
        shard_index: Which part of the corpus to extract, from 0 on, when several processes or machines share the work.
        num_shards: How many parts there are. The parts need no coordination; together they make one store, and the
            one that ends last finishes it.
        scheduler: Address of a Dask scheduler, such as ``tcp://host:8786``, whose workers do the work on their own
            ``device``. They read the audio and write the stores under the same paths as this process.
        home: Where everything lives; by default ``$FEATCACHE_HOME``, or ``data``.
        options: Fields of the extractor's configuration: ``weights``, ``revision``, ``num_blocks``, ``layers``, …
            of :class:`~featcache.settings.extractor_configs.SSLConfig`; ``window``, ``hop``, … of the others;
            ``max_seconds``, ``chunk_seconds`` and ``overlap_seconds`` of all. For ``text`` those of
            :class:`~featcache.settings.extractor_configs.TextConfig`: ``weights``, ``layers``, ``precision``, …

    Raises:
        FeatcacheError: no or several corpora; an unknown model; a store with other settings, or in use by another
            process; too little disk space or memory; with ``strict``, an utterance that fails; a cluster that cannot
            be reached or whose workers differ. Everything written before is kept.

    Example:
        >>> report = featcache.extract(model="egemaps", data="path/to/audio", name="descriptors")
        >>> report.num_extracted == report.num_utterances
        True
    """
    name_plugins([] if model is None else [model])
    options_given = ExtractionOptions(
        model=model,
        text=text,
        transcripts=transcripts,
        corpus=corpus,
        data=None if data is None else Path(data),
        egemaps=egemaps,
        name=name,
        store=store,
        pool=pool,
        limit=limit,
        device=device,
        workers=workers,
        batch_seconds=batch_seconds,
        strict=strict,
        dry_run=dry_run,
        shard_index=shard_index,
        num_shards=num_shards,
        scheduler=scheduler,
        extractor_options=options,
    )
    return carry_out(resolve(options_given, Workspace.at(home)))


def carry_out(request: ExtractionRequest) -> ExtractionReport:
    """Load the models of a request, plan what is missing, and fill the stores.

    Raises:
        FeatcacheError: as :func:`extract`.
    """
    asked = request.options
    compare_audio(request.place, request.wanted, [store.folder.name for store in request.stores], request.workers)
    log.info("loading %s", asked.encoder)
    extractors = [
        create_extractor(store.recipe.model, device=request.device, **dict(store.recipe.options))
        for store in request.stores
    ]
    with ExitStack() as stack:
        client = None
        if asked.scheduler is not None and not asked.dry_run:
            client = stack.enter_context(connected(asked.scheduler))
        folders = [store.folder for store in request.stores]
        unwritable = None if asked.dry_run else lock_if_writable(stack, folders, request.part)
        work = _plan(request, extractors)
        if asked.dry_run or unwritable is not None:
            if unwritable is not None and not work.is_done:
                raise unwritable
            unreadable = failures_of(work.plan.unreadable, work.jobs[0].name, request.wanted)
            work.jobs[0].failures.update(unreadable)
            return work.report(work.plan.items)
        return _fill(work, client)


@dataclass(frozen=True, kw_only=True)
class _Work:
    """A request, and what it takes to carry it out.

    Attributes:
        jobs: The stores, with their extractors and writers.
        source: What the extractors read.
        plan: Which utterances are missing.
        batch_length: Length of a batch, in seconds of audio or tokens.
    """

    request: ExtractionRequest
    jobs: Sequence[StoreJob]
    source: Input
    plan: ExtractionPlan
    batch_length: float

    @property
    def is_done(self) -> bool:
        """Whether all stores are finished, so that nothing is written."""
        return not self.plan.items and all(read_catalogue(job.writer.folder).complete for job in self.jobs)

    def report(
        self, done: Sequence[PlannedUtterance], *, interrupted: bool = False, seconds: float = 0.0
    ) -> ExtractionReport:
        """Return what was done or, of a dry run, would be."""
        length = sum(item.length for item in done)
        reads_text = any(job.extractor.tokenise for job in self.jobs)
        return ExtractionReport(
            cache=self.request.place.cache,
            stores=tuple(job.name for job in self.jobs),
            num_utterances=len(self.request.wanted),
            num_extracted=len(done),
            planned_bytes=self.plan.bytes,
            audio_seconds=0.0 if reads_text else length,
            num_tokens=int(length) if reads_text else 0,
            seconds=seconds,
            interrupted=interrupted,
            failures=tuple(failure for job in self.jobs for failure in job.failures.values()),
            ends_early=tuple(self.plan.ends_early),
        )


def _plan(request: ExtractionRequest, extractors: Sequence[Extractor]) -> _Work:
    """Find out what is missing and how large it will be, and refuse what fits neither disk nor memory."""
    asked = request.options
    jobs = [
        _store_job(store, extractor, asked.store, request.part)
        for store, extractor in zip(request.stores, extractors, strict=True)
    ]
    source = input_of(extractors[0], request.place.root)
    plan = make_plan(jobs, source, request.readable, request.workers)
    tell_size(plan, jobs, source, request.place.cache)
    batch_length = source.batch_length(request.device) if asked.batch_seconds is None else asked.batch_seconds
    elsewhere = asked.scheduler is not None
    check_memory(plan, jobs, workers=request.workers, batch_length=batch_length, elsewhere=elsewhere)
    return _Work(request=request, jobs=jobs, source=source, plan=plan, batch_length=batch_length)


def _store_job(
    store: RequestedStore, extractor: Extractor, asked: StorageDtype | None, part: tuple[int, int]
) -> StoreJob:
    description = extractor.description
    dtype = "float32" if store.pool or description.dataset == "frames" else asked or "float16"
    writer = StoreWriter(store.folder, description, dtype, pool=store.pool, part=part)
    return StoreJob(store.folder.name, extractor, writer)


def _fill(work: _Work, client: "Client | None") -> ExtractionReport:
    """Compute and write what is missing, here or on a cluster."""
    request, asked, jobs, plan = work.request, work.request.options, work.jobs, work.plan
    _begin(work)
    jobs[0].failures.update(_untranscribed(request))
    start = time.perf_counter()
    run: ExtractionRun | ClusterRun
    if client is not None:
        recipes = {store.folder.name: store.recipe for store in request.stores}
        run = ClusterRun(
            client, jobs, recipes, work.source, plan, batch_length=asked.batch_seconds, strict=asked.strict
        )
    else:
        run = ExtractionRun(
            jobs, work.source, plan, workers=request.workers, batch_length=work.batch_length, strict=asked.strict
        )
    with one_thread_each():
        interrupted = run.to_the_end()
    _finish(work)
    return work.report(_written(plan, run.extracted), interrupted=interrupted, seconds=time.perf_counter() - start)


def _written(plan: ExtractionPlan, extracted: Collection[str]) -> list[PlannedUtterance]:
    return [item for item in plan.items if item.utterance.utterance_id in extracted]


def _begin(work: _Work) -> None:
    """Keep the manifest, and have the stores that lack something say what they are asked for."""
    place = work.request.place
    if place.files is not None:
        keep_manifest(place.cache, place.files)
    ids = [utterance.utterance_id for utterance in work.request.requested]
    for job in work.jobs:
        job.writer.begin(ids, num_in_corpus=len(place.manifest), write=bool(job.todo))


def _untranscribed(request: ExtractionRequest) -> dict[str, Failure]:
    """Return the failures of utterances that a machine has no transcript of, be it an empty one."""
    readable = {utterance.utterance_id for utterance in request.readable}
    store = request.stores[0].folder.name
    reason = f"the transcripts {request.options.transcripts!r} lack it"
    return {
        u.utterance_id: Failure(store=store, utterance_id=u.utterance_id, path=u.path, reason=reason)
        for u in request.wanted
        if u.utterance_id not in readable
    }


def _finish(work: _Work) -> None:
    """List what failed, write the indexes, and refuse to have extracted nothing at all."""
    request, jobs = work.request, work.jobs
    tried = {utterance.utterance_id for utterance in request.wanted}
    ids = [utterance.utterance_id for utterance in request.requested]
    for job in jobs:
        with finishing(job.writer.folder):
            failed = write_failures(job.writer.folder, list(job.failures.values()), tried)
            job.writer.finish(ids, failed=failed, num_in_corpus=len(request.place.manifest))
    failures = [failure for job in jobs for failure in job.failures.values()]
    if failures and not any(job.writer.entries() for job in jobs):
        first = failures[0]
        raise AudioError(
            f"none of the {len(tried)} utterances could be extracted; {first.utterance_id!r}: {first.reason}"
        )
