"""Batch of utterances → read → extract → record, for each store in which they are missing; runs in any thread."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from threading import Event

from featcache.audio import Recording, Signal
from featcache.cache.kept_padding import Padding, quantised_padding
from featcache.cache.quantise import quantise
from featcache.cache.statistics import of_frames
from featcache.cache.writer import Record, encode
from featcache.errors import AudioError, FeatureError
from featcache.extraction.inputs import Input, ReadInput, signal_for, signal_of_view
from featcache.extraction.long import StoppedError, record_in_windows
from featcache.extraction.plan import PlannedUtterance, StoreJob
from featcache.features import Features, Tokens

_Extracted = tuple[Features, Features | None]


@dataclass
class UtteranceOutcome:
    """Result of one utterance, for each store in which it is missing.

    Attributes:
        item: The utterance.
        records: Name of a store → its record.
        reasons: Name of a store → the reason of a failure.
    """

    item: PlannedUtterance
    records: dict[str, Record] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _ReadUtterance:
    """Utterance that was read, and the stores that compute it whole."""

    outcome: UtteranceOutcome
    found: ReadInput
    jobs: Sequence[StoreJob]


class BatchComputation:
    """Computation of batches of utterances for all stores; safe from any number of threads.

    Args:
        jobs: The stores that are filled.
        source: Input of the extractors.
        batch_length: Largest number of seconds of audio in a batch of windows.
        stopping: Event that ends the computation of utterances in windows.
    """

    def __init__(self, jobs: Sequence[StoreJob], source: Input, *, batch_length: float, stopping: Event) -> None:
        self._jobs = jobs
        self._source = source
        self._batch_length = batch_length
        self._stopping = stopping

    def compute(self, items: Sequence[PlannedUtterance]) -> list[UtteranceOutcome]:
        """Compute utterances: in one batch, or window by window if they are long.

        Args:
            items: Utterances of the batch.

        Returns:
            One outcome for each utterance, in order. It has neither record nor reason if the computation was stopped.
        """
        outcomes = [UtteranceOutcome(item=item) for item in items]
        read: list[_ReadUtterance] = []
        for outcome in outcomes:
            jobs = [job for job in self._jobs if outcome.item.utterance.utterance_id in job.todo]
            in_windows = [job for job in jobs if job.in_windows(outcome.item.length)]
            for job in in_windows:
                self._record_in_windows(job, outcome)
            read += self._read(outcome, [job for job in jobs if job not in in_windows])
        for job in self._jobs:
            wanted = [utterance for utterance in read if job in utterance.jobs]
            extracted = _extract(job, wanted)
            for utterance, features in zip(wanted, extracted, strict=True):
                self._record(job, utterance, features)
        return outcomes

    def _record_in_windows(self, job: StoreJob, outcome: UtteranceOutcome) -> None:
        """Read, extract and record an utterance window by window."""
        item = outcome.item
        try:
            sha256, signal = self._source.sha256(item.utterance), None
            if job.view is not None:
                found = self._source.read(item.utterance, job.extractor.description.max_seconds)
                signal = signal_of_view(job.extractor, found, job.view, item.utterance.utterance_id)
            outcome.records[job.name] = record_in_windows(
                job,
                self._source.root,
                item,
                sha256,
                batch_seconds=self._batch_length,
                stopping=self._stopping,
                signal=signal,
            )
        except StoppedError:
            return
        except (AudioError, FeatureError) as error:
            outcome.reasons[job.name] = str(error)

    def _read(self, outcome: UtteranceOutcome, jobs: Sequence[StoreJob]) -> list[_ReadUtterance]:
        """Return an utterance read once for all stores; an empty list if no store needs it or it cannot be read."""
        if not jobs:
            return []
        try:
            found = self._source.read(outcome.item.utterance, _longest_wanted(jobs))
        except AudioError as error:
            outcome.reasons |= {job.name: str(error) for job in jobs}
            return []
        return [_ReadUtterance(outcome, found, jobs)]

    def _record(self, job: StoreJob, utterance: _ReadUtterance, features: _Extracted | AudioError) -> None:
        """Store the record of an utterance, or the reason why it has none."""
        outcome = utterance.outcome
        if isinstance(features, AudioError):
            outcome.reasons[job.name] = str(features)
            return
        try:
            outcome.records[job.name] = _make_record(job, outcome.item, utterance.found, *features)
        except FeatureError as error:
            outcome.reasons[job.name] = str(error)


def _longest_wanted(jobs: Sequence[StoreJob]) -> float | None:
    """Return the length of an utterance that any of these stores uses, in seconds; None for all."""
    limits = [job.extractor.description.max_seconds for job in jobs]
    known = [seconds for seconds in limits if seconds is not None]
    return max(known) if len(known) == len(limits) else None


def _extract(job: StoreJob, read: Sequence[_ReadUtterance]) -> list[_Extracted | AudioError]:
    """Return the features of each utterance and its padding, or the error that this utterance raises."""
    if not read:
        return []
    try:
        return list(job.extractor.extract_with_padding([_signal(job, one) for one in read]))
    except AudioError as error:
        if len(read) == 1:
            return [error]
        return [result for one in read for result in _extract(job, [one])]


def _signal(job: StoreJob, read: _ReadUtterance) -> Signal | Tokens | Features:
    if job.view is None:
        return signal_for(job.extractor, read.found)
    return signal_of_view(job.extractor, read.found, job.view, read.outcome.item.utterance.utterance_id)


def _make_record(
    job: StoreJob, item: PlannedUtterance, found: ReadInput, features: Features, padding: Features | None
) -> Record:
    """Return the record of (num_layers, num_frames, hidden_size) float32 features, without and with their padding.

    Raises:
        FeatureError: values that are NaN, infinite, or too large for the storage dtype.
    """
    statistics = of_frames(features)
    layer_names, storage_dtype = job.extractor.description.layer_names, job.writer.storage_dtype
    if job.writer.pool:
        encode(features, "float32", layer_names)  # Refuses NaN and infinite values.
        stored = None
    elif storage_dtype == "int8":
        stored, step = quantise(encode(features, "float32", layer_names), statistics.mean)
        statistics = replace(statistics, step=step)
    else:
        stored = encode(features, storage_dtype, layer_names)
    # Duration of the whole utterance, even if only its beginning was read.
    duration = item.length if isinstance(found, Recording) and item.length else found.duration
    return Record(
        utterance_id=item.utterance.utterance_id,
        features=stored,
        statistics=statistics,
        duration=job.duration(item.utterance.utterance_id, duration),
        audio_sha256=found.sha256,
        start=item.utterance.start,
        end=item.utterance.end,
        padding=None if padding is None else _encoded_padding(padding, storage_dtype, layer_names),
    )


def _encoded_padding(padding: Features, storage_dtype: str, layer_names: Sequence[str]) -> Padding:
    if storage_dtype == "int8":
        return quantised_padding(encode(padding, "float32", layer_names))
    return Padding(features=encode(padding, storage_dtype, layer_names))
