"""File → Recording → Signal: all decoding, mixing down and resampling."""

import math
from collections.abc import Callable, Generator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from threading import Lock

import numpy as np
import numpy.typing as npt

from featcache.audio.containers import ContainerError
from featcache.audio.decoding import opened, read_header
from featcache.audio.header import Header
from featcache.audio.source_file import sha256_of_audio
from featcache.errors import AudioError
from featcache.manifest import Utterance
from featcache.settings.extractor_configs import ChannelPolicy

# Time in seconds by which an utterance may end after its file, because some labels are rounded to a tenth of a second.
END_TOLERANCE = 0.1

# Number of samples per channel that a stream decodes at a time.
BLOCK = 2**16


@dataclass(frozen=True, kw_only=True)
class Signal:
    """Input of an extractor: one channel at one sampling rate.

    Attributes:
        samples: Mono samples, (num_samples,) float32, nominally in [-1, 1].
        sampling_rate: Sampling rate in Hz.
    """

    samples: npt.NDArray[np.float32]
    sampling_rate: int


@dataclass(frozen=True, kw_only=True)
class Recording:
    """Decoded utterance.

    Attributes:
        channels: Samples, (num_channels, num_samples) float32, nominally in [-1, 1].
        sampling_rate: Sampling rate of the file in Hz.
        sha256: SHA-256 of the bytes of the file, in hexadecimal.
    """

    channels: npt.NDArray[np.float32]
    sampling_rate: int
    sha256: str

    @property
    def duration(self) -> float:
        """Duration in seconds."""
        return float(self.channels.shape[1] / self.sampling_rate)

    def signal(
        self, *, channel: ChannelPolicy = "mean", sampling_rate: int | None = None, max_seconds: float | None = None
    ) -> Signal:
        """Mix down and resample as ``librosa.load(path, sr=sampling_rate)`` does (soxr, high quality).

        Args:
            channel: ``mean`` for the average of all channels, ``first`` for the first channel.
            sampling_rate: Sampling rate in Hz; None keeps the sampling rate of the file.
            max_seconds: Maximum duration in seconds, from the beginning; None keeps all.
        """
        kept = self.channels[:, : kept_samples(self.channels.shape[1], self.sampling_rate, max_seconds)]
        mono = _mixed(kept, channel)
        rate = sampling_rate or self.sampling_rate
        return Signal(samples=_resample(mono, self.sampling_rate, rate), sampling_rate=rate)


def kept_samples(num_samples: int, sampling_rate: int, max_seconds: float | None) -> int:
    """Return the number of samples of an utterance that are used.

    Args:
        num_samples: Number of samples of the utterance.
        sampling_rate: Sampling rate in Hz.
        max_seconds: Maximum duration in seconds; None keeps all.
    """
    return num_samples if max_seconds is None else min(num_samples, round(max_seconds * sampling_rate))


def resampled_length(num_samples: int, original_rate: int, sampling_rate: int | None) -> int:
    """Return the number of samples that :meth:`Recording.signal` returns.

    Args:
        num_samples: Number of samples before resampling.
        original_rate: Sampling rate of the file in Hz.
        sampling_rate: New sampling rate in Hz; None keeps the sampling rate of the file.
    """
    return num_samples if sampling_rate is None else math.ceil(num_samples * sampling_rate / original_rate)


class Checksums:
    """SHA-256 of files; each file is read only once, even if it contains many utterances.

    Args:
        checksum: Function that reads a file and returns its SHA-256; None for :func:`sha256_of_audio`.
    """

    def __init__(self, checksum: Callable[[Path], str] | None = None) -> None:
        self._turn = Lock()
        self._known = lru_cache(maxsize=4096)(checksum or sha256_of_audio)

    def __call__(self, path: Path) -> str:
        """Return the SHA-256 of a file, in hexadecimal."""
        with self._turn:
            return self._known(path)


def read(
    folder: Path,
    utterance: Utterance,
    *,
    max_seconds: float | None = None,
    checksum: Callable[[Path], str] = sha256_of_audio,
) -> Recording:
    """Decode one utterance, but not the rest of its file.

    Args:
        folder: Corpus folder; the path of the utterance is relative to it.
        utterance: Utterance to decode.
        max_seconds: Maximum duration in seconds, from the beginning of the utterance; None decodes all.
        checksum: Function that returns the SHA-256 of a file; :class:`Checksums` remembers it.

    Raises:
        AudioError: the file is missing, is not audio, is cut off, contains no samples between the start and the end of
            the utterance, or contains samples that are not finite.
    """
    sha256 = checksum_of(folder, utterance, checksum)
    with opened(folder, utterance.path) as decoder:
        rate = decoder.header.sampling_rate
        first, last = stretch_of(utterance, decoder.header.num_samples, rate)
        last = first + kept_samples(last - first, rate, max_seconds)
        decoder.seek(first)
        samples = decoder.read(last - first)
        _check_length(utterance, first + len(samples), last)
    if not np.isfinite(samples).all():
        raise AudioError(f"{utterance.path}: contains {np.sum(~np.isfinite(samples))} samples that are NaN or infinite")
    return Recording(channels=np.ascontiguousarray(samples.T), sampling_rate=rate, sha256=sha256)


def stream(
    folder: Path,
    utterance: Utterance,
    *,
    channel: ChannelPolicy = "mean",
    sampling_rate: int | None = None,
    max_seconds: float | None = None,
) -> Generator[npt.NDArray[np.float32], None, None]:
    """Decode, mix down and resample one utterance in bounded memory.

    Args:
        folder: Corpus folder; the path of the utterance is relative to it.
        utterance: Utterance to decode.
        channel: ``mean`` for the average of all channels, ``first`` for the first channel.
        sampling_rate: Sampling rate in Hz; None keeps the sampling rate of the file.
        max_seconds: Maximum duration in seconds, from the beginning; None decodes all.

    Yields:
        Blocks of samples, (num_samples,) float32. Together they equal the samples of ``read(…).signal(…)`` to the last
        bit. For MP3 the difference is at most 1e-6, because the decoder rounds differently.

    Raises:
        AudioError: see :func:`read`.
    """
    with opened(folder, utterance.path) as decoder:
        rate = decoder.header.sampling_rate
        first, last = stretch_of(utterance, decoder.header.num_samples, rate)
        last = first + kept_samples(last - first, rate, max_seconds)
        decoder.seek(first)
        missing = resampled_length(last - first, rate, sampling_rate)
        resample = _resampler(rate, sampling_rate or rate)
        while first < last:
            samples = decoder.read(min(BLOCK, last - first))
            _check_length(utterance, first + len(samples), min(first + BLOCK, last), announced=last)
            if not np.isfinite(samples).all():
                raise AudioError(f"{utterance.path}: contains samples that are NaN or infinite")
            first += len(samples)
            block = resample(_mixed(np.ascontiguousarray(samples.T), channel), first == last)[:missing]
            missing -= len(block)
            yield block
        yield np.zeros(missing, dtype=np.float32)


def checksum_of(folder: Path, utterance: Utterance, checksum: Callable[[Path], str]) -> str:
    """Return the SHA-256 of the file of an utterance.

    Args:
        folder: Corpus folder; the path of the utterance is relative to it.
        utterance: Utterance in the file.
        checksum: Function that returns the SHA-256 of a file.

    Raises:
        AudioError: the file cannot be read.
    """
    try:
        return checksum(folder / utterance.path)
    except ContainerError as error:
        raise AudioError(f"{utterance.path}: {error}") from error
    except OSError as error:
        raise AudioError(f"{utterance.path}: cannot be read ({error.strerror})") from error


def probe(folder: Path, utterance: Utterance, headers: Callable[[str], Header] | None = None) -> tuple[int, int]:
    """Return the number of samples and the sampling rate of an utterance, from the header of its file.

    Args:
        folder: Corpus folder; the path of the utterance is relative to it.
        utterance: Utterance to look up.
        headers: Function that returns the header of a path; ``KnownFiles.header`` remembers it.

    Returns:
        Number of samples per channel, and sampling rate in Hz.

    Raises:
        AudioError: see :func:`read`, for faults that the header shows.
    """
    header = read_header(folder, utterance.path) if headers is None else headers(utterance.path)
    first, last = stretch_of(utterance, header.num_samples, header.sampling_rate)
    return last - first, header.sampling_rate


def _check_length(utterance: Utterance, decoded: int, expected: int, *, announced: int | None = None) -> None:
    if decoded < expected:
        raise AudioError(
            f"{utterance.path}: cut off, {announced or expected} samples announced, decoding ended at {decoded}"
        )


def _mixed(channels: npt.NDArray[np.float32], channel: ChannelPolicy) -> npt.NDArray[np.float32]:
    mono: npt.NDArray[np.float32] = channels[0] if channel == "first" else channels.mean(axis=0, dtype=np.float32)
    return mono


def stretch_of(utterance: Utterance, num_samples: int, rate: int) -> tuple[int, int]:
    """Return the positions of the first sample of an utterance in its file, and after its last sample.

    Args:
        utterance: The utterance.
        num_samples: Number of samples per channel in the file.
        rate: Sampling rate of the file in Hz.

    Raises:
        AudioError: the file has no samples, or none between the start and the end of the utterance.
    """
    length = num_samples / rate
    if num_samples == 0:
        raise AudioError(f"{utterance.path}: contains no samples")
    first = round((utterance.start or 0.0) * rate)
    last = num_samples if utterance.end is None else round(utterance.end * rate)
    if last > num_samples + END_TOLERANCE * rate:
        raise AudioError(f"{utterance.path}: the utterance ends at {utterance.end} s, the file at {length:.2f} s")
    last = min(last, num_samples)
    if first >= last:
        raise AudioError(
            f"{utterance.path}: no samples between {first / rate:.2f} s and {last / rate:.2f} s "
            f"(length {length:.2f} s); fix start/end in the manifest"
        )
    return first, last


def _resampler(rate: int, new_rate: int) -> Callable[[npt.NDArray[np.float32], bool], npt.NDArray[np.float32]]:
    """Return a function that resamples successive blocks. Its second argument says whether a block is the last one."""
    if rate == new_rate:
        return lambda samples, _: samples
    import soxr

    converter = soxr.ResampleStream(rate, new_rate, 1, dtype="float32", quality="HQ")
    return lambda samples, last: converter.resample_chunk(samples, last=last)


def _resample(samples: npt.NDArray[np.float32], rate: int, new_rate: int) -> npt.NDArray[np.float32]:
    if rate == new_rate:
        return samples
    import soxr

    resampled = np.zeros(resampled_length(len(samples), rate, new_rate), dtype=np.float32)
    converted = soxr.resample(samples, rate, new_rate, quality="HQ")[: len(resampled)]
    resampled[: len(converted)] = converted
    return resampled
