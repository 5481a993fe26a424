"""Request × models → filled stores. The only module in which a model meets the cache.

First, the missing utterances are planned and divided, in the order of the manifest, into groups of one shard each.
Threads decode and resample the utterances of a group and compute all extractors, while finished groups are written.
Each utterance is decoded once for all stores and views. A text encoder reads the transcripts, and no audio is decoded.
Utterances that are computed in windows are decoded for each store, window by window, and spooled to disk.
"""

import logging
import os
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from featcache.audio.known_files import KNOWN_FILES
from featcache.cache.failures import Failure, write_failures
from featcache.cache.layout import StorageDtype
from featcache.cache.locks import finishing, lock_if_writable
from featcache.cache.shards import read_catalogue
from featcache.cache.tuned_store import write_tested
from featcache.cache.writer import StoreWriter
from featcache.dask_client import connected
from featcache.errors import AudioError, ModelError
from featcache.extraction.by_model import parts_by_model
from featcache.extraction.dask_submit import ClusterRun
from featcache.extraction.dask_worker import Recipe
from featcache.extraction.inputs import AudioInput, Input, input_of
from featcache.extraction.left_out import count_left_out
from featcache.extraction.locate import compare_audio, keep_manifest
from featcache.extraction.memory import check_memory
from featcache.extraction.plan import ExtractionPlan, PlannedUtterance, StoreJob, make_plan, tell_size
from featcache.extraction.resolve import ExtractionOptions, ExtractionRequest, RequestedStore, resolve
from featcache.extraction.run import ExtractionRun
from featcache.extraction.summary import ExtractionReport, failures_of
from featcache.extractors.base import Extractor
from featcache.registry import naming
from featcache.settings.checked import configured
from featcache.settings.extractions import ExtractorFlags, ExtractSettings, Weights, extractor_options
from featcache.settings.public import documented, without
from featcache.threads import one_thread_each
from featcache.units import counted
from featcache.workspace import Workspace

if TYPE_CHECKING:
    from distributed import Client

log = logging.getLogger(__name__)


@documented("featcache.extract", ExtractSettings, ExtractorFlags, expand=naming("model", "layout", "plugin"))
def extract(
    *,
    model: str | os.PathLike[str] | None = None,
    text: str | os.PathLike[str] | None = None,
    transcripts: str | None = None,
    fold: int | None = None,
    seed: int | None = None,
    set: Mapping[str, Any] | None = None,
    corpus: str | None = None,
    data: str | os.PathLike[str] | None = None,
    layout: str | None = None,
    speaker_from: str | None = None,
    egemaps: bool = True,
    name: str | None = None,
    store: StorageDtype | None = None,
    pool: bool = False,
    augment: str | Sequence[str] = (),
    views: int = 1,
    limit: int | None = None,
    device: str = "auto",
    workers: int | None = None,
    batch_seconds: float | None = None,
    strict: bool = False,
    dry_run: bool = False,
    shard_index: int = 0,
    num_shards: int = 1,
    scheduler: str | None = None,
    plugin: str | Sequence[str] = (),
    weights: Weights | None = None,
    revision: str | None = None,
    num_blocks: int | None = None,
    layers: str | None = None,
    do_normalize: bool | None = None,
    max_seconds: float | None = None,
    chunk_seconds: float | None = None,
    overlap_seconds: float | None = None,
    precision: Literal["float32", "bfloat16", "float16"] | None = None,
    keep_padding: bool | None = None,
    sampling_rate: int | None = None,
    channel: Literal["mean", "first"] | None = None,
    window: str | None = None,
    hop: str | None = None,
    n_fft: int | None = None,
    center: bool | None = None,
    home: str | os.PathLike[str] | None = None,
) -> ExtractionReport:
    """Run a frozen extractor over a corpus and cache its features.

    A second call continues where the first one ended: only missing utterances are computed.

    Args:
        home: Folder of corpora, caches and runs; by default ``$FEATCACHE_HOME``, or ``data``.

    Returns:
        Numbers of requested and extracted utterances, the stores, and the utterances that failed.

    Raises:
        FeatcacheError: no corpus, or several; an unknown model; a store that has other settings or is being written by
            another process; too little disk space or memory; with ``strict``, an utterance that fails; a cluster that
            cannot be reached or whose workers differ. Features that were written before the error are kept.
        TypeError: an unknown option.

    Example:
        >>> report = featcache.extract(model="egemaps", data="path/to/audio", name="descriptors")
        >>> report.num_extracted == report.num_utterances
        True
        >>> cache = featcache.open(report.cache)
        >>> len(cache["descriptors"]) == report.num_utterances
        True
    """
    given = without(locals(), "home", *ExtractorFlags.__dataclass_fields__)
    options = extractor_options(locals(), set or {})
    encoders = {name: None if given[name] is None else os.fspath(given[name]) for name in ("model", "text")}
    asked = configured(ExtractionOptions, {**given, **encoders, "set": options})
    return carry_out(resolve(asked, Workspace.at(home)))


def carry_out(request: ExtractionRequest) -> ExtractionReport:
    """Load the models of a request, plan the missing utterances, and fill the stores.

    Raises:
        FeatcacheError: see :func:`extract`.
    """
    asked = request.options
    files = AudioInput(request.place.root, request.place.cache / KNOWN_FILES)
    compare_audio(
        request.place, request.wanted, [store.folder.name for store in request.stores], request.workers, files
    )
    log.info("loading %s", asked.encoder)
    extractors = _extractors(request)  # before locks, which make folders
    with ExitStack() as stack:
        client = None
        if asked.scheduler is not None and not asked.dry_run:
            client = stack.enter_context(connected(asked.scheduler))
        folders = [store.folder for store in request.stores]
        unwritable = None if asked.dry_run else lock_if_writable(stack, folders, request.part)
        work = _plan(request, extractors, files)
        del extractors  # one fine-tuned model after another must be able to leave memory
        if asked.dry_run or unwritable is not None:
            if unwritable is not None and not work.is_done:
                raise unwritable
            unreadable = failures_of(work.plan.unreadable, work.jobs[0].name, request.wanted)
            work.jobs[0].failures.update(unreadable)
            return work.report(work.plan.items)
        return _fill(work, client)


def _extractors(request: ExtractionRequest) -> list[Extractor]:
    """Create the extractor of each store; the stores of each view have the same extractors in the same order."""
    clean = [store for store in request.stores if store.view is None]
    extractors = [store.recipe.create(request.device) for store in clean]
    return extractors * (len(request.stores) // len(clean))


@dataclass(frozen=True, kw_only=True)
class _Work:
    """Request that is ready to be carried out.

    Attributes:
        request: The request.
        jobs: The stores, with their extractors and writers.
        source: Input of the extractors.
        plan: Missing utterances.
        batch_length: Length of a batch, in seconds of audio or tokens.
    """

    request: ExtractionRequest
    jobs: Sequence[StoreJob]
    source: Input
    plan: ExtractionPlan
    batch_length: float

    @property
    def is_done(self) -> bool:
        """Whether all stores are finished, so that nothing has to be written."""
        return not self.plan.items and all(read_catalogue(job.writer.folder).complete for job in self.jobs)

    def report(
        self, done: Sequence[PlannedUtterance], *, interrupted: bool = False, seconds: float = 0.0
    ) -> ExtractionReport:
        """Return the report on the extracted utterances or, for a dry run, on the planned ones."""
        failures = tuple(failure for job in self.jobs for failure in job.failures.values())
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
            failures=failures,
            ends_early=tuple(self.plan.ends_early),
            num_unlabelled=sum(not utterance.has_label for utterance in self.request.wanted),
            left_out=count_left_out(self.request, failures),
        )


def _plan(request: ExtractionRequest, extractors: Sequence[Extractor], files: AudioInput) -> _Work:
    """Plan the missing utterances, and check that they fit on the disk and in memory."""
    asked = request.options
    jobs = [
        _store_job(store, extractor, asked.store, request.part)
        for store, extractor in zip(request.stores, extractors, strict=True)
    ]
    source = input_of(extractors[0], request.place.root, files)
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
    if store.pool and description.padded_frames is not None:
        raise ModelError("--keep-padding and --pool exclude each other: statistics have no padding; omit one of them")
    dtype = "float32" if store.pool or description.dataset == "frames" else asked or "float16"
    if store.view is not None:
        description = store.view.described(description)
    writer = StoreWriter(store.folder, description, dtype, pool=store.pool, part=part)
    return StoreJob(store.folder.name, extractor, writer, view=store.view)


def _fill(work: _Work, client: "Client | None") -> ExtractionReport:
    """Compute and write the missing utterances, here or on a cluster."""
    request, jobs, plan = work.request, work.jobs, work.plan
    _begin(work)
    jobs[0].failures.update(_untranscribed(request))
    start = time.perf_counter()
    interrupted, extracted = False, set[str]()
    with one_thread_each():
        for part, recipes in parts_by_model(request, jobs, plan, create=client is None):
            run = _run_of(work, part, recipes, client)
            interrupted = run.to_the_end()
            extracted |= run.extracted
            if interrupted:
                break
    _finish(work)
    return work.report(_written(plan, extracted), interrupted=interrupted, seconds=time.perf_counter() - start)


def _run_of(
    work: _Work, plan: ExtractionPlan, recipes: Mapping[str, Recipe], client: "Client | None"
) -> ExtractionRun | ClusterRun:
    asked, jobs = work.request.options, work.jobs
    if client is not None:
        return ClusterRun(
            client, jobs, recipes, work.source, plan, batch_length=asked.batch_seconds, strict=asked.strict
        )
    return ExtractionRun(
        jobs, work.source, plan, workers=work.request.workers, batch_length=work.batch_length, strict=asked.strict
    )


def _written(plan: ExtractionPlan, extracted: Collection[str]) -> list[PlannedUtterance]:
    return [item for item in plan.items if item.utterance.utterance_id in extracted]


def _begin(work: _Work) -> None:
    """Write the manifest, and the request of each store in which utterances are missing."""
    place = work.request.place
    if place.files is not None:
        keep_manifest(place.cache, place.files)
    ids = [utterance.utterance_id for utterance in work.request.requested]
    tuned = work.request.tuned
    work.source.remember()
    for job, store in zip(work.jobs, work.request.stores, strict=True):
        if tuned is not None and tuned.tested is not None and store.recipe.is_tuned:
            write_tested(job.writer.folder, tuned.tested)
            if len(audio := tuned.known_audio()):
                audio.write(job.writer.folder)
        job.writer.begin(ids, num_in_corpus=len(place.manifest), write=bool(job.todo))


def _untranscribed(request: ExtractionRequest) -> dict[str, Failure]:
    """Return the failures of utterances without an ASR transcript; an empty transcript is no failure."""
    readable = {utterance.utterance_id for utterance in request.readable}
    store = request.stores[0].folder.name
    reason = f"it is missing in the transcripts {request.options.transcripts!r}"
    return {
        u.utterance_id: Failure(store=store, utterance_id=u.utterance_id, path=u.path, reason=reason)
        for u in request.wanted
        if u.utterance_id not in readable
    }


def _finish(work: _Work) -> None:
    """Write the failures and the indexes.

    Raises:
        AudioError: no utterance could be extracted.
    """
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
            f"none of {counted(len(tried), 'utterance')} could be extracted; {first.utterance_id!r}: {first.reason}"
        )
