"""Manifest × stores → plan: what is missing, how large it will be, and what makes a shard and a batch."""

import logging
import shutil
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from featcache import audio
from featcache.cache.layout import statistics_of
from featcache.cache.writer import StoreWriter
from featcache.errors import AudioError, StoreError
from featcache.extraction.report import Failure, format_bytes
from featcache.extractors.base import Extractor
from featcache.files import sha256_of_file
from featcache.manifest import Utterance
from featcache.threads import available_cores

log = logging.getLogger(__name__)

# A shard is what a crash may cost: half a minute of a base model's work on two cores.
SHARD_BYTES = 128 * 2**20
SHARD_UTTERANCES = 256


@dataclass
class Target:
    """A store that is being filled.

    Attributes:
        todo: The ids of the utterances that it lacks.
        number: Of the shard to be written, where it was given out beforehand.
    """

    name: str
    extractor: Extractor
    writer: StoreWriter
    todo: set[str] = field(default_factory=set)
    failures: dict[str, Failure] = field(default_factory=dict)
    number: int | None = None

    def bytes_for(self, num_samples: int, sampling_rate: int) -> int:
        """What an utterance will take on disk, its statistics included."""
        description = self.extractor.description
        rate = description.sampling_rate or sampling_rate
        num_samples = audio.kept_samples(num_samples, sampling_rate, description.max_seconds)
        frames = self.extractor.num_frames(audio.resampled_length(num_samples, sampling_rate, rate), rate)
        values = len(description.layer_names) * description.hidden_size
        storage_dtype = self.writer.storage_dtype
        per_statistic = len(statistics_of(storage_dtype)) * np.dtype(np.float32).itemsize
        return values * (frames * np.dtype(storage_dtype).itemsize + per_statistic)


@dataclass(frozen=True, kw_only=True)
class Item:
    """An utterance that some stores lack."""

    utterance: Utterance
    seconds: float
    bytes: int


@dataclass(frozen=True, kw_only=True)
class Plan:
    items: list[Item]
    bytes: int
    seconds: float


def make_plan(targets: Sequence[Target], root: Path, wanted: Sequence[Utterance], workers: int) -> Plan:
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
        items.append(Item(utterance=utterance, seconds=num_samples / rate, bytes=size))
    return Plan(items=items, bytes=sum(i.bytes for i in items), seconds=sum(i.seconds for i in items))


def groups(items: Iterable[Item]) -> Iterator[list[Item]]:
    """Cut a plan into what makes a shard each."""
    group: list[Item] = []
    size = 0
    for item in items:
        if group and (size + item.bytes > SHARD_BYTES or len(group) == SHARD_UTTERANCES):
            yield group
            group, size = [], 0
        group.append(item)
        size += item.bytes
    if group:
        yield group


def default_batch_seconds(device: str) -> float:
    """One utterance at a time on a processor, where padding costs time; two minutes of audio on a GPU."""
    return 0.0 if set(device.split(",")) == {"cpu"} else 120.0


def default_workers(device: str) -> int:
    """A thread per core; of several devices, three for each, which has two batches at once and a third on its way."""
    num_devices = len(device.split(","))
    return max(available_cores(), 3 * num_devices if num_devices > 1 else 1)


def pack(group: Sequence[Item], batch_seconds: float) -> Iterator[list[Item]]:
    """Utterances of like length together, as many as fit when all are padded to the longest."""
    batch: list[Item] = []
    for item in sorted(group, key=lambda item: item.seconds) if batch_seconds else group:
        if batch and item.seconds * (len(batch) + 1) > batch_seconds:
            yield batch
            batch = []
        batch.append(item)
    if batch:
        yield batch


def tell_size(plan: Plan, targets: Sequence[Target], cache: Path) -> None:
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
