"""Properties of an audio file that are known before the samples of an utterance are decoded."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Header:
    """Properties of an audio file that are known before decoding.

    Attributes:
        num_samples: Number of samples per channel.
        sampling_rate: Sampling rate in Hz.
        num_channels: Number of channels.
        ends_early: Whether the end of the stream is missing; ``num_samples`` then counts what can be decoded.
        decoder: Program that decodes the file, with its version.
    """

    num_samples: int
    sampling_rate: int
    num_channels: int
    ends_early: bool = False
    decoder: str = ""

    @property
    def duration(self) -> float:
        """Duration in seconds."""
        return self.num_samples / self.sampling_rate
