"""Seed → folder of synthetic speech with its manifest.csv.

A source-filter synthesiser produces random syllables: glottal pulses and noise, filtered by the resonances of a vocal
tract. The emotions differ in pitch, loudness, tempo and spectral tilt, in the directions that Juslin & Laukka (2003,
Table 7) report for human speech. The corpus is for demonstrations and tests: accuracies on it say nothing about real
emotional speech.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.io import wavfile
from scipy.signal import lfilter, sosfilt

from featcache.corpora.folder import MANIFEST
from featcache.errors import CorpusError, unknown_name
from featcache.manifest import Manifest, Utterance

Signal = NDArray[np.float64]

SAMPLING_RATE = 16_000
NUM_SYLLABLES = 6
PAUSE = 0.08  # seconds of silence at the start and at the end

# Formants 1 to 5 in Hz. Source of 1 to 3: Peterson & Barney 1952, Table II, men; 4 and 5 are of a 17.5 cm tube.
VOWELS = {
    "i": (270, 2290, 3010, 3500, 4500),
    "e": (530, 1840, 2480, 3500, 4500),
    "a": (730, 1090, 2440, 3500, 4500),
    "o": (570, 840, 2410, 3500, 4500),
    "u": (300, 870, 2240, 3500, 4500),
}
BANDWIDTHS = (60, 90, 150, 200, 300)
# Centre and bandwidth of the noise, in Hz; m is voiced instead.
CONSONANTS = {"s": (5500, 1500), "sh": (3000, 1200), "f": (6500, 5000), "m": (250, 100)}


@dataclass(frozen=True, kw_only=True)
class Manner:
    """Prosody of an emotion.

    Attributes:
        pitch: Mean F0, in semitones relative to the speaker's mean.
        range: Standard deviation of F0 within an utterance, in semitones.
        loudness: Level in dB, relative to neutral speech.
        tempo: Syllables per second.
        tilt: Pole of the low-pass filter on the glottal source; values near 1 sound dull.
    """

    pitch: float
    range: float
    loudness: float
    tempo: float
    tilt: float


EMOTIONS = {
    "anger": Manner(pitch=2.5, range=2.6, loudness=5.0, tempo=5.3, tilt=0.15),
    "happiness": Manner(pitch=4.5, range=3.8, loudness=2.5, tempo=5.1, tilt=0.40),
    "sadness": Manner(pitch=-1.5, range=1.0, loudness=-4.0, tempo=4.5, tilt=0.75),
    "neutral": Manner(pitch=0.0, range=1.7, loudness=0.0, tempo=4.8, tilt=0.55),
}
# Standard deviations over utterances, wide enough for the emotions to overlap.
SPREAD = Manner(pitch=1.3, range=0.6, loudness=2.0, tempo=0.3, tilt=0.08)


@dataclass(frozen=True, kw_only=True)
class Speaker:
    """A synthetic speaker.

    Attributes:
        speaker_id: Id in the manifest.
        gender: ``male`` or ``female``.
        f0: Mean F0 in Hz.
        formant_scale: Factor of the formant frequencies, relative to an average man.
    """

    speaker_id: str
    gender: str
    f0: float
    formant_scale: float


def make_corpus(
    folder: Path,
    *,
    num_speakers: int = 8,
    emotions: Sequence[str] = tuple(EMOTIONS),
    repetitions: int = 4,
    seed: int = 0,
) -> Manifest:
    """Write 16-bit mono WAV files at 16 kHz, 1.1 to 1.7 s each, and then the manifest.csv.

    Every utterance has its own random numbers, so a corpus with more speakers starts with the same ones.

    Args:
        folder: Output folder; created if missing.
        num_speakers: Number of speakers, alternately men and women.
        emotions: Names in ``EMOTIONS``.
        repetitions: Number of utterances per speaker and emotion.
        seed: Random seed; the same seed gives the same bytes.

    Returns:
        The manifest of the corpus.

    Raises:
        CorpusError: an unknown emotion.
    """
    for emotion in emotions:
        if emotion not in EMOTIONS:
            raise CorpusError(unknown_name("synthetic emotion", emotion, EMOTIONS))
    utterances = []
    for number in range(num_speakers):
        speaker = _speaker(number, np.random.default_rng((seed, number)))
        (folder / speaker.speaker_id).mkdir(parents=True, exist_ok=True)
        for emotion in emotions:
            for repetition in range(1, repetitions + 1):  # from 1, because a trailing 0 does not change numpy's seed
                rng = np.random.default_rng((seed, number, list(EMOTIONS).index(emotion), repetition))
                signal, transcript = _speak(speaker, EMOTIONS[emotion], rng)
                utterance_id = f"{speaker.speaker_id}-{emotion}-{repetition}"
                path = f"{speaker.speaker_id}/{utterance_id}.wav"
                wavfile.write(folder / path, SAMPLING_RATE, np.round(32767 * signal).astype(np.int16))
                utterances.append(
                    Utterance(
                        utterance_id=utterance_id,
                        path=path,
                        speaker_id=speaker.speaker_id,
                        transcript=transcript,
                        labels={"emotion": emotion, "gender": speaker.gender},
                    )
                )
    manifest = Manifest(utterances)
    manifest.write(folder / MANIFEST)
    return manifest


def _speaker(number: int, rng: np.random.Generator) -> Speaker:
    man = number % 2 == 0
    return Speaker(
        speaker_id=f"s{number + 1:02d}",
        gender="male" if man else "female",
        f0=(120.0 if man else 205.0) * 2 ** rng.normal(0, 2 / 12),
        formant_scale=(1.0 if man else 1.16) * rng.uniform(0.95, 1.05),
    )


def _speak(speaker: Speaker, emotion: Manner, rng: np.random.Generator) -> tuple[Signal, str]:
    """Synthesise one utterance: return (num_samples,) in [-1, 1], and the syllables as text."""
    manner = Manner(**{name: rng.normal(mean, getattr(SPREAD, name)) for name, mean in vars(emotion).items()})
    vowels = rng.choice(list(VOWELS), NUM_SYLLABLES)
    consonants = rng.choice(list(CONSONANTS), NUM_SYLLABLES)
    lengths = rng.uniform(0.9, 1.1, NUM_SYLLABLES) / np.clip(manner.tempo, 4.3, 6.2)
    ends = PAUSE + np.cumsum(lengths)
    time = np.arange(round(SAMPLING_RATE * (ends[-1] + PAUSE))) / SAMPLING_RATE

    semitones = manner.pitch + max(manner.range, 0.3) * _melody(time, ends, rng)
    voice = _glottal_source(speaker.f0 * 2 ** (semitones / 12), rng)
    breath = 0.002 * rng.standard_normal(time.size)
    tilt = float(np.clip(manner.tilt, 0.0, 0.9))
    voice = lfilter([1 - tilt], [1, -tilt], voice + breath)
    hiss = 0.003 * np.diff(rng.standard_normal(time.size + 1))

    signal = np.zeros(time.size)
    for vowel, consonant, end, length in zip(vowels, consonants, ends, lengths, strict=True):
        start, release = end - length, end - 0.65 * length
        formants = [speaker.formant_scale * formant for formant in VOWELS[vowel]]
        signal += _window(time, release, end) * _resonate(voice, formants, BANDWIDTHS)
        centre, bandwidth = CONSONANTS[consonant]
        signal += _window(time, start, release) * _resonate(voice if consonant == "m" else hiss, [centre], [bandwidth])
    signal *= 0.05 * 10 ** (manner.loudness / 20) / np.sqrt(np.mean(signal**2))
    # Noise is added because recorded silence is never zero; tanh keeps the loudest peaks within 16 bits.
    signal = np.tanh(signal + 3e-4 * rng.standard_normal(time.size))
    return signal, " ".join(consonant + vowel for consonant, vowel in zip(consonants, vowels, strict=True))


def _melody(time: Signal, ends: Signal, rng: np.random.Generator) -> Signal:
    """Return a pitch contour that changes with each syllable and falls overall: (num_samples,), mean 0, std 1."""
    targets = rng.standard_normal(ends.size) - np.linspace(-0.7, 0.7, ends.size)
    melody: Signal = np.interp(time, ends, targets)
    return np.asarray((melody - melody.mean()) / melody.std())


def _glottal_source(f0: Signal, rng: np.random.Generator) -> Signal:
    """Return the derivative of the glottal flow for an F0 contour in Hz: (num_samples,) → (num_samples,).

    The pulses have 1 % jitter and 5 % shimmer; they open for 40 % and close for 16 % of a period.

    Source: Rosenberg 1971, the trigonometric pulse.
    """
    jitter = rng.normal(1, 0.01, f0.size)
    cycles = np.cumsum(f0) / SAMPLING_RATE
    cycles = np.cumsum(f0 * jitter[cycles.astype(int)]) / SAMPLING_RATE
    shimmer = rng.normal(1, 0.05, f0.size)[cycles.astype(int)]
    phase = cycles % 1
    opening = 0.5 * (1 - np.cos(np.pi * phase / 0.40))
    closing = np.cos(np.pi / 2 * (phase - 0.40) / 0.16)
    flow = shimmer * np.select([phase < 0.40, phase < 0.56], [opening, closing])
    return np.diff(flow, prepend=0.0)


def _resonate(signal: Signal, frequencies: Sequence[float], bandwidths: Sequence[float]) -> Signal:
    """Filter a signal with two-pole resonators in series, each with gain 1 at 0 Hz.

    Source: Klatt 1980, eq. 2.
    """
    radius = np.exp(-np.pi * np.asarray(bandwidths) / SAMPLING_RATE)
    a1 = -2 * radius * np.cos(2 * np.pi * np.asarray(frequencies) / SAMPLING_RATE)
    a2 = radius**2
    nothing = np.zeros_like(a1)
    sections = np.stack([1 + a1 + a2, nothing, nothing, nothing + 1, a1, a2], axis=1)
    return np.asarray(sosfilt(sections, signal))


def _window(time: Signal, start: float, end: float) -> Signal:
    """Return a window: 1 from start to end (seconds), 0 elsewhere, with 20 ms slopes; adjacent windows sum to 1."""
    return 0.5 * (np.tanh((time - start) / 0.008) - np.tanh((time - end) / 0.008))
