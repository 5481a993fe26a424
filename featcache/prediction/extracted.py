"""New audio × extractors → temporary stores, some utterances at a time.

The ordinary extraction fills the temporary stores, with the dtype and pooling of the run's stores. So the features are
rounded as in the fit. A temporary store is removed before the next one is filled.
"""

import logging
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from featcache.cache.failures import Failure
from featcache.cache.reader import FeatureStore
from featcache.cache.shards import shard_numbers
from featcache.cache.writer import StoreWriter
from featcache.errors import StoreError, listed
from featcache.extraction.inputs import ENDS_EARLY, AudioInput, Input, input_of
from featcache.extraction.memory import check_memory
from featcache.extraction.plan import ExtractionPlan, PlannedUtterance, StoreJob, make_plan
from featcache.extraction.run import ExtractionRun
from featcache.manifest import Utterance
from featcache.prediction.recreate import Recreated
from featcache.terminal.progress import progress
from featcache.threads import one_thread_each
from featcache.units import counted, format_bytes

log = logging.getLogger(__name__)

Stores = Mapping[str, FeatureStore]
"""Fingerprint → store."""


@dataclass(frozen=True, kw_only=True)
class PartFeatures:
    """Features of some utterances.

    Attributes:
        stores: Fingerprint of the run's store → store with the features.
        utterances: The utterances that have features in all stores.
        failures: The other utterances.
        interrupted: Whether Ctrl-C stopped the extraction, so that utterances are missing.
    """

    stores: Stores
    utterances: Sequence[Utterance]
    failures: Sequence[Failure] = ()
    interrupted: bool = False


class FeatureSource(Protocol):
    """Features of new audio, some utterances at a time."""

    def num_bytes(self, utterance: Utterance) -> int:
        """Return the size of the temporary features of an utterance, in bytes."""

    def part(self, utterances: Sequence[Utterance]) -> AbstractContextManager[PartFeatures]:
        """Return the features of some utterances, which exist during the ``with`` block."""


@dataclass(frozen=True, kw_only=True)
class ExtractionConditions:
    """Options of the extraction that do not affect features.

    Attributes:
        device: Torch device of the models.
        workers: Number of threads.
        batch_seconds: Seconds of audio per forward pass; None for the default of the device.
        strict: Whether the first utterance that fails ends the extraction.
    """

    device: str
    workers: int
    batch_seconds: float | None
    strict: bool


@dataclass(frozen=True, kw_only=True)
class _Group:
    """Stores that are extracted from the same input."""

    recreated: Sequence[Recreated]
    source: Input
    utterances: Mapping[str, Utterance]
    items: Mapping[str, PlannedUtterance]
    batch_length: float


class TemporaryFeatures:
    """Features that are extracted into temporary stores.

    Args:
        recreated: The extractors.
        utterances: The requested utterances.
        words: Name of a store of text → utterances with their transcripts, by id.
        audio: Input of the audio files.
        conditions: Options of the extraction.

    Raises:
        ModelError: the memory is not enough.
    """

    def __init__(
        self,
        recreated: Sequence[Recreated],
        utterances: Sequence[Utterance],
        words: Mapping[str, Mapping[str, Utterance]],
        audio: AudioInput,
        conditions: ExtractionConditions,
    ) -> None:
        self._conditions = conditions
        of_audio = [one for one in recreated if not one.store.reads_text]
        self._groups = [self._group(of_audio, audio, {u.utterance_id: u for u in utterances})] if of_audio else []
        for one in recreated:
            if one.store.reads_text:
                source = input_of(one.extractor, audio.root)
                self._groups.append(self._group([one], source, words[one.store.name]))
        self._advance: Callable[[float], None] | None = None

    def _group(self, recreated: Sequence[Recreated], source: Input, utterances: Mapping[str, Utterance]) -> _Group:
        """Plan all utterances of a group, from their headers, and check that they fit in memory."""
        conditions = self._conditions
        batch_length = source.batch_length(conditions.device)
        if conditions.batch_seconds is not None and not recreated[0].store.reads_text:
            batch_length = conditions.batch_seconds
        with _temporary_folder() as folder:
            jobs = _jobs(recreated, folder)
            plan = make_plan(jobs, source, list(utterances.values()), conditions.workers)
        check_memory(plan, jobs, workers=conditions.workers, batch_length=batch_length)
        if plan.ends_early:
            log.warning(ENDS_EARLY, counted(len(plan.ends_early), "utterance", "are"), listed(plan.ends_early))
        items = {item.utterance.utterance_id: item for item in plan.items}
        return _Group(recreated=recreated, source=source, utterances=utterances, items=items, batch_length=batch_length)

    def num_bytes(self, utterance: Utterance) -> int:
        """Return the size of the temporary features of an utterance, in bytes."""
        items = (group.items.get(utterance.utterance_id) for group in self._groups)
        return sum(item.bytes + item.spooled for item in items if item is not None)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Show the progress of all parts together."""
        lead = self._groups[0]
        title = " + ".join(one.store.name for one in lead.recreated)
        length = sum(item.length for item in lead.items.values())
        with progress(title, length, rate=lead.source.unit.describe_speed) as advance:
            self._advance = advance
            yield

    @contextmanager
    def part(self, utterances: Sequence[Utterance]) -> Iterator[PartFeatures]:
        """Extract utterances, and yield their features, which are removed after the ``with`` block.

        Raises:
            StoreError: the temporary folder has too little space.
            AudioError: an utterance failed, and the extraction is strict.
        """
        with _temporary_folder() as folder:
            _check_space(folder, sum(map(self.num_bytes, utterances)))
            failures: dict[str, Failure] = {}
            stores: dict[str, FeatureStore] = {}
            interrupted = False
            for number, group in enumerate(self._groups):
                jobs = _jobs(group.recreated, folder / str(number))
                interrupted = interrupted or self._extract(group, jobs, utterances, number == 0, failures)
                for one, job in zip(group.recreated, jobs, strict=True):
                    if shard_numbers(job.writer.folder):
                        store = stores[one.store.identity.fingerprint] = FeatureStore(job.writer.folder)
                        store.name = one.store.name
            whole = len(stores) == sum(len(group.recreated) for group in self._groups)
            there = [u for u in utterances if whole and all(u.utterance_id in store for store in stores.values())]
            yield PartFeatures(
                stores=stores, utterances=there, failures=list(failures.values()), interrupted=interrupted
            )

    def _extract(
        self,
        group: _Group,
        jobs: Sequence[StoreJob],
        utterances: Sequence[Utterance],
        leads: bool,
        failures: dict[str, Failure],
    ) -> bool:
        """Fill the stores of a group, and add the utterances that failed; return whether Ctrl-C stopped it."""
        ids = [u.utterance_id for u in utterances if u.utterance_id not in failures]
        items = [group.items[i] for i in ids if i in group.items]
        for job in jobs:
            job.todo = {item.utterance.utterance_id for item in items}
        plan = ExtractionPlan(
            items=items,
            bytes=sum(item.bytes for item in items),
            spooled=max((item.spooled for item in items), default=0),
            length=sum(item.length for item in items),
        )
        advance = self._advance if leads else _ignore
        conditions = self._conditions
        run = ExtractionRun(
            jobs,
            group.source,
            plan,
            workers=conditions.workers,
            batch_length=group.batch_length,
            strict=conditions.strict,
            advance=advance,
        )
        with one_thread_each():
            interrupted = run.to_the_end()
        for job in jobs:
            failures.update({i: failure for i, failure in job.failures.items() if i not in failures})
        for utterance in utterances:
            if utterance.utterance_id not in group.utterances:
                failures.setdefault(utterance.utterance_id, _without_words(utterance, jobs[0].name))
        return interrupted


def _jobs(recreated: Sequence[Recreated], folder: Path) -> list[StoreJob]:
    """Return the stores to fill; their folders are numbered, because a run's names of stores may be unusual."""
    jobs = []
    for number, one in enumerate(recreated):
        identity = one.store.identity
        writer = StoreWriter(folder / str(number), one.description, identity.storage_dtype, pool=identity.pool)
        writer.folder.mkdir(parents=True)
        jobs.append(StoreJob(one.store.name, one.extractor, writer))
    return jobs


def _without_words(utterance: Utterance, store: str) -> Failure:
    return Failure(
        store=store,
        utterance_id=utterance.utterance_id,
        path=utterance.path,
        reason="it is missing in the transcripts",
    )


@contextmanager
def _temporary_folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="featcache-predict-") as folder:
        yield Path(folder)


def _check_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise StoreError(
            f"{format_bytes(needed)} of disk space are needed in the temporary folder {folder.parent}, but only "
            f"{format_bytes(free)} are free; set TMPDIR to a folder with more space"
        )


def _ignore(amount: float) -> None:
    """Show no progress."""
