"""Plan → shards. Threads compute batches of utterances while finished groups are written."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from featcache.cache.failures import Failure
from featcache.errors import AudioError
from featcache.extraction.compute import BatchComputation, UtteranceOutcome
from featcache.extraction.inputs import Input
from featcache.extraction.plan import ExtractionPlan, PlannedUtterance, StoreJob, groups, pack, title_of
from featcache.machine import give_back
from featcache.terminal.interrupts import Pool, Work
from featcache.terminal.progress import progress

# Number of batches in progress per worker, so that workers are not idle while a shard is written.
BATCHES_AHEAD = 4


@dataclass(frozen=True)
class _Batch:
    """Utterances of a batch, and whether it is the last batch of its group."""

    items: list[PlannedUtterance]
    is_last: bool


class ExtractionRun:
    """Execution of a plan on this machine.

    Args:
        targets: The stores that are filled.
        source: Input of the extractors.
        plan: Missing utterances.
        workers: Number of threads.
        batch_length: Length of a batch, in seconds of audio or tokens; 0 for one utterance per batch.
        strict: Whether the first utterance that fails ends the extraction.
        advance: Function that is called with the length of finished utterances, for a progress bar of several
            extractions; None for a progress bar of this one.

    Attributes:
        extracted: Ids of the utterances that were written.
    """

    def __init__(
        self,
        targets: Sequence[StoreJob],
        source: Input,
        plan: ExtractionPlan,
        *,
        workers: int,
        batch_length: float,
        strict: bool,
        advance: Callable[[float], None] | None = None,
    ) -> None:
        self._targets = targets
        self._source = source
        self._plan = plan
        self._workers = workers
        self._batch_length = batch_length
        self._strict = strict
        self._advance = advance
        self._stopping = threading.Event()
        self._failed = threading.Event()  # Set if an utterance fails and --strict was given.
        self._computation = BatchComputation(targets, source, batch_length=batch_length, stopping=self._stopping)
        # Spooled utterances that wait to be written take disk space instead of memory.
        self._ahead = workers if plan.spooled else BATCHES_AHEAD * workers
        self._position = {item.utterance.utterance_id: number for number, item in enumerate(plan.items)}
        self._unwritten: list[UtteranceOutcome] = []
        self.extracted: set[str] = set()

    def to_the_end(self) -> bool:
        """Compute and write all groups; return True if Ctrl-C stopped the extraction.

        Raises:
            AudioError: an utterance failed, and the extraction is strict.
            StoreError: a store cannot be written.
        """
        if not self._plan.items:
            return False
        with Pool(self._workers, "extract") as pool, self._progress() as advance:
            work = Work(
                self._batches(),
                lambda batch: self._process(batch.items),
                lambda results, ending: self._keep(results, ending, advance),
                fails=self._fails,
                ahead=self._ahead,
                in_order=True,
                stopping=self._stopping,
                kept="finished features are written first",
            )
            return work.to_the_end(pool, "utterances")

    def _progress(self) -> AbstractContextManager[Callable[[float], None]]:
        if self._advance is not None:
            return nullcontext(self._advance)
        title = title_of(self._targets)
        return progress(title, self._plan.length, rate=self._source.unit.describe_speed)

    def as_one_group(self) -> None:
        """Compute the whole plan in the calling thread, and write it as one shard of each store."""
        done: list[UtteranceOutcome] = []
        for batch in pack(self._plan.items, self._batch_length):
            outcomes = self._process(batch)
            done += outcomes
            if self._fails(outcomes):
                break
        self._write(done)

    def _batches(self) -> Iterator[_Batch]:
        for group in groups(self._plan.items, self._source):
            batches = list(pack(group, self._batch_length))
            for number, batch in enumerate(batches, start=1):
                yield _Batch(batch, is_last=number == len(batches))

    def _process(self, items: Sequence[PlannedUtterance]) -> list[UtteranceOutcome]:
        """Compute a batch in a thread; return an empty list after a failure that ends the extraction."""
        if self._failed.is_set():
            return []
        outcomes = self._computation.compute(items)
        if self._fails(outcomes):
            self._failed.set()  # Set at once, so that no batch starts after a failure.
            self._stopping.set()
        return outcomes

    def _fails(self, outcomes: Sequence[UtteranceOutcome]) -> bool:
        """Return whether these outcomes end the extraction."""
        return self._strict and any(outcome.reasons for outcome in outcomes)

    def _keep(
        self,
        results: Sequence[tuple[_Batch, list[UtteranceOutcome]]],
        ending: bool,
        advance: Callable[[float], None],
    ) -> None:
        """Collect finished batches; write a group when it is complete, and all utterances at the end."""
        outcomes = [outcome for _, of_batch in results for outcome in of_batch]
        self._unwritten += outcomes
        if ending or any(batch.is_last for batch, _ in results):
            finished, self._unwritten = self._unwritten, []
            self._write(finished)
        advance(sum(outcome.item.length for outcome in outcomes))

    def _write(self, outcomes: Sequence[UtteranceOutcome]) -> None:
        """Write one shard of each store, and collect the failures.

        Raises:
            AudioError: an utterance failed, and the extraction is strict.
        """
        outcomes = sorted(outcomes, key=lambda outcome: self._position[outcome.item.utterance.utterance_id])
        written = [outcome.item.utterance for outcome in outcomes if outcome.records]
        decoders = self._source.decoders(written)
        for target in self._targets:
            records = [outcome.records[target.name] for outcome in outcomes if target.name in outcome.records]
            target.writer.write_shard(records, target.number, decoders)
            for outcome in outcomes:
                utterance = outcome.item.utterance
                if target.name in outcome.reasons:
                    target.failures[utterance.utterance_id] = Failure(
                        store=target.name,
                        utterance_id=utterance.utterance_id,
                        path=utterance.path,
                        reason=outcome.reasons[target.name],
                    )
        self._source.remember()
        give_back()  # Memory of the shard is fragmented; without this, the next shard would add to it.
        self.extracted |= {outcome.item.utterance.utterance_id for outcome in outcomes if outcome.records}
        failures = [failure for target in self._targets for failure in target.failures.values()]
        if self._strict and failures:
            raise AudioError(f"utterance {failures[0].utterance_id!r}: {failures[0].reason} (stopped by --strict)")
