"""Signal → log-mel spectrogram, computed by librosa."""

import warnings
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from featcache.audio import Signal
from featcache.errors import AudioError, ModelError
from featcache.extractors.spectrogram import SpectrogramExtractor
from featcache.features import Features
from featcache.settings.extractor_configs import LogMelConfig

# For good, because catch_warnings would change the filters under other threads' feet; empty bands are refused below.
warnings.filterwarnings("ignore", "Empty filters detected", UserWarning)


class LogMelExtractor(SpectrogramExtractor):
    """Decimal logarithm of the power in mel bands: (1, num_frames, n_mels).

    Frames, window and padding are those of the spectrogram. No value depends on the loudness of the whole utterance, so
    that windows of a long one give the same as the whole.

    Raises:
        ModelError: bands that no bin of the Fourier transform falls into, or that reach beyond half the sampling rate.
    """

    Config = LogMelConfig
    config: LogMelConfig
    averages_frames: ClassVar[bool] = True

    def __init__(self, config: LogMelConfig) -> None:
        if config.sampling_rate is None and config.fmax is None:
            raise ModelError("logmel at the files' own sampling rates needs fmax, so that all have the same bands")
        super().__init__(config)
        if config.sampling_rate is not None:
            self._filters(config.sampling_rate)

    def settings(self) -> dict[str, Any]:
        return {**super().settings(), "extractor": "logmel"}

    def _shape(self) -> tuple[int, int, int]:
        return 1, 1, self.config.n_mels

    def _extract_one(self, signal: Signal) -> Features:
        try:
            filters = self._filters(signal.sampling_rate)
        except ModelError as error:  # of this file's own rate
            raise AudioError(str(error)) from error
        power = np.abs(self._spectrum(signal)) ** 2
        bands = np.einsum("ft,mf->tm", power, filters, optimize=True)
        return np.ascontiguousarray(np.log10(np.maximum(bands, self.config.floor))[None], dtype=np.float32)

    def _filters(self, rate: int) -> npt.NDArray[np.float32]:
        """Return (n_mels, n_fft // 2 + 1) float32 weights of the bands."""
        _, _, n_fft = self._lengths(rate)
        config = self.config
        highest = rate / 2 if config.fmax is None else config.fmax
        if not config.fmin < highest <= rate / 2:
            raise ModelError(
                f"mel bands from fmin {config.fmin:g} to fmax {highest:g} Hz do not fit the sampling rate {rate} Hz; "
                f"expected fmin < fmax <= {rate / 2:g}"
            )
        filters = _mel_filters(rate, n_fft, config.n_mels, config.fmin, highest, config.htk)
        empty = int((filters.max(axis=1) == 0).sum())
        if empty:
            raise ModelError(
                f"{empty} of {config.n_mels} mel bands are narrower than a bin of the Fourier transform of {n_fft} "
                f"samples at {rate} Hz; take a larger --n-fft or fewer n_mels"
            )
        return filters


@lru_cache(maxsize=16)
def _mel_filters(rate: int, n_fft: int, n_mels: int, fmin: float, fmax: float, htk: bool) -> npt.NDArray[np.float32]:
    import librosa

    found: npt.NDArray[np.float32] = librosa.filters.mel(
        sr=rate, n_fft=n_fft, n_mels=n_mels, fmin=fmin, fmax=fmax, htk=htk
    )
    return found
