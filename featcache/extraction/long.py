"""Long utterance → record, window by window: its audio and features are never in memory completely."""

from dataclasses import replace
from pathlib import Path
from threading import Event

import numpy as np
import numpy.typing as npt

from featcache.audio import Signal
from featcache.cache.quantise import count_steps, step_between
from featcache.cache.spool import Spool, spool_dtype
from featcache.cache.statistics import RunningStatistics, Statistics
from featcache.cache.writer import Record, encode
from featcache.extraction.plan import PlannedUtterance, StoreJob
from featcache.extractors.chunked import extract_windows, signal_length


class StoppedError(Exception):
    """Computation that was stopped because the extraction is ending."""


def record_in_windows(
    target: StoreJob,
    root: Path,
    item: PlannedUtterance,
    audio_sha256: str,
    *,
    batch_seconds: float,
    stopping: Event,
    signal: Signal | None = None,
) -> Record:
    """Compute an utterance in windows, and spool its features unless only statistics are stored.

    Args:
        target: The store.
        root: Folder of the corpus.
        item: The utterance.
        audio_sha256: SHA-256 of its audio file.
        batch_seconds: Largest number of seconds of audio in a batch of windows.
        stopping: Event that ends the computation.
        signal: Augmented signal of the utterance; None reads the utterance in blocks.

    Raises:
        StoppedError: ``stopping`` was set before the end.
        AudioError: the audio cannot be decoded or computed.
        FeatureError: a window has values that cannot be stored.
        StoreError: the disk is full.
    """
    length = (len(signal.samples), signal.sampling_rate) if signal else None
    features = _Features(target, length or signal_length(target.extractor, root, item.utterance))
    statistics = RunningStatistics()
    try:
        windows = extract_windows(target.extractor, root, item.utterance, batch_seconds=batch_seconds, signal=signal)
        for first, window in windows:
            if stopping.is_set():
                raise StoppedError
            features.add(first, window)
            statistics.add(window)
        return Record(
            utterance_id=item.utterance.utterance_id,
            statistics=features.finish(statistics.result()),
            features=features.spool,
            duration=target.duration(item.utterance.utterance_id, item.length),
            audio_sha256=audio_sha256,
            start=item.utterance.start,
            end=item.utterance.end,
        )
    except BaseException:
        features.close()
        raise


class _Features:
    """Stored features of consecutive windows; no features if only statistics are stored."""

    def __init__(self, target: StoreJob, length_and_rate: tuple[int, int]) -> None:
        self._layer_names = target.extractor.description.layer_names
        self._in_8_bits = target.writer.storage_dtype == "int8"
        self._dtype = spool_dtype(target.writer.storage_dtype)
        self._lowest: npt.NDArray[np.float32] | None = None
        self.spool: Spool | None = None
        if not target.writer.pool:
            self.spool = Spool(target.writer.folder, target.shape(*length_and_rate), self._dtype)

    def add(self, first: int, window: npt.NDArray[np.float32]) -> None:
        """Add a window, whose first frame has position ``first`` in the utterance."""
        stored = encode(window, self._dtype, self._layer_names)
        if self.spool is not None:
            self.spool.write(first, stored)
        if self._in_8_bits:
            lowest = window.min(axis=1)
            self._lowest = lowest if self._lowest is None else np.minimum(lowest, self._lowest)

    def finish(self, statistics: Statistics) -> Statistics:
        """Return the statistics to store; from now on the spool returns encoded features."""
        if self.spool is None or self._lowest is None:
            return statistics
        mean = statistics.mean
        step = step_between(self._lowest, statistics.max, mean)
        self.spool.encode_with(lambda layer, piece: count_steps(piece, mean[layer], step[layer]), np.int8)
        return replace(statistics, step=step)

    def close(self) -> None:
        """Close the spool."""
        if self.spool is not None:
            self.spool.close()
