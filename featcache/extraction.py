"""Manifest × extractors → cache. The one place where a model meets the cache.

What is to be done is planned first: utterances that are stored already are left out, the rest is cut, in the
manifest's order, into groups that make a shard each. Threads take the utterances of a group through decoding,
resampling and every extractor, while finished groups are written: each file is read once, whatever it feeds.
"""

import csv
import io
import json
import logging
import os
import shutil
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from featcache import audio
from featcache.cache.layout import settings_of
from featcache.cache.shards import read_catalogue, shard_numbers
from featcache.cache.statistics import of_frames
from featcache.cache.writer import Record, StoreWriter, encode
from featcache.corpora import CorpusFiles, read_corpus
from featcache.errors import AudioError, CorpusError, FeatureError, StoreError, listed
from featcache.extractors import DESCRIPTORS, create_extractor, store_name
from featcache.extractors.base import Extractor, Features, signal_for
from featcache.files import remove_unfinished, replace_file, sha256_of_file
from featcache.manifest import Manifest, Utterance
from featcache.progress import progress
from featcache.threads import available_cores, one_thread_each
from featcache.workspace import Workspace

log = logging.getLogger(__name__)

StorageDtype = Literal["float16", "float32"]

# A shard is what a crash may cost: half a minute of a base model's work on two cores.
SHARD_BYTES = 128 * 2**20
SHARD_UTTERANCES = 256
# Batches that are under way for each worker, so that writing a shard does not leave them idle.
BATCHES_AHEAD = 4


@dataclass(frozen=True, kw_only=True)
class Failure:
    """An utterance that a store lacks, and why."""

    store: str
    utterance_id: str
    path: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class ExtractionReport:
    """What an extraction did or, with ``dry_run``, would do.

    Attributes:
        cache: The corpus's folder of stores.
        stores: The names of the stores that were filled.
        num_utterances: How many were asked for.
        num_extracted: How many were computed now, for at least one store; the others were there.
        planned_bytes: What was to be written, as told at the start.
        audio_seconds: Length of the audio that was computed now.
        seconds: Time that took.
        interrupted: Whether Ctrl-C ended it early.
        failures: What could not be extracted.
    """

    cache: Path
    stores: tuple[str, ...]
    num_utterances: int
    num_extracted: int
    planned_bytes: int
    audio_seconds: float
    seconds: float
    interrupted: bool
    failures: tuple[Failure, ...]


def extract(
    *,
    model: str = "wav2vec2-base",
    corpus: str | None = None,
    data: str | os.PathLike[str] | None = None,
    egemaps: bool = True,
    name: str | None = None,
    store: StorageDtype | None = None,
    limit: int | None = None,
    device: str = "cpu",
    workers: int | None = None,
    batch_seconds: float | None = None,
    strict: bool = False,
    dry_run: bool = False,
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
        store: ``float16`` (the default for models) or ``float32`` (always used for descriptors).
        limit: Take only so many utterances, drawn from the whole corpus and always the same.
        device: As torch names it; ``auto`` is the first GPU, or the processor.
        workers: Threads; by default one per core.
        batch_seconds: Seconds of audio, padding included, that go through the model together. By default one
            utterance at a time on a processor, where padding costs time, and 120 s on a GPU. Changes no number.
        strict: Stop at the first utterance that fails.
        dry_run: Plan and tell, but compute and write nothing.
        home: Where everything lives; by default ``$FEATCACHE_HOME``, or ``data``.
        options: Fields of the extractor's configuration: ``weights``, ``revision``, ``layers``, ``do_normalize``
            of :class:`~featcache.extractors.ssl.SSLConfig`; ``window``, ``hop``, ``n_fft``, … of the others.

    Raises:
        FeatcacheError: no or several corpora; an unknown model; a store with other settings, or in use by another
            process; too little disk space; with ``strict``, an utterance that fails. Everything written before is kept.
    """
    workspace = Workspace.at(home)
    corpus_name, folder = workspace.find_corpus(corpus, None if data is None else Path(data))
    files = read_corpus(folder)
    if files.ignored:
        log.warning(
            "%d audio files are not part of the corpus and are left out: %s", len(files.ignored), listed(files.ignored)
        )
    cache = workspace.cache(corpus_name)
    wanted = _limited(list(files.manifest), limit)
    device = _resolve_device(device)
    log.info("loading %s", model)
    models = {name or store_name(model): create_extractor(model, device=device, **options)}
    if egemaps and model not in DESCRIPTORS:
        models.setdefault("egemaps", create_extractor("egemaps", **_settings_in_use(cache / "egemaps")))
    workers = workers or available_cores()
    if batch_seconds is None:
        batch_seconds = 0.0 if device == "cpu" else 120.0

    with ExitStack() as stack:
        if not dry_run:
            for store_folder in models:
                stack.enter_context(_locked(cache / store_folder))
        targets = [
            _Target(key, extractor, StoreWriter(cache / key, extractor.description, _storage_dtype(extractor, store)))
            for key, extractor in models.items()
        ]
        plan = _plan(targets, files.root, wanted, workers)
        _tell_size(plan, targets, cache)
        if dry_run:
            return _report(cache, targets, plan, plan.items, wanted, interrupted=False, seconds=0.0)
        _keep_manifest(cache, files)
        start = time.perf_counter()
        run = _Run(targets, files.root, plan, workers=workers, batch_seconds=batch_seconds, strict=strict)
        stack.enter_context(one_thread_each())
        interrupted = run.to_the_end()
        for target in targets:
            target.writer.finish(complete=not interrupted, num_requested=len(wanted))
            _write_failures(target, {utterance.utterance_id for utterance in wanted})
        done = [item for item in plan.items if item.utterance.utterance_id in run.extracted]
        seconds = time.perf_counter() - start
        report = _report(cache, targets, plan, done, wanted, interrupted=interrupted, seconds=seconds)
    if report.failures and not any(target.writer.entries() for target in targets):
        first = report.failures[0]
        raise AudioError(
            f"none of the {len(wanted)} utterances could be extracted; {first.utterance_id!r}: {first.reason}"
        )
    return report


def summarise_report(report: ExtractionReport) -> str:
    """An extraction in a few lines for the terminal."""
    lines = []
    if not (report.num_extracted or report.failures or report.interrupted):
        lines.append(f"nothing to do: all {report.num_utterances} utterances are there")
    else:
        rate = report.audio_seconds / max(report.seconds, 1e-9)
        lines.append(
            f"{report.num_extracted} of {report.num_utterances} utterances extracted, {report.audio_seconds:.0f} s of "
            f"audio in {report.seconds:.0f} s ({rate:.1f} x real time)"
        )
    failed = {failure.utterance_id for failure in report.failures}
    if failed:
        first = report.failures[0]
        lines.append(f"{len(failed)} failed, listed in failures.csv; first: {first.utterance_id!r}: {first.reason}")
    if report.interrupted:
        lines.append("stopped before the end; the same command goes on from here")
    lines += [str(report.cache / name) for name in report.stores]
    return "\n".join(lines)


@dataclass
class _Target:
    """A store that is being filled."""

    name: str
    extractor: Extractor
    writer: StoreWriter
    todo: set[str] = field(default_factory=set)
    failures: dict[str, Failure] = field(default_factory=dict)

    def bytes_for(self, num_samples: int, sampling_rate: int) -> int:
        """What an utterance will take on disk, its statistics included."""
        description = self.extractor.description
        rate = description.sampling_rate or sampling_rate
        num_samples = audio.kept_samples(num_samples, sampling_rate, description.max_seconds)
        frames = self.extractor.num_frames(audio.resampled_length(num_samples, sampling_rate, rate), rate)
        values = len(description.layer_names) * description.hidden_size
        return values * (frames * np.dtype(self.writer.storage_dtype).itemsize + 3 * 4)


@dataclass(frozen=True, kw_only=True)
class _Item:
    """An utterance that some stores lack."""

    utterance: Utterance
    seconds: float
    bytes: int


@dataclass(frozen=True, kw_only=True)
class _Plan:
    items: list[_Item]
    bytes: int
    seconds: float


@dataclass
class _Outcome:
    """What became of one utterance: a record or a reason for each store that wanted it."""

    item: _Item
    records: dict[str, Record] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)


def _plan(targets: Sequence[_Target], root: Path, wanted: Sequence[Utterance], workers: int) -> _Plan:
    """Find out what is missing, changed or unreadable, from headers and checksums alone."""
    stored = {target.name: target.writer.entries() for target in targets}
    kept = [u for u in wanted if any(u.utterance_id in entries for entries in stored.values())]
    with ThreadPoolExecutor(workers) as pool:
        paths = sorted({utterance.path for utterance in kept})
        checksums = dict(zip(paths, pool.map(lambda path: _checksum(root / path), paths), strict=True))
        changed = 0
        for target in targets:
            for utterance in wanted:
                entry = stored[target.name].get(utterance.utterance_id)
                if entry is None:
                    target.todo.add(utterance.utterance_id)
                elif not _is_same(entry, utterance, checksums[utterance.path]):
                    target.todo.add(utterance.utterance_id)
                    changed += 1
        if changed:
            log.warning("audio changed since it was extracted: %d stored utterances are extracted again", changed)
        todo = [u for u in wanted if any(u.utterance_id in target.todo for target in targets)]
        headers = list(pool.map(lambda utterance: _probe(root, utterance), todo))
    items = []
    for utterance, header in zip(todo, headers, strict=True):
        num_samples, rate = header
        size = sum(t.bytes_for(num_samples, rate) for t in targets if utterance.utterance_id in t.todo and num_samples)
        items.append(_Item(utterance=utterance, seconds=num_samples / rate, bytes=size))
    return _Plan(items=items, bytes=sum(i.bytes for i in items), seconds=sum(i.seconds for i in items))


class _Run:
    """Carries out a plan; ``extracted`` grows by the ids of what is written."""

    def __init__(
        self,
        targets: Sequence[_Target],
        root: Path,
        plan: _Plan,
        *,
        workers: int,
        batch_seconds: float,
        strict: bool,
    ) -> None:
        self._targets = targets
        self._root = root
        self._plan = plan
        self._workers = workers
        self._batch_seconds = batch_seconds
        self._strict = strict
        self.extracted: set[str] = set()

    def to_the_end(self) -> bool:
        """Compute and write group by group; true when Ctrl-C ended it early."""
        if not self._plan.items:
            return False
        done: list[_Outcome] = []
        pending: deque[tuple[Future[list[_Outcome]], bool]] = deque()
        batches = self._batches()
        title = " + ".join(target.name for target in self._targets)
        with (
            ThreadPoolExecutor(self._workers, thread_name_prefix="extract") as pool,
            progress(title, self._plan.seconds, rate=lambda done, took: f"{done / took:.1f} x real time") as advance,
        ):
            try:
                while True:
                    while len(pending) < BATCHES_AHEAD * self._workers and (batch := next(batches, None)):
                        pending.append((pool.submit(self._process, batch[0]), batch[1]))
                    if not pending:
                        return False
                    future, last_of_group = pending[0]
                    outcomes = future.result()
                    pending.popleft()
                    done += outcomes
                    advance(sum(outcome.item.seconds for outcome in outcomes))
                    if last_of_group or (self._strict and any(outcome.reasons for outcome in outcomes)):
                        self._write(done)
                        done = []
            except KeyboardInterrupt:
                log.warning("stopping: what is under way is finished and written first")
                for future, _ in pending:
                    if not future.cancel():
                        done += future.result()
                self._write(done)
                return True
            except BaseException:
                for future, _ in pending:
                    future.cancel()
                raise

    def _batches(self) -> Iterator[tuple[list[_Item], bool]]:
        """What goes through the extractors together, and whether it is the last of its group."""
        for group in _groups(self._plan.items):
            batches = list(_pack(group, self._batch_seconds))
            for number, batch in enumerate(batches, start=1):
                yield batch, number == len(batches)

    def _process(self, items: Sequence[_Item]) -> list[_Outcome]:
        outcomes = [_Outcome(item=item) for item in items]
        recordings = {}
        for outcome in outcomes:
            utterance = outcome.item.utterance
            try:
                recordings[utterance.utterance_id] = audio.read(self._root, utterance)
            except AudioError as error:
                outcome.reasons = {t.name: str(error) for t in self._targets if utterance.utterance_id in t.todo}
        for target in self._targets:
            todo = [
                (outcome, recordings[outcome.item.utterance.utterance_id])
                for outcome in outcomes
                if outcome.item.utterance.utterance_id in target.todo & recordings.keys()
            ]
            if not todo:
                continue
            for (outcome, recording), features in zip(todo, _extract(target, [r for _, r in todo]), strict=True):
                try:
                    if isinstance(features, AudioError):
                        raise features
                    outcome.records[target.name] = _record(target, outcome.item.utterance, recording, features)
                except (AudioError, FeatureError) as error:
                    outcome.reasons[target.name] = str(error)
        return outcomes

    def _write(self, outcomes: Sequence[_Outcome]) -> None:
        position = {item.utterance.utterance_id: number for number, item in enumerate(self._plan.items)}
        outcomes = sorted(outcomes, key=lambda outcome: position[outcome.item.utterance.utterance_id])
        for target in self._targets:
            target.writer.write_shard([o.records[target.name] for o in outcomes if target.name in o.records])
            for outcome in outcomes:
                utterance = outcome.item.utterance
                if target.name in outcome.reasons:
                    target.failures[utterance.utterance_id] = Failure(
                        store=target.name,
                        utterance_id=utterance.utterance_id,
                        path=utterance.path,
                        reason=outcome.reasons[target.name],
                    )
        self.extracted |= {outcome.item.utterance.utterance_id for outcome in outcomes if outcome.records}
        failures = [failure for target in self._targets for failure in target.failures.values()]
        if self._strict and failures:
            raise AudioError(f"utterance {failures[0].utterance_id!r}: {failures[0].reason} (stopped by --strict)")


def _extract(target: _Target, recordings: Sequence[audio.Recording]) -> list[Features | AudioError]:
    description = target.extractor.description
    signals = [signal_for(description, recording) for recording in recordings]
    try:
        return list(target.extractor.extract(signals))
    except AudioError as error:
        if len(recordings) == 1:
            return [error]
        return [result for recording in recordings for result in _extract(target, [recording])]


def _record(target: _Target, utterance: Utterance, recording: audio.Recording, features: Features) -> Record:
    return Record(
        utterance_id=utterance.utterance_id,
        features=encode(features, target.writer.storage_dtype, target.extractor.description.layer_names),
        statistics=of_frames(features),
        duration=recording.duration,
        audio_sha256=recording.sha256,
        start=utterance.start,
        end=utterance.end,
    )


def _groups(items: Iterable[_Item]) -> Iterator[list[_Item]]:
    """Cut a plan into what makes a shard each."""
    group: list[_Item] = []
    size = 0
    for item in items:
        if group and (size + item.bytes > SHARD_BYTES or len(group) == SHARD_UTTERANCES):
            yield group
            group, size = [], 0
        group.append(item)
        size += item.bytes
    if group:
        yield group


def _pack(group: Sequence[_Item], batch_seconds: float) -> Iterator[list[_Item]]:
    """Utterances of like length together, as many as fit when all are padded to the longest."""
    batch: list[_Item] = []
    for item in sorted(group, key=lambda item: item.seconds) if batch_seconds else group:
        if batch and item.seconds * (len(batch) + 1) > batch_seconds:
            yield batch
            batch = []
        batch.append(item)
    if batch:
        yield batch


def _limited(utterances: list[Utterance], limit: int | None) -> list[Utterance]:
    if limit is None or limit >= len(utterances):
        return utterances
    # the first of a fixed shuffling: a larger limit keeps all that a smaller one took
    chosen = np.random.default_rng(0).permutation(len(utterances))[:limit]
    return [utterances[number] for number in sorted(chosen)]


def _storage_dtype(extractor: Extractor, asked: StorageDtype | None) -> StorageDtype:
    if extractor.description.dataset == "frames":
        return "float32"
    return asked or "float16"


def _resolve_device(device: str) -> str:
    if device != "auto":
        return device
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _settings_in_use(folder: Path) -> dict[str, Any]:
    """How an eGeMAPS store that is there was made, so that it is carried on in the same way."""
    if not shard_numbers(folder):
        return {}
    settings = settings_of(read_catalogue(folder).attributes)
    return {name: settings.get(name) for name in ("sampling_rate", "channel")}


def _is_same(entry: Any, utterance: Utterance, checksum: str | None) -> bool:
    times = [np.nan if seconds is None else seconds for seconds in (utterance.start, utterance.end)]
    same_stretch = np.array_equal([entry["start"], entry["end"]], times, equal_nan=True)
    # audio that has gone away since leaves what was extracted from it valid
    return same_stretch and checksum in (None, entry["audio_sha256"])


def _checksum(path: Path) -> str | None:
    try:
        return sha256_of_file(path)
    except OSError:
        return None


def _probe(root: Path, utterance: Utterance) -> tuple[int, int]:
    try:
        return audio.probe(root, utterance)
    except AudioError:  # told, with its reason, when its turn comes
        return 0, 1


def _keep_manifest(cache: Path, files: CorpusFiles) -> None:
    path = cache / "manifest.csv"
    if path.exists() and not set(Manifest.read(path).utterance_ids) & set(files.manifest.utterance_ids):
        raise CorpusError(
            f"{cache} is the cache of another corpus: it has none of the utterances of {files.root}; "
            "give this one another name with --corpus"
        )
    files.manifest.write(cache / "manifest.csv")
    replace_file(cache / "corpus.json", json.dumps({"corpus": files.corpus.name}).encode())


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    import filelock

    folder.mkdir(parents=True, exist_ok=True)
    try:
        with filelock.FileLock(folder / ".lock", timeout=0):
            remove_unfinished(folder)
            yield
    except filelock.Timeout:
        raise StoreError(f"{folder} is being written by another process; wait for it to end") from None


def _tell_size(plan: _Plan, targets: Sequence[_Target], cache: Path) -> None:
    """Say what will be written and what will be cut, and refuse what does not fit."""
    for target in targets:
        most = target.extractor.description.max_seconds
        cut = sum(most is not None and item.seconds > most for item in plan.items)
        if cut:
            log.warning("%s: of %d utterances only the first %g s are used", target.name, cut, most)
        log.info("%s: %d utterances to extract, %d there", target.name, len(target.todo), len(target.writer.entries()))
    if not plan.items:
        return
    existing = next(folder for folder in (cache, *cache.resolve().parents) if folder.is_dir())
    free = shutil.disk_usage(existing).free
    log.info(
        "%.0f s of audio will take %s on disk (%s free)", plan.seconds, format_bytes(plan.bytes), format_bytes(free)
    )
    if plan.bytes > free:
        raise StoreError(
            f"{format_bytes(plan.bytes)} will be needed under {cache} and {format_bytes(free)} are free; "
            "make room, or store fewer layers with --layers"
        )


def format_bytes(size: float) -> str:
    """A size for people to read, in units of 1000."""
    if size < 1000:
        return f"{size:.0f} bytes"
    for unit in ("kB", "MB", "GB"):
        size /= 1000
        if size < 1000:
            return f"{size:.1f} {unit}"
    return f"{size / 1000:.1f} TB"


def _write_failures(target: _Target, wanted: set[str]) -> None:
    """List what the store lacks; what an earlier call wanted and this one did not is kept in the list."""
    path = target.writer.folder / "failures.csv"
    rows = [[failure.utterance_id, failure.path, failure.reason] for failure in target.failures.values()]
    if path.exists():
        with open(path, newline="", encoding="utf-8") as file:
            rows += [row for row in list(csv.reader(file))[1:] if row and row[0] not in wanted]
    if not rows:
        path.unlink(missing_ok=True)
        return
    text = io.StringIO(newline="")
    table = csv.writer(text, lineterminator="\n")
    table.writerows([["utterance_id", "path", "reason"], *rows])
    replace_file(path, text.getvalue().encode())


def _report(
    cache: Path,
    targets: Sequence[_Target],
    plan: _Plan,
    done: Sequence[_Item],
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
