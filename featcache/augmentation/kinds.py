"""Kinds of augmentation: another speed, reverberation, noise. Each changes a mono signal with the given random numbers.

Synthetic noise and synthetic impulse responses are computed here, because the noise of audiomentations uses the random
numbers of the whole process, which several threads share. Files are read and mixed by audiomentations, with parameters
that are chosen here.
"""

import re
import warnings
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from featcache.augmentation.audio_folder import AudioFolder
from featcache.errors import AudioError, MissingPackageError, in_one_line

Samples = npt.NDArray[np.float32]

COLOURS = ("white", "pink")
REVERBERATION_TIMES = (0.2, 0.8)
# Ratio of direct to reverberant energy of synthetic impulse responses, in dB.
DIRECT_TO_REVERBERANT = (0.0, 10.0)
# Value of a text in place of the path of a folder, which is not recorded.
FILES = "files"

# audiomentations warns about each file of another sampling rate, and about each stretch of a file that is silent.
warnings.filterwarnings("ignore", r".* had to be resampled from .*", UserWarning)
warnings.filterwarnings("ignore", r"The file .* is too silent to be added as noise", UserWarning)


@dataclass(frozen=True, kw_only=True)
class Augmentation(ABC):
    """Change of a signal, applied with a probability.

    Attributes:
        p: Probability that an utterance is changed, in [0, 1].
        folder: Files that are used; None for synthetic ones, or if the change needs none.
    """

    kind: ClassVar[str]
    p: float = 1.0
    folder: AudioFolder | None = None

    @abstractmethod
    def values(self) -> str:
        """Return the values in the text of the option, without a folder."""

    @abstractmethod
    def apply(self, samples: Samples, sampling_rate: int, rng: np.random.Generator) -> Samples:
        """Return the changed signal.

        Args:
            samples: (num_samples,) float32.
            sampling_rate: Sampling rate in Hz.
            rng: Source of all random numbers.

        Returns:
            (num_samples,) float32; only another speed changes the number of samples.

        Raises:
            AudioError: a file of the folder cannot be read.
        """

    @property
    def text(self) -> str:
        """Text of the option, in one form: the folder is replaced by ``files``, and a probability of 1 is omitted."""
        parts = [self.kind, self.values(), FILES if self.folder else "", "" if self.p == 1 else f"p={number(self.p)}"]
        return ":".join(filter(None, parts))

    @property
    def name(self) -> str:
        """Part of the name of a view: ``noise10-20``."""
        folder = Path(self.folder.path).name[:20] if self.folder else ""
        parts = [self.kind + self.values(), folder, "" if self.p == 1 else f"p{number(self.p)}"]
        return "-".join(filter(None, (re.sub(r"[^\w.]+", "-", part).strip("-.") for part in parts)))


@dataclass(frozen=True, kw_only=True)
class Speed(Augmentation):
    """Another speed, by resampling: duration, pitch and formants change together.

    Source: Ko et al. 2015, "Audio augmentation for speech recognition".

    Attributes:
        factors: Factors, one of which is drawn; 1.1 shortens a signal to 1 / 1.1 of its duration.
    """

    kind: ClassVar[str] = "speed"
    factors: tuple[float, ...]

    def values(self) -> str:
        return ",".join(map(number, self.factors))

    def draw(self, rng: np.random.Generator) -> float:
        """Return the factor of an utterance."""
        return self.factors[int(rng.integers(len(self.factors)))]

    def apply(self, samples: Samples, sampling_rate: int, rng: np.random.Generator) -> Samples:
        import soxr

        factor = self.draw(rng)
        if factor == 1:
            return samples
        changed: Samples = soxr.resample(samples, factor * sampling_rate, sampling_rate, quality="HQ")
        return changed


@dataclass(frozen=True, kw_only=True)
class Reverb(Augmentation):
    """Reverberation: convolution with an impulse response. The root mean square of the signal stays the same.

    Attributes:
        seconds: Shortest and longest reverberation time (RT60) of synthetic impulse responses, in seconds.
    """

    kind: ClassVar[str] = "reverb"
    seconds: tuple[float, float] = REVERBERATION_TIMES

    def values(self) -> str:
        return "" if self.folder or self.seconds == REVERBERATION_TIMES else "-".join(map(number, self.seconds))

    def apply(self, samples: Samples, sampling_rate: int, rng: np.random.Generator) -> Samples:
        from scipy.signal import fftconvolve

        if self.folder:
            path, _ = _draw_file(self.folder, rng)
            wet = _transformed("ApplyImpulseResponse", path, {"ir_file_path": path}, samples, sampling_rate)
        else:
            response = impulse_response(rng, rng.uniform(*self.seconds), sampling_rate)
            wet = fftconvolve(samples, response)[: len(samples)].astype(np.float32)
        level = rms(wet)
        return wet * np.float32(rms(samples) / level) if level > 0 else wet


@dataclass(frozen=True, kw_only=True)
class Noise(Augmentation):
    """Additive noise.

    Attributes:
        snr: Lowest and highest signal-to-noise ratio in dB, over the whole utterance; infinity adds no noise.
        colours: Colours of synthetic noise, one of which is drawn.
    """

    kind: ClassVar[str] = "noise"
    snr: tuple[float, float]
    colours: tuple[str, ...] = COLOURS

    def values(self) -> str:
        bounds = self.snr[:1] if self.snr[0] == self.snr[1] else self.snr
        one = len(self.colours) == 1 and not self.folder
        return "-".join(map(number, bounds)) + (f":{self.colours[0]}" if one else "")

    def apply(self, samples: Samples, sampling_rate: int, rng: np.random.Generator) -> Samples:
        low, high = self.snr
        snr = low if low == high else float(rng.uniform(low, high))
        if self.folder:
            path, duration = _draw_file(self.folder, rng)
            seconds = len(samples) / sampling_rate
            offset = float(rng.uniform(0.0, max(0.0, duration - seconds)))
            chosen = {"noise_file_path": path, "snr_db": snr, "offset": offset, "duration": seconds}
            return _transformed("AddBackgroundNoise", path, chosen, samples, sampling_rate)
        noise = coloured_noise(rng, self.colours[int(rng.integers(len(self.colours)))], len(samples))
        level = rms(noise)
        gain = rms(samples) / (level * 10 ** (snr / 20)) if level > 0 else 0.0
        return samples + noise * np.float32(gain)


def number(value: float) -> str:
    """Return a number with all its digits, so that different augmentations have different texts."""
    return f"{value:.15g}"


def rms(samples: Samples) -> float:
    """Return the root mean square of a (num_samples,) signal."""
    return float(np.sqrt(np.mean(np.square(samples, dtype=np.float64)))) if len(samples) else 0.0


def coloured_noise(rng: np.random.Generator, colour: str, num_samples: int) -> Samples:
    """Return Gaussian noise, (num_samples,) float32: ``white``, or ``pink``, whose power is as 1 / frequency."""
    white = rng.standard_normal(num_samples)
    if colour == "white" or num_samples < 2:
        return white.astype(np.float32)
    spectrum = np.fft.rfft(white)
    spectrum[1:] /= np.sqrt(np.arange(1, len(spectrum)))
    spectrum[0] = 0
    return np.fft.irfft(spectrum, num_samples).astype(np.float32)


def impulse_response(rng: np.random.Generator, seconds: float, sampling_rate: int) -> npt.NDArray[np.float64]:
    """Return a synthetic impulse response: direct sound, then noise whose energy falls by 60 dB in ``seconds``.

    Returns:
        (num_samples,) float64.

    Source: Polack 1988, reverberation as exponentially decaying Gaussian noise.
    """
    time = np.arange(1, max(2, round(seconds * sampling_rate))) / sampling_rate
    tail = rng.standard_normal(len(time)) * 10 ** (-3 * time / seconds)
    ratio = 10 ** (rng.uniform(*DIRECT_TO_REVERBERANT) / 10)
    return np.concatenate([[1.0], tail / np.sqrt(ratio * np.sum(tail**2))])


def require_audiomentations() -> Any:
    """Return the package audiomentations.

    Raises:
        MissingPackageError: it is not installed.
    """
    try:
        import audiomentations
    except ImportError as error:
        raise MissingPackageError(
            f"--augment with a folder needs {error.name or 'audiomentations'}, which is not installed: "
            "pip install 'featcache[augment]'"
        ) from None
    return audiomentations


def _draw_file(folder: AudioFolder, rng: np.random.Generator) -> tuple[str, float]:
    """Return the path of a file and its duration in seconds."""
    name, duration = folder.files[int(rng.integers(len(folder.files)))]
    return str(Path(folder.path) / name), duration


def _transformed(name: str, path: str, chosen: dict[str, Any], samples: Samples, sampling_rate: int) -> Samples:
    """Return a signal that a transform of audiomentations changed with the given parameters and no random number."""
    transform = getattr(require_audiomentations(), name)(path, p=1.0)
    transform.parameters = {"should_apply": True, **chosen}
    transform.freeze_parameters()
    try:
        changed: Samples = transform(samples, sampling_rate)
    except (EOFError, OSError, RuntimeError, ValueError) as error:
        raise AudioError(f"{path} cannot be used for augmentation ({in_one_line(error)})") from error
    return changed.astype(np.float32, copy=False)
