"""File → Recording → Signal. The only place that decodes, mixes down and resamples."""

import math
from collections.abc import Callable, Generator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from threading import Lock

import numpy as np
import numpy.typing as npt

from featcache.audio.decoding import Header, opened, read_header
from featcache.errors import AudioError
from featcache.files.regular import sha256_of_file
from featcache.manifest import Utterance
from featcache.settings.extractor_configs import ChannelPolicy

# Labels rounded to a tenth of a second may end a little after the file does.
END_TOLERANCE = 0.1

# Samples of each channel that a stream decodes at a time.
BLOCK = 2**16


@dataclass(frozen=True, kw_only=True)
class Signal:
    """What an extractor sees: one channel at one rate.

    Attributes:
        samples: (num_samples,) float32, mono, nominally in [-1, 1].
        sampling_rate: In Hz.
    """

    samples: npt.NDArray[np.float32]
    sampling_rate: int


@dataclass(frozen=True, kw_only=True)
class Recording:
    """An utterance as it was decoded.

    Attributes:
        channels: (num_channels, num_samples) float32, nominally in [-1, 1].
        sampling_rate: Of the file, in Hz.
        sha256: Of the file's bytes, in hexadecimal.
    """

    channels: npt.NDArray[np.float32]
    sampling_rate: int
    sha256: str

    @property
    def duration(self) -> float:
        """In seconds."""
        return float(self.channels.shape[1] / self.sampling_rate)

    def signal(
        self, *, channel: ChannelPolicy = "mean", sampling_rate: int | None = None, max_seconds: float | None = None
    ) -> Signal:
        """Mix down and resample as ``librosa.load(path, sr=sampling_rate)`` does (soxr, high quality).

        Args:
            channel: ``mean`` averages all channels, ``first`` takes the first one.
            sampling_rate: In Hz; None keeps the rate of the file.
            max_seconds: Only so much from the beginning; None keeps all.
        """
        kept = self.channels[:, : kept_samples(self.channels.shape[1], self.sampling_rate, max_seconds)]
        mono = _mixed(kept, channel)
        rate = sampling_rate or self.sampling_rate
        return Signal(samples=_resample(mono, self.sampling_rate, rate), sampling_rate=rate)


def kept_samples(num_samples: int, sampling_rate: int, max_seconds: float | None) -> int:
    """How many of an utterance's samples are used."""
    return num_samples if max_seconds is None else min(num_samples, round(max_seconds * sampling_rate))


def resampled_length(num_samples: int, original_rate: int, sampling_rate: int | None) -> int:
    """The number of samples that :meth:`Recording.signal` returns."""
    return num_samples if sampling_rate is None else math.ceil(num_samples * sampling_rate / original_rate)


class Checksums:
    """SHA-256 of files, each of which is read once although many utterances may lie in it."""

    def __init__(self) -> None:
        self._turn = Lock()
        self._known = lru_cache(maxsize=4096)(sha256_of_file)

    def __call__(self, path: Path) -> str:
        with self._turn:
            return self._known(path)


def read(
    folder: Path,
    utterance: Utterance,
    *,
    max_seconds: float | None = None,
    checksum: Callable[[Path], str] = sha256_of_file,
) -> Recording:
    """Decode one utterance, and no more of its file than that.

    Args:
        folder: The corpus folder, to which the utterance's path is relative.
        max_seconds: Decode only so much from the utterance's beginning; None decodes all.
        checksum: What gives the SHA-256 of a file; :class:`Checksums` remembers it.

    Raises:
        AudioError: the file is missing, is no audio, is cut off, holds no samples in the utterance's stretch,
            or holds samples that are not finite.
    """
    sha256 = checksum_of(folder, utterance, checksum)
    with opened(folder, utterance.path) as decoder:
        rate = decoder.header.sampling_rate
        first, last = _stretch(utterance, decoder.header.num_samples, rate)
        last = first + kept_samples(last - first, rate, max_seconds)
        decoder.seek(first)
        samples = decoder.read(last - first)
        _check_length(utterance, first + len(samples), last)
    if not np.isfinite(samples).all():
        raise AudioError(f"{utterance.path}: holds {np.sum(~np.isfinite(samples))} samples that are NaN or infinite")
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
        folder: The corpus folder, to which the utterance's path is relative.
        channel: As of :meth:`Recording.signal`; likewise the others.

    Yields:
        (num_samples,) float32: one after the other, the samples that ``read(…).signal(…)`` gives, to the last bit; of
            MP3, which is decoded in other sums, to 1e-6.

    Raises:
        AudioError: as :func:`read`.
    """
    with opened(folder, utterance.path) as decoder:
        rate = decoder.header.sampling_rate
        first, last = _stretch(utterance, decoder.header.num_samples, rate)
        last = first + kept_samples(last - first, rate, max_seconds)
        decoder.seek(first)
        missing = resampled_length(last - first, rate, sampling_rate)
        resample = _resampler(rate, sampling_rate or rate)
        while first < last:
            samples = decoder.read(min(BLOCK, last - first))
            _check_length(utterance, first + len(samples), min(first + BLOCK, last), announced=last)
            if not np.isfinite(samples).all():
                raise AudioError(f"{utterance.path}: holds samples that are NaN or infinite")
            first += len(samples)
            block = resample(_mixed(np.ascontiguousarray(samples.T), channel), first == last)[:missing]
            missing -= len(block)
            yield block
        yield np.zeros(missing, dtype=np.float32)


def checksum_of(folder: Path, utterance: Utterance, checksum: Callable[[Path], str]) -> str:
    """The SHA-256 of an utterance's file.

    Raises:
        AudioError: the file cannot be read.
    """
    try:
        return checksum(folder / utterance.path)
    except OSError as error:
        raise AudioError(f"{utterance.path}: cannot be read ({error.strerror})") from error


class Headers:
    """Headers of files, each of which is read once although many utterances may lie in it.

    Args:
        folder: The corpus folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: dict[str, Header | str] = {}

    def __call__(self, path: str) -> Header:
        """The header of a file, relative to the corpus folder.

        Raises:
            AudioError: as :func:`probe`, the first time and every other time.
        """
        known = self._known.get(path)
        if known is None:
            try:
                known = read_header(self._folder, path)
            except AudioError as error:
                known = str(error)
            self._known[path] = known
        if isinstance(known, str):
            raise AudioError(known)
        return known


def probe(folder: Path, utterance: Utterance, headers: Headers | None = None) -> tuple[int, int]:
    """Read the header alone: the utterance's (num_samples, sampling_rate).

    Args:
        folder: The corpus folder, to which the utterance's path is relative.
        headers: Where headers are kept, of a folder with many utterances in a file.

    Raises:
        AudioError: as :func:`read`, as far as a header can tell.
    """
    header = read_header(folder, utterance.path) if headers is None else headers(utterance.path)
    first, last = _stretch(utterance, header.num_samples, header.sampling_rate)
    return last - first, header.sampling_rate


def _check_length(utterance: Utterance, decoded: int, expected: int, *, announced: int | None = None) -> None:
    if decoded < expected:
        raise AudioError(
            f"{utterance.path}: cut off, {announced or expected} samples announced, decoding ended at {decoded}"
        )


def _mixed(channels: npt.NDArray[np.float32], channel: ChannelPolicy) -> npt.NDArray[np.float32]:
    mono: npt.NDArray[np.float32] = channels[0] if channel == "first" else channels.mean(axis=0, dtype=np.float32)
    return mono


def _stretch(utterance: Utterance, num_samples: int, rate: int) -> tuple[int, int]:
    length = num_samples / rate
    if num_samples == 0:
        raise AudioError(f"{utterance.path}: holds no samples")
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
    """What resamples blocks, one after the other; it is told which is the last."""
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
