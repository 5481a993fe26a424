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

# The filter is never removed, because catch_warnings is not safe in threads. Empty bands are refused below.
warnings.filterwarnings("ignore", "Empty filters detected", UserWarning)


class LogMelExtractor(SpectrogramExtractor):
    """Log-mel spectrogram, the decimal logarithm of the power in mel bands: (1, num_frames, n_mels).

    Frames, window and padding are the same as for the spectrogram. No value depends on the loudness of the whole
    utterance; therefore windows of a long utterance give the same features as the whole.

    Raises:
        ModelError: mel bands contain no bin of the Fourier transform, or exceed half the sampling rate; each file's own
            sampling rate is used, but ``fmax`` is missing.
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
        except ModelError as error:  # This file's own sampling rate does not fit the bands.
            raise AudioError(str(error)) from error
        power = np.abs(self._spectrum(signal)) ** 2
        bands = np.einsum("ft,mf->tm", power, filters, optimize=True)
        return np.ascontiguousarray(np.log10(np.maximum(bands, self.config.floor))[None], dtype=np.float32)

    def _filters(self, rate: int) -> npt.NDArray[np.float32]:
        """Return the weights of the mel bands: (n_mels, n_fft // 2 + 1) float32."""
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
                f"{empty} of {config.n_mels} mel bands contain no bin of the Fourier transform of {n_fft} samples at "
                f"{rate} Hz; use a larger --n-fft or fewer n_mels"
            )
        return filters


@lru_cache(maxsize=16)
def _mel_filters(rate: int, n_fft: int, n_mels: int, fmin: float, fmax: float, htk: bool) -> npt.NDArray[np.float32]:
    import librosa

    found: npt.NDArray[np.float32] = librosa.filters.mel(
        sr=rate, n_fft=n_fft, n_mels=n_mels, fmin=fmin, fmax=fmax, htk=htk
    )
    return found
