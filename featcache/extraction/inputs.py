"""Utterance → what extractors read of it, its audio or its words, and in what that is measured."""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from math import inf, nan
from pathlib import Path

from featcache import audio
from featcache.audio import Recording
from featcache.errors import AudioError
from featcache.features import Description, Tokens
from featcache.files.regular import sha256_of_file
from featcache.manifest import Utterance
from featcache.terminal.progress import real_time
from featcache.transcripts.text import Words

ENDS_EARLY = "%d utterances end early, because the end of their files is missing; what there is of them is used: %s"


class Input(ABC):
    """Where extractors find what they read.

    Lengths are in seconds of audio, or in tokens of a text.

    Args:
        root: The folder that the utterances' paths start from.

    Attributes:
        shard_length: The most that makes a shard: where little of each utterance is kept, bytes do not tell how much
            work it is.
    """

    shard_length: float

    def __init__(self, root: Path) -> None:
        self.root = root

    @abstractmethod
    def key(self, utterance: Utterance) -> str:
        """What :meth:`checksum` takes; equal where utterances have it in common."""

    @abstractmethod
    def checksum(self, key: str) -> str | None:
        """The SHA-256 of what is there now; None where there is nothing any more."""

    @abstractmethod
    def sha256(self, utterance: Utterance) -> str:
        """The same, of what is there for certain.

        Raises:
            AudioError: it is not.
        """

    @abstractmethod
    def prepare(self, key: str) -> None:
        """Read what :meth:`probe` needs of a key, so that threads share this work; never raises an AudioError."""

    @abstractmethod
    def probe(self, utterance: Utterance) -> tuple[int, int]:
        """Samples or tokens, and how many of them make a length of 1; no samples where the audio is unreadable."""

    @abstractmethod
    def read(self, utterance: Utterance, max_seconds: float | None) -> Recording | Words:
        """What is there of an utterance.

        Raises:
            AudioError: as :func:`featcache.audio.read`.
        """

    @abstractmethod
    def seconds(self, length: float) -> float:
        """A length in seconds; NaN where it has none."""

    @abstractmethod
    def told(self, length: float) -> str:
        """A length in words."""

    @abstractmethod
    def rate(self, done: float, took: float) -> str:
        """A speed in words, of so much in so many seconds."""

    @abstractmethod
    def batch_length(self, device: str) -> float:
        """What goes through an extractor together, unless the user says otherwise."""

    @abstractmethod
    def changed(self) -> str:
        """What has to be said where it is not what it was."""

    def warnings(self, utterances: Sequence[Utterance], lengths: Sequence[float]) -> Iterator[str]:
        """What has to be said of what is going to be read; at least one utterance."""
        yield from ()

    def unreadable(self, utterance: Utterance) -> str | None:
        """Why nothing can be read of an utterance, as far as headers tell."""
        return None

    def ends_early(self, utterance: Utterance) -> bool:
        """Whether an utterance lasts to the end of a file whose own end is missing, of keys that were prepared."""
        return False

    def rates(self, utterances: Sequence[Utterance]) -> Counter[int]:
        """Sampling rate in Hz → number of utterances."""
        return Counter()


class AudioInput(Input):
    """Files below the corpus folder."""

    shard_length = 3600.0

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

    def seconds(self, length: float) -> float:
        return length

    def told(self, length: float) -> str:
        return f"{length:.0f} s of audio"

    def rate(self, done: float, took: float) -> str:
        return real_time(done, took)

    def batch_length(self, device: str) -> float:
        """One utterance at a time on a processor, where padding costs time; two minutes of audio on a GPU."""
        return 0.0 if set(device.split(",")) == {"cpu"} else 120.0

    def changed(self) -> str:
        return "audio changed since it was extracted"


class WordSource(Input):
    """The utterances' own transcripts.

    Args:
        tokenise: Says how many tokens a text has.
    """

    shard_length = inf

    def __init__(self, root: Path, tokenise: Callable[[str], Tokens]) -> None:
        super().__init__(root)
        self._tokenise = tokenise
        self._lengths: dict[str, int] = {}

    def key(self, utterance: Utterance) -> str:
        return utterance.transcript

    def checksum(self, key: str) -> str:
        return Words(text=key).sha256

    def sha256(self, utterance: Utterance) -> str:
        return self.checksum(utterance.transcript)

    def prepare(self, key: str) -> None:
        self._lengths[key] = len(self._tokenise(key))

    def probe(self, utterance: Utterance) -> tuple[int, int]:
        if utterance.transcript not in self._lengths:
            self.prepare(utterance.transcript)
        return self._lengths[utterance.transcript], 1

    def read(self, utterance: Utterance, max_seconds: float | None) -> Words:
        return Words(text=utterance.transcript)

    def seconds(self, length: float) -> float:
        return nan

    def told(self, length: float) -> str:
        return f"{length:.0f} tokens"

    def rate(self, done: float, took: float) -> str:
        return f"{done / took:.0f} tokens/s"

    def batch_length(self, device: str) -> float:
        return 1024.0 if set(device.split(",")) == {"cpu"} else 16384.0

    def changed(self) -> str:
        return "transcripts changed since they were extracted"

    def warnings(self, utterances: Sequence[Utterance], lengths: Sequence[float]) -> Iterator[str]:
        without = sum(Words(text=utterance.transcript).is_empty for utterance in utterances)
        if without:
            yield f"{without} of {len(utterances)} utterances have no words; their frames are special tokens alone"
        most = max(lengths)  # all that are cut have as many tokens
        longest = (u for u, length in zip(utterances, lengths, strict=True) if length == most)
        cut = sum(self._tokenise(utterance.transcript).is_cut for utterance in longest)
        if cut:
            yield f"of {cut} utterances only the first {most:.0f} tokens are used, which is all that the model reads"


def source_of(description: Description, root: Path) -> Input:
    """Where an extractor finds what it reads."""
    return WordSource(root, description.tokenise) if description.tokenise else AudioInput(root)
