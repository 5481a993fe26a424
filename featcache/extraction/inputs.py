"""Utterance → input of the extractors, audio or text, and the unit of its length."""

import os
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from math import inf
from pathlib import Path

from featcache import audio
from featcache.audio import Recording, Signal
from featcache.audio.containers import ContainerError
from featcache.audio.known_files import KnownFiles
from featcache.augmentation.augmented_view import AugmentedView
from featcache.errors import AudioError
from featcache.extractors.base import Extractor
from featcache.features import Features, Tokens
from featcache.manifest import Utterance
from featcache.settings.extractor_configs import ChannelPolicy
from featcache.transcripts.text import Transcript
from featcache.units import counted

ENDS_EARLY = "%s cut, because the end of their files is missing; the available part is used: %s"


@dataclass(frozen=True, kw_only=True)
class ReadFeatures:
    """Imported features of an utterance.

    Attributes:
        features: (num_layers, num_frames, hidden_size) float32.
        duration: Duration in seconds; NaN if it is not known.
        sha256: Empty, because the audio is not known.
    """

    features: Features
    duration: float
    sha256: str = ""


ReadInput = Recording | Transcript | ReadFeatures


@dataclass(frozen=True, kw_only=True)
class LengthUnit:
    """Unit of the lengths of utterances.

    Attributes:
        name: Text after a number: "s of audio", "tokens".
        speed: Format string of a length per second.
    """

    name: str
    speed: str

    def describe(self, length: float) -> str:
        """Return a length with its unit."""
        return f"{length:.0f} {self.name}"

    def describe_speed(self, length: float, seconds: float) -> str:
        """Return the speed with its unit, for a length that took a number of seconds."""
        return self.speed.format(length / seconds)


SECONDS = LengthUnit(name="s of audio", speed="{:.1f} x real time")
TOKENS = LengthUnit(name="tokens", speed="{:.0f} tokens/s")


class Input(ABC):
    """Input of extractors.

    Args:
        root: Folder that the paths of the utterances are relative to.

    Attributes:
        unit: Unit of all lengths: seconds of audio, or tokens of a text.
        shard_length: Largest length of a shard, which limits the work per shard if little of each utterance is stored.
        batch_lengths: Default length of a batch on the CPU and on other devices.
        changed: Warning shown when the inputs changed since extraction.
    """

    unit: LengthUnit
    shard_length: float
    batch_lengths: tuple[float, float]
    changed: str

    def __init__(self, root: Path) -> None:
        self.root = root

    @abstractmethod
    def key(self, utterance: Utterance) -> str:
        """Return the key for :meth:`checksum` and :meth:`prepare`; utterances of the same file share it."""

    @abstractmethod
    def checksum(self, key: str) -> str | None:
        """Return the current SHA-256 of a key; None if its file is missing."""

    @abstractmethod
    def prepare(self, key: str) -> None:
        """Read the data that :meth:`probe` needs, so that threads share this work; never raises an AudioError."""

    @abstractmethod
    def probe(self, utterance: Utterance) -> tuple[int, int]:
        """Return the number of samples or tokens, and their rate; 0 samples for unreadable audio."""

    @abstractmethod
    def read(self, utterance: Utterance, max_seconds: float | None) -> ReadInput:
        """Read an utterance.

        Raises:
            AudioError: see :func:`featcache.audio.read`.
        """

    def sha256(self, utterance: Utterance) -> str:
        """Return the SHA-256 of the file or text that :meth:`read` reads.

        Raises:
            AudioError: it cannot be read.
        """
        return self.read(utterance, None).sha256

    def batch_length(self, device: str) -> float:
        """Return the default length of a batch on a device."""
        on_cpu, elsewhere = self.batch_lengths
        return on_cpu if set(device.split(",")) == {"cpu"} else elsewhere

    def warnings(self, utterances: Sequence[Utterance], lengths: Sequence[float]) -> Iterator[str]:
        """Yield warnings about utterances before they are read; there is at least one utterance."""
        yield from ()

    def unreadable(self, utterance: Utterance) -> str | None:
        """Return the reason why an utterance cannot be read, judged by its header; None if it can."""
        return None

    def ends_early(self, utterance: Utterance) -> bool:
        """Return whether an utterance is cut because the end of its file is missing; its key must be prepared."""
        return False

    def rates(self, utterances: Sequence[Utterance]) -> Counter[int]:
        """Return sampling rate in Hz → number of utterances."""
        return Counter()

    def decoders(self, utterances: Sequence[Utterance]) -> list[str]:
        """Return the programs that decode the audio of utterances, with their versions, sorted."""
        return []

    def remember(self) -> None:
        """Write down what was read, so that a later call reads only files that changed."""
        return


class AudioInput(Input):
    """Audio files of a corpus. On the CPU a batch is one utterance, because padding costs time there.

    Args:
        root: Folder that the paths of the utterances are relative to.
        memory: File that remembers headers and checksums, see :class:`KnownFiles`; None for this process only.
    """

    unit = SECONDS
    shard_length = 3600.0
    batch_lengths = (0.0, 120.0)
    changed = "audio changed since it was extracted"

    def __init__(self, root: Path, memory: Path | None = None) -> None:
        super().__init__(root)
        self._files = KnownFiles(root, memory)
        self._headers = self._files.header
        self._checksums = audio.Checksums(lambda path: self._files.read_checksum(os.path.relpath(path, root)))
        self._early: set[str] = set()

    def key(self, utterance: Utterance) -> str:
        return utterance.path

    def checksum(self, key: str) -> str | None:
        try:
            return self._files.checksum(key)
        except (ContainerError, OSError):
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
        except AudioError:  # Reported with its reason when it is read.
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

    def decoders(self, utterances: Sequence[Utterance]) -> list[str]:
        found = set()
        for path in {utterance.path for utterance in utterances}:
            with suppress(AudioError):
                found.add(self._headers(path).decoder)
        return sorted(found)

    def remember(self) -> None:
        self._files.remember()

    def read(self, utterance: Utterance, max_seconds: float | None) -> Recording:
        return audio.read(self.root, utterance, max_seconds=max_seconds, checksum=self._checksums)


class TextInput(Input):
    """Transcripts of the utterances.

    Args:
        tokenise: Function from a text to its tokens.
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
            yield f"{without} of {len(utterances)} utterances have no text; their frames are only special tokens"
        most = max(lengths)  # All cut utterances have the same number of tokens.
        longest = (u for u, length in zip(utterances, lengths, strict=True) if length == most)
        cut = sum(self._tokenise(utterance.transcript).is_cut for utterance in longest)
        if cut:
            number = counted(cut, "utterance", "are")
            yield f"{number} cut to the first {most:.0f} tokens, the most that the model reads"


def input_of(extractor: Extractor, root: Path, files: AudioInput | None = None) -> Input:
    """Return the input of an extractor: audio files in a folder, or text.

    Args:
        extractor: The extractor.
        root: Folder of the audio.
        files: Input of audio that exists already.
    """
    return TextInput(root, extractor.tokenise) if extractor.tokenise else files or AudioInput(root)


def signal_of_view(extractor: Extractor, found: ReadInput, view: AugmentedView, utterance_id: str) -> Signal:
    """Return an augmented recording in the form that an extractor reads.

    Args:
        extractor: Extractor that reads the signal.
        found: Recording of the utterance.
        view: Augmentation.
        utterance_id: Id of the utterance.

    Raises:
        AudioError: a file with noise or an impulse response cannot be read.
        ValueError: the input is no recording.
    """
    if not isinstance(found, Recording):
        raise ValueError("only audio can be augmented")
    description = extractor.description
    channel: ChannelPolicy = description.channel or "mean"
    augmented = view.apply(found, utterance_id, channel=channel, max_seconds=description.max_seconds)
    return augmented.signal(
        channel=channel, sampling_rate=description.sampling_rate, max_seconds=description.max_seconds
    )


def signal_for(extractor: Extractor, found: ReadInput) -> Signal | Tokens | Features:
    """Return a recording, transcript or imported features in the form that an extractor reads.

    Raises:
        ValueError: the input is a transcript, but the extractor reads audio.
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
