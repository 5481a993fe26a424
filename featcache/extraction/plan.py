"""Manifest × stores → plan: missing utterances, their size on disk, and their division into shards and batches."""

import heapq
import logging
import math
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from featcache import audio
from featcache.augmentation.augmented_view import AugmentedView
from featcache.cache.failures import Failure
from featcache.cache.kept_padding import SCALE
from featcache.cache.layout import statistics_of
from featcache.cache.spool import bytes_on_disk, spool_dtype
from featcache.cache.writer import StoreWriter
from featcache.errors import StoreError, listed
from featcache.extraction.inputs import ENDS_EARLY, Input
from featcache.extractors.base import Extractor
from featcache.extractors.families import FAMILIES
from featcache.files.regular import resolved
from featcache.manifest import Utterance
from featcache.terminal.progress import map_in_threads, tracked
from featcache.threads import available_cores
from featcache.units import counted, format_bytes

log = logging.getLogger(__name__)

# A crash loses at most one shard: half a minute of computation by a base model on two cores.
SHARD_BYTES = 128 * 2**20
SHARD_UTTERANCES = 256
# Bytes of an utterance in the tables of shard and index, HDF5's overhead included, as measured in full shards.
ROW_BYTES = 470


@dataclass
class StoreJob:
    """Store that is being filled.

    Attributes:
        name: Name of the store.
        extractor: Its extractor.
        writer: Its writer.
        todo: Ids of the requested utterances that are missing in it.
        cached: Number of requested utterances in it.
        others: Number of utterances in it that are not requested now.
        failures: Utterance id → failure.
        number: Number of the shard to write, if it was assigned beforehand.
        view: Augmentation of the speech; None for the speech as it is.
    """

    name: str
    extractor: Extractor
    writer: StoreWriter
    todo: set[str] = field(default_factory=set)
    cached: int = 0
    others: int = 0
    failures: dict[str, Failure] = field(default_factory=dict)
    number: int | None = None
    view: AugmentedView | None = None

    @property
    def longest(self) -> float:
        """Largest ratio of the duration of an utterance that is computed and its duration in the file."""
        return 1.0 if self.view is None else self.view.longest

    def duration(self, utterance_id: str, seconds: float) -> float:
        """Return the duration of an utterance after augmentation, in seconds."""
        return seconds if self.view is None else self.view.duration_of(utterance_id, seconds)

    def in_windows(self, seconds: float) -> bool:
        """Return whether an utterance of this duration is computed in windows."""
        return self.extractor.description.in_windows(seconds * self.longest)

    def shape(self, num_samples: int, sampling_rate: int) -> tuple[int, int, int]:
        """Return the shape of the features of a resampled signal, (num_layers, num_frames, hidden_size)."""
        description = self.extractor.description
        num_frames = self.extractor.num_frames(num_samples, sampling_rate)
        return len(description.layer_names), num_frames, description.hidden_size

    @property
    def padded_bytes(self) -> int | None:
        """Size of the frames of an utterance with its padding, in bytes; None if the padding is not kept."""
        description = self.extractor.description
        if description.padded_frames is None:
            return None
        values = len(description.layer_names) * description.padded_frames * description.hidden_size
        return values * np.dtype(self.writer.storage_dtype).itemsize

    def size_of(self, num_samples: int, sampling_rate: int) -> "Size":
        """Return the disk space of an utterance, including its statistics.

        Args:
            num_samples: Number of samples in the file, or of tokens.
            sampling_rate: Sampling rate of the file in Hz; 1 for tokens.
        """
        description = self.extractor.description
        rate = description.sampling_rate or sampling_rate
        longest = math.ceil(num_samples * self.longest)
        used = audio.kept_samples(longest, sampling_rate, description.max_seconds)
        shape = self.shape(audio.resampled_length(used, sampling_rate, rate), rate)
        if description.padded_frames is not None:
            shape = shape[0], description.padded_frames, shape[2]
        storage_dtype = self.writer.storage_dtype
        statistics = len(statistics_of(storage_dtype))
        if storage_dtype == "int8" and description.padded_frames is not None:
            statistics += len(SCALE)
        stored = ROW_BYTES + shape[0] * shape[2] * statistics * np.dtype(np.float32).itemsize
        if self.writer.pool:
            return Size(stored=stored)
        stored += math.prod(shape) * np.dtype(storage_dtype).itemsize
        if not self.in_windows(num_samples / sampling_rate):
            return Size(stored=stored)
        return Size(stored=stored, spooled=bytes_on_disk(shape, spool_dtype(storage_dtype)))


@dataclass(frozen=True, kw_only=True)
class Size:
    """Disk space of an utterance.

    Attributes:
        stored: Size in the store, in bytes.
        spooled: Additional size while it is computed, in bytes.
    """

    stored: int = 0
    spooled: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedUtterance:
    """Utterance that is missing in at least one store.

    Attributes:
        utterance: The utterance.
        length: Length in seconds or tokens.
        bytes: Size in all stores in which it is missing, in bytes.
        spooled: Additional size while it is computed, in bytes.
    """

    utterance: Utterance
    length: float
    bytes: int
    spooled: int = 0


@dataclass(frozen=True, kw_only=True)
class ExtractionPlan:
    """Utterances to compute, and their size.

    Attributes:
        items: Missing utterances, in the order of the manifest.
        bytes: Total size in the stores, in bytes.
        spooled: Largest additional size of long utterances while they are computed, in bytes.
        length: Total length in seconds or tokens.
        unreadable: Utterance id → reason why it cannot be read.
        ends_early: Ids of the utterances whose files have no end.
        rates: Sampling rate of files in Hz → number of utterances, if a store keeps the rates of the files.
    """

    items: list[PlannedUtterance]
    bytes: int
    spooled: int
    length: float
    unreadable: Mapping[str, str] = field(default_factory=dict)
    ends_early: Sequence[str] = ()
    rates: Mapping[int, int] = field(default_factory=dict)


def make_plan(targets: Sequence[StoreJob], source: Input, wanted: Sequence[Utterance], workers: int) -> ExtractionPlan:
    """Find missing, changed and unreadable utterances, using only headers and checksums.

    Args:
        targets: The stores; their ``todo``, ``cached`` and ``others`` are set.
        source: Input of the extractors.
        wanted: Requested utterances.
        workers: Number of threads.
    """
    stored = {target.name: target.writer.entries() for target in targets}
    there = set[str]().union(*stored.values())
    kept = [utterance for utterance in wanted if utterance.utterance_id in there]
    checksums = map_in_threads(
        source.checksum, sorted({source.key(utterance) for utterance in kept}), workers, "comparing checksums"
    )
    changed = 0
    for target in targets:
        for utterance in tracked(f"comparing with {target.name}", wanted):
            entry = stored[target.name].get(utterance.utterance_id)
            if entry is None:
                target.todo.add(utterance.utterance_id)
            elif not is_same(entry, utterance, checksums[source.key(utterance)]):
                target.todo.add(utterance.utterance_id)
                changed += 1
    ids = {utterance.utterance_id for utterance in wanted}
    for target in targets:
        held = stored[target.name].keys()
        target.cached, target.others = len(held & ids - target.todo), len(held - ids)
    if changed:
        log.warning("%s: %s extracted again", source.changed, counted(changed, "stored utterance", "are"))
    lacking = set[str]().union(*(target.todo for target in targets))
    todo = [utterance for utterance in wanted if utterance.utterance_id in lacking]
    native = any(_keeps_rate(target) for target in targets)
    probed = dict.fromkeys(source.key(utterance) for utterance in (wanted if native else todo))
    map_in_threads(source.prepare, list(probed), workers, "reading headers")
    sizes = {target.name: lru_cache(maxsize=4096)(target.size_of) for target in targets}
    items, unreadable = [], {}
    for utterance in tracked("planning", todo):
        num_samples, rate = source.probe(utterance)
        of_targets = [
            sizes[t.name](num_samples, rate) for t in targets if num_samples and utterance.utterance_id in t.todo
        ]
        if not num_samples and (reason := source.unreadable(utterance)) is not None:
            unreadable[utterance.utterance_id] = reason
        items.append(
            PlannedUtterance(
                utterance=utterance,
                length=num_samples / rate,
                bytes=sum(size.stored for size in of_targets),
                spooled=sum(size.spooled for size in of_targets),
            )
        )
    return ExtractionPlan(
        items=items,
        bytes=sum(item.bytes for item in items),
        spooled=_spooled_at_once(items, source, workers),
        length=sum(item.length for item in items),
        unreadable=unreadable,
        ends_early=[utterance.utterance_id for utterance in todo if source.ends_early(utterance)],
        rates=source.rates(wanted) if native else {},
    )


def title_of(targets: Sequence[StoreJob]) -> str:
    """Return the names of the stores for a progress bar; views are counted."""
    clean = " + ".join(target.name for target in targets if target.view is None)
    views = len({target.view.number for target in targets if target.view is not None})
    return f"{clean} + {counted(views, 'view')}" if views else clean


def _keeps_rate(target: StoreJob) -> bool:
    """Return whether the features of a store are computed at the sampling rate of each file."""
    return target.extractor.description.sampling_rate is None and target.extractor.tokenise is None


def _spooled_at_once(items: Sequence[PlannedUtterance], source: Input, workers: int) -> int:
    """Return the largest spooled size: utterances that are computed, and a group that waits to be written."""
    largest = heapq.nlargest(workers, (item.spooled for item in items))
    return sum(largest) + max((sum(item.spooled for item in group) for group in groups(items, source)), default=0)


def groups(items: Iterable[PlannedUtterance], source: Input) -> Iterator[list[PlannedUtterance]]:
    """Yield groups of utterances, each of which becomes a shard."""
    group: list[PlannedUtterance] = []
    size, length = 0, 0.0
    for item in items:
        full = size + item.bytes > SHARD_BYTES or length + item.length > source.shard_length
        if group and (full or len(group) == SHARD_UTTERANCES):
            yield group
            group, size, length = [], 0, 0.0
        group.append(item)
        size += item.bytes
        length += item.length
    if group:
        yield group


def default_workers(device: str) -> int:
    """Return one thread per core, and at least three per device: two batches computed, and one being prepared."""
    num_devices = len(device.split(","))
    return max(available_cores(), 3 * num_devices if num_devices > 1 else 1)


def pack(group: Sequence[PlannedUtterance], batch_length: float) -> Iterator[list[PlannedUtterance]]:
    """Yield batches of utterances of similar length, limited by their total length after padding."""
    batch: list[PlannedUtterance] = []
    for item in sorted(group, key=lambda item: item.length) if batch_length else group:
        if batch and item.length * (len(batch) + 1) > batch_length:
            yield batch
            batch = []
        batch.append(item)
    if batch:
        yield batch


def tell_size(
    plan: ExtractionPlan, targets: Sequence[StoreJob], source: Input, cache: Path, verb: str = "extract"
) -> None:
    """Log what will be written and cut, and check that it fits on the disk.

    Args:
        plan: Missing utterances.
        targets: The stores that are filled.
        source: Input of the extractors.
        cache: Folder of the stores.
        verb: Verb for messages.

    Raises:
        StoreError: the disk space is not enough.
    """
    for target in targets:
        most = target.extractor.description.max_seconds
        cut = sum(most is not None and item.length > most for item in plan.items)
        if cut:
            log.warning("%s: %s cut to the first %g s", target.name, counted(cut, "utterance", "are"), most)
        windows = sum(target.in_windows(item.length) for item in plan.items)
        if windows:
            log.info("%s: %s computed in windows", target.name, counted(windows, "long utterance", "are"))
        provenance = target.extractor.description.provenance
        padded_to = provenance.get("padded_to_seconds")
        if target.todo and padded_to is not None:
            family = FAMILIES.get(provenance.get("model_type", ""))
            title = family.title if family else "the model"
            log.info("%s: %s processes %.4g s per utterance, however short", target.name, title, padded_to)
        if target.todo and target.padded_bytes is not None:
            size = format_bytes(target.padded_bytes)
            log.info("%s: every utterance takes %s, because its padding is kept", target.name, size)
        log.info("%s: %s", target.name, counted_work(verb, len(target.todo), target.cached, target.others))
        if len(plan.rates) > 1 and _keeps_rate(target):
            rates = ", ".join(f"{rate} Hz: {number}" for rate, number in sorted(plan.rates.items()))
            log.warning(
                "%s: the files have different sampling rates (%s utterances), and these features depend on the rate; "
                "--sampling-rate %d resamples all files",
                target.name,
                rates,
                min(plan.rates),
            )
    if plan.ends_early:
        log.warning(ENDS_EARLY, counted(len(plan.ends_early), "utterance", "are"), listed(plan.ends_early))
    if not plan.items:
        return
    for warning in source.warnings([i.utterance for i in plan.items], [i.length for i in plan.items]):
        log.warning("%s", warning)
    existing = next(folder for folder in (cache, *resolved(cache).parents) if folder.is_dir())
    free = shutil.disk_usage(existing).free
    log.info(
        "%s will take %s on disk (%s free)",
        source.unit.describe(plan.length),
        format_bytes(plan.bytes),
        format_bytes(free),
    )
    needed = plan.bytes + plan.spooled
    if needed > free:
        raise StoreError(
            f"{format_bytes(needed)} of disk space are needed under {cache}, but only {format_bytes(free)} are free; "
            "free disk space, or store fewer layers with --layers"
        )


def counted_work(verb: str, todo: int, cached: int, others: int) -> str:
    """Return the planned work as text: ``96 of 100 utterances to extract, 4 cached``.

    Args:
        verb: Verb for the work.
        todo: Number of requested utterances that are missing.
        cached: Number of requested utterances that are cached.
        others: Number of cached utterances that are not requested now, for example after another ``--limit``.
    """
    also = f" ({others} others cached)" if others else ""
    return f"{todo} of {todo + cached} utterances to {verb}, {cached} cached{also}"


def is_same(entry: Any, utterance: Utterance, checksum: str | None) -> bool:
    """Return whether a stored utterance has this start, end and checksum of its audio or text.

    Args:
        entry: Row of the store's table.
        utterance: The utterance in the manifest.
        checksum: Current SHA-256; None if the audio is missing, which leaves stored features valid.
    """
    same_stretch = _is_time(entry["start"], utterance.start) and _is_time(entry["end"], utterance.end)
    return same_stretch and checksum in (None, entry["audio_sha256"])


def _is_time(stored: float, seconds: float | None) -> bool:
    """Return whether a stored time, which is NaN for None, is the given time."""
    return bool(np.isnan(stored) if seconds is None else stored == seconds)
