"""File → Recording → Signal. The only place that decodes, mixes down and resamples."""

import hashlib
import io
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from featcache.errors import AudioError
from featcache.manifest import Utterance

ChannelPolicy = Literal["mean", "first"]

# Labels rounded to a tenth of a second may end a little after the file does.
END_TOLERANCE = 0.1


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
        mono = kept[0] if channel == "first" else kept.mean(axis=0, dtype=np.float32)
        rate = sampling_rate or self.sampling_rate
        return Signal(samples=_resample(mono, self.sampling_rate, rate), sampling_rate=rate)


def kept_samples(num_samples: int, sampling_rate: int, max_seconds: float | None) -> int:
    """How many of an utterance's samples are used."""
    return num_samples if max_seconds is None else min(num_samples, round(max_seconds * sampling_rate))


def resampled_length(num_samples: int, original_rate: int, sampling_rate: int | None) -> int:
    """The number of samples that :meth:`Recording.signal` returns."""
    return num_samples if sampling_rate is None else math.ceil(num_samples * sampling_rate / original_rate)


def read(folder: Path, utterance: Utterance) -> Recording:
    """Decode one utterance.

    Args:
        folder: The corpus folder, to which the utterance's path is relative.

    Raises:
        AudioError: the file is missing, is no audio, is cut off, holds no samples in the utterance's stretch,
            or holds samples that are not finite.
    """
    import soundfile

    try:
        content = (folder / utterance.path).read_bytes()
    except OSError as error:
        raise AudioError(f"{utterance.path}: cannot be read ({error.strerror})") from error
    try:
        with soundfile.SoundFile(io.BytesIO(content)) as file:
            _check_whole(file, utterance.path)
            rate = int(file.samplerate)
            first, last = _stretch(utterance, file.frames, rate)
            file.seek(first)
            samples = file.read(last - first, dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as error:
        raise AudioError(f"{utterance.path}: not readable as audio ({_reason(error)})") from error
    if len(samples) < last - first:
        raise AudioError(
            f"{utterance.path}: cut off, {last} samples announced, decoding ended at {first + len(samples)}"
        )
    if not np.isfinite(samples).all():
        raise AudioError(f"{utterance.path}: holds {np.sum(~np.isfinite(samples))} samples that are NaN or infinite")
    return Recording(
        channels=np.ascontiguousarray(samples.T), sampling_rate=rate, sha256=hashlib.sha256(content).hexdigest()
    )


def probe(folder: Path, utterance: Utterance) -> tuple[int, int]:
    """Read the header alone: the utterance's (num_samples, sampling_rate).

    Raises:
        AudioError: as :func:`read`, as far as a header can tell.
    """
    import soundfile

    path = folder / utterance.path
    try:
        if not path.is_file():
            raise AudioError(f"{utterance.path}: {'is a folder' if path.is_dir() else 'no such file'}")
        with soundfile.SoundFile(path) as file:
            _check_whole(file, utterance.path)
            first, last = _stretch(utterance, file.frames, int(file.samplerate))
            return last - first, int(file.samplerate)
    except soundfile.LibsndfileError as error:
        raise AudioError(f"{utterance.path}: not readable as audio ({_reason(error)})") from error
    except OSError as error:
        raise AudioError(f"{utterance.path}: cannot be read ({error.strerror})") from error


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


def _check_whole(file: Any, path: str) -> None:
    # libsndfile reads a WAV whose end is missing without complaint and only notes it in its log;
    # a size near 2^32 is the mark of a stream whose length was not known when its header was written
    short = re.search(r"^data : (\d+) \(should be (\d+)\)", file.extra_info, re.MULTILINE)
    if short and int(short[2]) < int(short[1]) < 0x7FFFF000:
        raise AudioError(f"{path}: cut off, the header announces {short[1]} bytes of samples, the file has {short[2]}")


def _reason(error: Any) -> str:
    return str(error.error_string).strip().rstrip(".")


def _resample(samples: npt.NDArray[np.float32], rate: int, new_rate: int) -> npt.NDArray[np.float32]:
    if rate == new_rate:
        return samples
    import soxr

    resampled = np.zeros(resampled_length(len(samples), rate, new_rate), dtype=np.float32)
    converted = soxr.resample(samples, rate, new_rate, quality="HQ")[: len(resampled)]
    resampled[: len(converted)] = converted
    return resampled
