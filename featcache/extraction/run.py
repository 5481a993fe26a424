"""Plan → shards: threads take utterances through reading and every extractor while finished groups are written."""

import logging
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field, replace

from featcache.audio import Recording
from featcache.cache.failures import Failure
from featcache.cache.quantise import quantise
from featcache.cache.statistics import of_frames
from featcache.cache.writer import Record, encode
from featcache.errors import AudioError, FeatureError
from featcache.extraction.inputs import Input
from featcache.extraction.long import StoppedError, record_in_windows
from featcache.extraction.plan import ExtractionPlan, PlannedUtterance, StoreJob, groups, pack
from featcache.extractors.base import signal_for
from featcache.features import Features
from featcache.machine import give_back
from featcache.terminal.interrupts import Pool, held_back
from featcache.terminal.progress import progress
from featcache.transcripts.text import Words

log = logging.getLogger(__name__)

# Batches that are under way for each worker, so that writing a shard does not leave them idle.
BATCHES_AHEAD = 4


@dataclass
class UtteranceOutcome:
    """What became of one utterance: a record or a reason for each store that wanted it."""

    item: PlannedUtterance
    records: dict[str, Record] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)


class ExtractionRun:
    """Carries out a plan; ``extracted`` grows by the ids of what is written."""

    def __init__(
        self,
        targets: Sequence[StoreJob],
        source: Input,
        plan: ExtractionPlan,
        *,
        workers: int,
        batch_length: float,
        strict: bool,
    ) -> None:
        self._targets = targets
        self._source = source
        self._plan = plan
        self._workers = workers
        self._batch_length = batch_length
        self._strict = strict
        self._stopping = threading.Event()
        self._failed = threading.Event()  # an utterance, and --strict was given
        # what waits to be written takes no memory, but room on the disk
        self._ahead = workers if plan.spooled else BATCHES_AHEAD * workers
        self._position = {item.utterance.utterance_id: number for number, item in enumerate(plan.items)}
        self.extracted: set[str] = set()

    def to_the_end(self) -> bool:
        """Compute and write group by group; true when Ctrl-C ended it early."""
        if not self._plan.items:
            return False
        done: list[UtteranceOutcome] = []
        pending: deque[tuple[Future[list[UtteranceOutcome]], bool]] = deque()
        batches = self._batches()
        title = " + ".join(target.name for target in self._targets)
        with (
            Pool(self._workers, "extract") as pool,
            progress(title, self._plan.length, rate=self._source.rate) as advance,
        ):
            try:
                while True:
                    while len(pending) < self._ahead and (batch := next(batches, None)):
                        pending.append((pool.submit(self._process, batch[0]), batch[1]))
                    if not pending:
                        return False
                    future, last_of_group = pending[0]
                    outcomes = future.result()
                    if stops := self._stops(outcomes):
                        outcomes = outcomes + self._begun(pending)
                    # each outcome is written once, whenever Ctrl-C is pressed
                    with held_back("finished features are written first"):
                        pending.popleft()
                        done += outcomes
                        if last_of_group or stops:
                            self._write(done)
                            done = []
                    advance(sum(outcome.item.length for outcome in outcomes))
            except KeyboardInterrupt:
                self._stopping.set()
                ended = pool.finish([future for future, _ in pending], "utterances")
                with suppress(KeyboardInterrupt), held_back("finished features are written first"):
                    self._write(done + [outcome for future in ended for outcome in future.result()])
                return True
            except BaseException:
                self._stopping.set()
                for future, _ in pending:
                    future.cancel()
                raise

    def _begun(self, pending: Iterable[tuple[Future[list[UtteranceOutcome]], bool]]) -> list[UtteranceOutcome]:
        """Begin nothing new; return the outcomes of what else the workers have begun or finished."""
        _, *others = pending
        begun = [future for future, _ in others if not future.cancel()]
        return [outcome for future in begun for outcome in future.result()]

    def as_one_group(self) -> None:
        """Compute the whole plan in the calling thread, and write it as one shard of each store."""
        done: list[UtteranceOutcome] = []
        for batch in pack(self._plan.items, self._batch_length):
            outcomes = self._process(batch)
            done += outcomes
            if self._stops(outcomes):
                break
        self._write(done)

    def _stops(self, outcomes: Sequence[UtteranceOutcome]) -> bool:
        return self._strict and any(outcome.reasons for outcome in outcomes)

    def _batches(self) -> Iterator[tuple[list[PlannedUtterance], bool]]:
        """What goes through the extractors together, and whether it is the last of its group."""
        for group in groups(self._plan.items, self._source):
            batches = list(pack(group, self._batch_length))
            for number, batch in enumerate(batches, start=1):
                yield batch, number == len(batches)

    def _process(self, items: Sequence[PlannedUtterance]) -> list[UtteranceOutcome]:
        if self._failed.is_set():
            return []
        outcomes = self._computed(items)
        if self._stops(outcomes):
            self._failed.set()  # now, so that nothing is begun after a failure
            self._stopping.set()
        return outcomes

    def _computed(self, items: Sequence[PlannedUtterance]) -> list[UtteranceOutcome]:
        outcomes = [UtteranceOutcome(item=item) for item in items]
        found = {}
        for outcome in outcomes:
            utterance = outcome.item.utterance
            targets = [target for target in self._targets if utterance.utterance_id in target.todo]
            whole = [t for t in targets if not t.extractor.description.in_windows(outcome.item.length)]
            for target in targets:
                if target not in whole:
                    self._compute_in_windows(target, outcome)
            if not whole:
                continue
            try:
                found[utterance.utterance_id] = self._source.read(utterance, _most_seconds(whole))
            except AudioError as error:
                outcome.reasons |= {target.name: str(error) for target in whole}
        for target in self._targets:
            wanted = target.todo & found.keys()
            todo = [
                (outcome, found[outcome.item.utterance.utterance_id])
                for outcome in outcomes
                if outcome.item.utterance.utterance_id in wanted
                and not target.extractor.description.in_windows(outcome.item.length)
            ]
            if not todo:
                continue
            for (outcome, read), features in zip(todo, _extract(target, [read for _, read in todo]), strict=True):
                try:
                    if isinstance(features, AudioError):
                        raise features
                    outcome.records[target.name] = self._record(target, outcome.item, read, features)
                except (AudioError, FeatureError) as error:
                    outcome.reasons[target.name] = str(error)
        return outcomes

    def _compute_in_windows(self, target: StoreJob, outcome: UtteranceOutcome) -> None:
        item = outcome.item
        try:
            sha256 = self._source.sha256(item.utterance)
            outcome.records[target.name] = record_in_windows(
                target, self._source.root, item, sha256, batch_seconds=self._batch_length, stopping=self._stopping
            )
        except StoppedError:
            return
        except (AudioError, FeatureError) as error:
            outcome.reasons[target.name] = str(error)

    def _record(self, target: StoreJob, item: PlannedUtterance, found: Recording | Words, features: Features) -> Record:
        statistics = of_frames(features)
        layer_names = target.extractor.description.layer_names
        if target.writer.pool:
            encode(features, "float32", layer_names)  # statistics of what is not finite are none
            stored = None
        elif target.writer.storage_dtype == "int8":
            stored, step = quantise(encode(features, "float32", layer_names), statistics.mean)
            statistics = replace(statistics, step=step)
        else:
            stored = encode(features, target.writer.storage_dtype, layer_names)
        return Record(
            utterance_id=item.utterance.utterance_id,
            features=stored,
            statistics=statistics,
            duration=self._source.seconds(item.length) or found.duration,
            audio_sha256=found.sha256,
            start=item.utterance.start,
            end=item.utterance.end,
        )

    def _write(self, outcomes: Sequence[UtteranceOutcome]) -> None:
        outcomes = sorted(outcomes, key=lambda outcome: self._position[outcome.item.utterance.utterance_id])
        for target in self._targets:
            records = [outcome.records[target.name] for outcome in outcomes if target.name in outcome.records]
            target.writer.write_shard(records, target.number)
            for outcome in outcomes:
                utterance = outcome.item.utterance
                if target.name in outcome.reasons:
                    target.failures[utterance.utterance_id] = Failure(
                        store=target.name,
                        utterance_id=utterance.utterance_id,
                        path=utterance.path,
                        reason=outcome.reasons[target.name],
                    )
        give_back()  # what a shard took lies scattered, and would be added to by the next one
        self.extracted |= {outcome.item.utterance.utterance_id for outcome in outcomes if outcome.records}
        failures = [failure for target in self._targets for failure in target.failures.values()]
        if self._strict and failures:
            raise AudioError(f"utterance {failures[0].utterance_id!r}: {failures[0].reason} (stopped by --strict)")


def _extract(target: StoreJob, found: Sequence[Recording | Words]) -> list[Features | AudioError]:
    description = target.extractor.description
    signals = [signal_for(description, read) for read in found]
    try:
        return list(target.extractor.extract(signals))
    except AudioError as error:
        if len(found) == 1:
            return [error]
        return [result for read in found for result in _extract(target, [read])]


def _most_seconds(targets: Sequence[StoreJob]) -> float | None:
    """How much of an utterance these targets want together."""
    limits = [target.extractor.description.max_seconds for target in targets]
    known = [seconds for seconds in limits if seconds is not None]
    return max(known) if len(known) == len(limits) else None
