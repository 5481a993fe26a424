"""Signal → magnitude spectrogram, computed by librosa."""

import re
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from featcache.audio import Signal
from featcache.errors import AudioError, ModelError
from featcache.extractors.base import Extractor
from featcache.extractors.windows import check_chunks
from featcache.features import Features
from featcache.settings.extractor_configs import SpectrogramConfig


class SpectrogramExtractor(Extractor):
    """Linear magnitude spectrogram: (1, num_frames, n_fft // 2 + 1).

    Raises:
        ModelError: lengths are invalid or do not fit each other; each file's own sampling rate is used, but ``n_fft``
            is missing.
    """

    Config = SpectrogramConfig
    config: SpectrogramConfig
    averages_frames: ClassVar[bool] = False  # for reproducibility: earlier releases did not average them
    supports_chunks = True

    def __init__(self, config: SpectrogramConfig) -> None:
        super().__init__(config)
        rate = config.sampling_rate
        if rate is None and config.n_fft is None:
            raise ModelError("a spectrogram at the files' own sampling rates needs --n-fft, so that all have one size")
        _, hop, _ = self._lengths(rate or 1)  # At 1 Hz, a window of any length in ms fits into any n_fft.
        in_time = config.hop.endswith("ms")
        self.frame_shift = _number(config.hop) / 1000 if in_time else (hop / rate if rate else None)
        check_chunks(self)

    def settings(self) -> dict[str, Any]:
        return {"extractor": "spectrogram", **super().settings()}

    def _shape(self) -> tuple[int, int, int]:
        _, _, n_fft = self._lengths(self.config.sampling_rate or 1)
        return 1, 1, n_fft // 2 + 1

    def num_frames(self, num_samples: int, sampling_rate: int) -> int:
        _, hop, n_fft = self._lengths(sampling_rate)
        if num_samples < n_fft:
            return 0
        padding = 2 * (n_fft // 2) if self.config.center else 0
        return 1 + (num_samples + padding - n_fft) // hop

    def hop(self, sampling_rate: int) -> int:
        return self._lengths(sampling_rate)[1]

    def context(self, sampling_rate: int) -> int:
        _, hop, n_fft = self._lengths(sampling_rate)
        return -(-(n_fft // 2) // hop) if self.config.center else 0

    def extract(self, signals: Sequence[Signal]) -> list[Features]:
        return [self._extract_one(signal) for signal in signals]

    def _extract_one(self, signal: Signal) -> Features:
        return np.ascontiguousarray(np.abs(self._spectrum(signal)).T[None], dtype=np.float32)

    def _spectrum(self, signal: Signal) -> npt.NDArray[np.complex64]:
        """Return the Fourier transform of each frame: (n_fft // 2 + 1, num_frames) complex64."""
        import librosa

        window, hop, n_fft = self._lengths(signal.sampling_rate)
        if self.num_frames(len(signal.samples), signal.sampling_rate) == 0:
            raise AudioError(f"{len(signal.samples)} samples are too short for a Fourier transform of {n_fft} samples")
        spectrum: npt.NDArray[np.complex64] = librosa.stft(
            signal.samples, n_fft=n_fft, hop_length=hop, win_length=window, window="hann", center=self.config.center
        )
        return spectrum

    def _lengths(self, sampling_rate: int) -> tuple[int, int, int]:
        window = _in_samples("window", self.config.window, sampling_rate)
        hop = _in_samples("hop", self.config.hop, sampling_rate)
        n_fft = 1 << (window - 1).bit_length() if self.config.n_fft is None else self.config.n_fft
        if window > n_fft:
            raise ModelError(f"a window of {window} samples does not fit into --n-fft {n_fft}")
        return window, hop, n_fft


def _in_samples(option: str, length: str, sampling_rate: int) -> int:
    if not re.fullmatch(r"\d+(\.\d+)?ms|[1-9]\d*samples", length) or _number(length) == 0:
        raise ModelError(f"--{option} is {length!r}, expected a length such as 25ms or 400samples")
    number = _number(length)
    return max(1, round(number * sampling_rate / 1000)) if length.endswith("ms") else int(number)


def _number(length: str) -> float:
    return float(length.removesuffix("ms").removesuffix("samples"))
