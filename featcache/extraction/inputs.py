"""Utterance → what extractors read of it, audio or text, and the unit of its length."""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from math import inf
from pathlib import Path

from featcache import audio
from featcache.audio import Recording, Signal
from featcache.errors import AudioError
from featcache.extractors.base import Extractor
from featcache.features import Features, Tokens
from featcache.files.regular import sha256_of_file
from featcache.manifest import Utterance
from featcache.transcripts.text import Transcript

ENDS_EARLY = "%d utterances end early, because the end of their files is missing; what there is of them is used: %s"


@dataclass(frozen=True, kw_only=True)
class ReadFeatures:
    """Features of an utterance that somebody else has computed.

    Attributes:
        features: (num_layers, num_frames, hidden_size) float32.
        duration: In seconds; NaN where it is not known.
        sha256: That of the audio, which is not known.
    """

    features: Features
    duration: float
    sha256: str = ""


ReadInput = Recording | Transcript | ReadFeatures


@dataclass(frozen=True, kw_only=True)
class LengthUnit:
    """Unit of the lengths of utterances.

    Attributes:
        name: After a number: "s of audio", "tokens".
        speed: Format of a length per second, in words.
    """

    name: str
    speed: str

    def describe(self, length: float) -> str:
        """Return a length in words."""
        return f"{length:.0f} {self.name}"

    def describe_speed(self, length: float, seconds: float) -> str:
        """Return the speed of work on a length that took so many seconds, in words."""
        return self.speed.format(length / seconds)


SECONDS = LengthUnit(name="s of audio", speed="{:.1f} x real time")
TOKENS = LengthUnit(name="tokens", speed="{:.0f} tokens/s")


class Input(ABC):
    """What extractors read.

    Args:
        root: The folder that the utterances' paths start from.

    Attributes:
        unit: Unit of all lengths: seconds of audio, or tokens of a text.
        shard_length: Largest length of a shard: where little of each utterance is kept, bytes do not tell how much
            work it is.
        batch_lengths: Length of a batch on the CPU and on other devices, unless the user sets it.
        changed: Warning when the inputs changed since extraction.
    """

    unit: LengthUnit
    shard_length: float
    batch_lengths: tuple[float, float]
    changed: str

    def __init__(self, root: Path) -> None:
        self.root = root

    @abstractmethod
    def key(self, utterance: Utterance) -> str:
        """Return what :meth:`checksum` takes; equal where utterances have it in common."""

    @abstractmethod
    def checksum(self, key: str) -> str | None:
        """Return the SHA-256 of what exists now; None where it is gone."""

    @abstractmethod
    def prepare(self, key: str) -> None:
        """Read what :meth:`probe` needs of a key, so that threads share this work; never raises an AudioError."""

    @abstractmethod
    def probe(self, utterance: Utterance) -> tuple[int, int]:
        """Return the samples or tokens, and how many of them make a length of 1; no samples of unreadable audio."""

    @abstractmethod
    def read(self, utterance: Utterance, max_seconds: float | None) -> ReadInput:
        """Read an utterance.

        Raises:
            AudioError: as :func:`featcache.audio.read`.
        """

    def sha256(self, utterance: Utterance) -> str:
        """Return the SHA-256 of what :meth:`read` reads.

        Raises:
            AudioError: it cannot be read.
        """
        return self.read(utterance, None).sha256

    def batch_length(self, device: str) -> float:
        """Return the length of a batch on a device, unless the user sets it."""
        on_cpu, elsewhere = self.batch_lengths
        return on_cpu if set(device.split(",")) == {"cpu"} else elsewhere

    def warnings(self, utterances: Sequence[Utterance], lengths: Sequence[float]) -> Iterator[str]:
        """Yield warnings about what is going to be read; at least one utterance."""
        yield from ()

    def unreadable(self, utterance: Utterance) -> str | None:
        """Return why an utterance cannot be read, as far as headers tell; None where it can."""
        return None

    def ends_early(self, utterance: Utterance) -> bool:
        """Whether an utterance lasts to the end of a file whose own end is missing, of keys that were prepared."""
        return False

    def rates(self, utterances: Sequence[Utterance]) -> Counter[int]:
        """Return sampling rate in Hz → number of utterances."""
        return Counter()


class AudioInput(Input):
    """Audio files below the corpus folder. One utterance at a time on the CPU, where padding costs time."""

    unit = SECONDS
    shard_length = 3600.0
    batch_lengths = (0.0, 120.0)
    changed = "audio changed since it was extracted"

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self._checksums = audio.Checksums()
        self._headers = audio.Headers(root)
        self._early: set[str] = set()

    def key(self, utterance: Utterance) -> str:
        return utterance.path

    def checksum(self, key: str) -> str | None:
        try:
            return sha256_of_file(self.root / key)
        except OSError:
            return None

    def sha256(self, utterance: Utterance) -> str:
        return audio.checksum_of(self.root, utterance, self._checksums)

    def prepare(self, key: str) -> None:
        with suppress(AudioError):
            if self._headers(key).ends_early:
                self._early.add(key)

    def probe(self, utterance: Utterance) -> tuple[int, int]:
        try:
            return audio.probe(self.root, utterance, self._headers)
        except AudioError:  # told, with its reason, when its turn comes
            return 0, 1

    def unreadable(self, utterance: Utterance) -> str | None:
        try:
            audio.probe(self.root, utterance, self._headers)
        except AudioError as error:
            return str(error)
        return None

    def ends_early(self, utterance: Utterance) -> bool:
        if utterance.path not in self._early:
            return False
        return utterance.end is None or utterance.end >= self._headers(utterance.path).duration

    def rates(self, utterances: Sequence[Utterance]) -> Counter[int]:
        rates: Counter[int] = Counter()
        for path, number in Counter(utterance.path for utterance in utterances).items():
            with suppress(AudioError):
                rates[self._headers(path).sampling_rate] += number
        return rates

    def read(self, utterance: Utterance, max_seconds: float | None) -> Recording:
        return audio.read(self.root, utterance, max_seconds=max_seconds, checksum=self._checksums)


class TextInput(Input):
    """Transcripts of the utterances.

    Args:
        tokenise: Makes tokens of a text.
    """

    unit = TOKENS
    shard_length = inf
    batch_lengths = (1024.0, 16384.0)
    changed = "transcripts changed since they were extracted"

    def __init__(self, root: Path, tokenise: Callable[[str], Tokens]) -> None:
        super().__init__(root)
        self._tokenise = tokenise
        self._lengths: dict[str, int] = {}

    def key(self, utterance: Utterance) -> str:
        return utterance.transcript

    def checksum(self, key: str) -> str:
        return Transcript(text=key).sha256

    def prepare(self, key: str) -> None:
        self._lengths[key] = len(self._tokenise(key))

    def probe(self, utterance: Utterance) -> tuple[int, int]:
        if utterance.transcript not in self._lengths:
            self.prepare(utterance.transcript)
        return self._lengths[utterance.transcript], 1

    def read(self, utterance: Utterance, max_seconds: float | None) -> Transcript:
        return Transcript(text=utterance.transcript)

    def warnings(self, utterances: Sequence[Utterance], lengths: Sequence[float]) -> Iterator[str]:
        without = sum(Transcript(text=utterance.transcript).is_empty for utterance in utterances)
        if without:
            yield f"{without} of {len(utterances)} utterances have no words; their frames are special tokens alone"
        most = max(lengths)  # all that are cut have as many tokens
        longest = (u for u, length in zip(utterances, lengths, strict=True) if length == most)
        cut = sum(self._tokenise(utterance.transcript).is_cut for utterance in longest)
        if cut:
            yield f"of {cut} utterances only the first {most:.0f} tokens are used, which is all that the model reads"


def input_of(extractor: Extractor, root: Path) -> Input:
    """Return what an extractor reads: audio files below a folder, or text."""
    return TextInput(root, extractor.tokenise) if extractor.tokenise else AudioInput(root)


def signal_for(extractor: Extractor, found: ReadInput) -> Signal | Tokens | Features:
    """Return a recording, or the transcript of an utterance, as an extractor reads it.

    Raises:
        ValueError: a transcript, for an extractor that reads audio.
    """
    if isinstance(found, ReadFeatures):
        return found.features
    if isinstance(found, Transcript):
        if extractor.tokenise is None:
            raise ValueError("this extractor reads audio")
        return extractor.tokenise(found.text)
    description = extractor.description
    return found.signal(
        channel=description.channel or "mean",
        sampling_rate=description.sampling_rate,
        max_seconds=description.max_seconds,
    )
