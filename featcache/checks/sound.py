"""Samples of an utterance, block by block → its level, offset, clipping, silence, and a hash of the samples."""

import hashlib
import math
from typing import Any

import numpy as np
import numpy.typing as npt

from featcache.errors import AudioError

FRAME = 0.02
"""Length of the frames in which silence is measured, in seconds."""
SILENT_DB = -60.0
"""Level below which a frame is silent, in dB relative to a square wave of full scale."""
FULL_SCALE = 0.999
"""Smallest absolute value of a sample that counts as full scale."""
CLIPPED_RUN = 3
"""Number of successive samples at full scale from which they count as clipped."""
QUIETEST_DB = -120.0
"""Lowest level that is reported, in dB."""

FACTS = np.dtype(
    [
        ("measured", "?"),
        ("ends_early", "?"),
        ("duration", "f8"),
        ("sampling_rate", "i8"),
        ("channels", "i4"),
        ("peak", "f4"),
        ("level", "f4"),
        ("offset", "f4"),
        ("clipped", "f4"),
        ("silent", "f4"),
        ("digest", "u8", (2,)),
    ]
)
"""Facts about an utterance: duration (s), sampling rate (Hz), number of channels, largest absolute value, level (RMS in
dB relative to full scale), DC offset (relative to full scale), shares of clipped samples and of silent frames (0 to 1),
and BLAKE2b of rate, channels and decoded float32 samples."""


class Sound:
    """Running facts about one utterance.

    Args:
        first: Position of its first sample in the file.
        last: Position after its last sample.
        row: Row of the table of facts that :meth:`finish` fills in.
        rate: Sampling rate in Hz.
    """

    def __init__(self, first: int, last: int, row: int, rate: int) -> None:
        self.first, self.last, self.row = first, last, row
        self._rate = rate
        self._hop = max(1, round(FRAME * rate))
        self._hash = hashlib.blake2b(digest_size=16)
        self._num_samples = self._num_frames = self._num_silent = self._num_clipped = 0
        self._peak = self._power = 0.0
        self._sum: npt.NDArray[np.float64] | None = None
        self._rest: npt.NDArray[np.float32] | None = None  # samples after the last whole frame
        self._tail: npt.NDArray[np.bool_] | None = None  # whether the last samples are at full scale

    def add(self, samples: npt.NDArray[np.float32]) -> None:
        """Add the next samples, (num_samples, num_channels).

        Raises:
            AudioError: samples are NaN or infinite.
        """
        if self._sum is None:
            self._sum = np.zeros(samples.shape[1])
            self._hash.update(f"{self._rate} {samples.shape[1]}".encode())
        peak = float(np.abs(samples).max(initial=0.0))
        if not math.isfinite(peak):
            raise AudioError("contains samples that are NaN or infinite")
        self._hash.update(np.ascontiguousarray(samples).data)
        self._peak = max(self._peak, peak)
        self._num_samples += len(samples)
        self._sum += samples.sum(axis=0, dtype=np.float64)
        self._power += float(np.einsum("ij,ij->", samples, samples, dtype=np.float64)) / samples.shape[1]
        self._count_clipped(samples, peak)
        self._count_silent(samples)

    def _count_clipped(self, samples: npt.NDArray[np.float32], peak: float) -> None:
        """Count samples that end a run of samples at full scale, in any channel."""
        before = self._tail
        if before is None:
            before = np.zeros((CLIPPED_RUN - 1, samples.shape[1]), dtype=bool)
        if peak >= FULL_SCALE or before.any():
            full = np.concatenate([before, np.abs(samples) >= FULL_SCALE])
            windows = np.lib.stride_tricks.sliding_window_view(full, CLIPPED_RUN, axis=0)
            self._num_clipped += int(np.count_nonzero(np.any(np.all(windows, axis=-1), axis=-1)))
            self._tail = full[1 - CLIPPED_RUN :]

    def _count_silent(self, samples: npt.NDArray[np.float32]) -> None:
        if self._rest is not None and len(self._rest):
            samples = np.concatenate([self._rest, samples])
        whole = len(samples) // self._hop
        self._add_frames(samples[: whole * self._hop].reshape(whole, self._hop, samples.shape[1]))
        self._rest = samples[whole * self._hop :].copy()

    def _add_frames(self, frames: npt.NDArray[np.float32]) -> None:
        # The variance, because an offset is no sound.
        self._num_frames += len(frames)
        self._num_silent += int((frames.var(axis=1, dtype=np.float64).mean(axis=1) < 10 ** (SILENT_DB / 10)).sum())

    def finish(self, facts: Any) -> None:
        """Write the facts into a row of a table of the type ``FACTS``."""
        if self._num_frames == 0 and self._rest is not None:  # shorter than a frame
            self._add_frames(self._rest[None])
        number = max(1, self._num_samples)
        total = np.zeros(1) if self._sum is None else self._sum
        level = 10 * math.log10(max(self._power / number, 10 ** (QUIETEST_DB / 10)))
        facts["duration"] = self._num_samples / self._rate
        facts["sampling_rate"], facts["channels"] = self._rate, len(total)
        facts["peak"], facts["level"] = self._peak, level
        facts["offset"] = np.abs(total).max() / number
        facts["clipped"] = self._num_clipped / number
        facts["silent"] = self._num_silent / max(1, self._num_frames)
        facts["digest"] = np.frombuffer(self._hash.digest(), np.uint64)
        facts["measured"] = True
