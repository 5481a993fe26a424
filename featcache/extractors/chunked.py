"""Long file → features, computed window by window in bounded memory."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import numpy.typing as npt

from featcache import audio
from featcache.audio import Signal
from featcache.extractors.base import Extractor
from featcache.extractors.windows import Window, plan_windows
from featcache.features import Features
from featcache.manifest import Utterance


def extract_windows(
    extractor: Extractor,
    folder: Path,
    utterance: Utterance,
    *,
    batch_seconds: float = 0.0,
    signal: Signal | None = None,
) -> Iterator[tuple[int, Features]]:
    """Compute the features of an utterance in the windows that the extractor's description requests.

    Args:
        extractor: Extractor that computes the features.
        folder: Corpus folder, to which the path of the utterance is relative.
        utterance: Utterance to compute.
        batch_seconds: Length of audio in one batch, in seconds; a batch has at least one window.
        signal: Signal of the utterance if it is in memory already; None decodes the file in blocks.

    Yields:
        The number of the first frame, and (num_layers, num_frames, hidden_size) float32 features; in order, without
        gaps.

    Raises:
        AudioError: as :func:`featcache.audio.stream` and the extractor.
    """
    description = extractor.description
    if signal is None:
        length, rate = signal_length(extractor, folder, utterance)
    else:
        length, rate = len(signal.samples), signal.sampling_rate
    windows = plan_windows(extractor, length, rate)
    together = max(1, int(batch_seconds * rate) // (windows[0].stop - windows[0].start))
    blocks = (
        audio.stream(
            folder,
            utterance,
            channel=description.channel or "mean",
            sampling_rate=description.sampling_rate,
            max_seconds=description.max_seconds,
        )
        if signal is None
        else (block for block in (signal.samples,))
    )
    with closing(blocks):
        passing = _Passing(blocks)
        for number in range(0, len(windows), together):
            batch = windows[number : number + together]
            yield from _extract(extractor, passing, batch, rate)


def signal_length(extractor: Extractor, folder: Path, utterance: Utterance) -> tuple[int, int]:
    """Return the number of samples that an extractor reads from an utterance, and their sampling rate.

    Args:
        extractor: Extractor that reads the utterance.
        folder: Corpus folder, to which the path of the utterance is relative.
        utterance: Utterance to read.

    Returns:
        The number of samples, and the sampling rate in Hz, after resampling and shortening.

    Raises:
        AudioError: as :func:`featcache.audio.probe`.
    """
    description = extractor.description
    num_samples, file_rate = audio.probe(folder, utterance)
    rate = description.sampling_rate or file_rate
    used = audio.kept_samples(num_samples, file_rate, description.max_seconds)
    return audio.resampled_length(used, file_rate, rate), rate


def _extract(
    extractor: Extractor, signal: "_Passing", windows: Sequence[Window], rate: int
) -> Iterator[tuple[int, Features]]:
    signals = [Signal(samples=signal.between(w.start, w.stop), sampling_rate=rate) for w in windows]
    for window, features in zip(windows, extractor.extract(signals), strict=True):
        yield window.first_frame, features[:, window.kept]


class _Passing:
    """Signal that is read in blocks; only the samples that are still needed are kept."""

    def __init__(self, blocks: Iterator[npt.NDArray[np.float32]]) -> None:
        self._blocks = blocks
        self._held = np.empty(0, dtype=np.float32)
        self._first = 0

    def between(self, start: int, stop: int) -> npt.NDArray[np.float32]:
        """Return samples ``start`` to ``stop``, exclusive; ``start`` must not be smaller than in the last call."""
        parts = [self._held[start - self._first :]]
        there = start + len(parts[0])
        while there < stop:
            parts.append(next(self._blocks))
            there += len(parts[-1])
        self._held = np.concatenate(parts)
        self._first = start
        return self._held[: stop - start]
