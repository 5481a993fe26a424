"""Signal or text → features. What every extractor has in common; extractors never see the cache."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from math import floor
from typing import Any, ClassVar, Literal

import numpy as np

from featcache.audio import Signal
from featcache.errors import ModelError
from featcache.extractors.footprint import DESCRIPTOR_BYTES, kept_bytes
from featcache.features import Description, Features, Tokens
from featcache.settings.extractor_configs import ChunkConfig
from featcache.settings.field import settings_of

SAME_IN_ANY_BATCH = {"float32": 1e-5, "bfloat16": 8 * 2.0**-8, "float16": 8 * 2.0**-10}
"""Precision → the largest difference between an utterance alone and in any batch, over the layer's largest value.

In a batch matrix products have other shapes, and are therefore summed in another order. In float32 that changes the
last digits. In half precision each operation rounds its result to 8 or 11 bits, so that a sum which falls to the other
side of a rounding is off by a step, and later layers carry it on. Eight steps at the layer's largest value are allowed;
three (float16) and four (bfloat16) were seen.
"""
# Rate of the signals on which an extractor is tried out that takes each file's own.
USUAL_RATE = 16000


class Extractor(ABC):
    """Turns signals into features, the same whatever else is in the batch, from any number of threads.

    "The same" is within :data:`SAME_IN_ANY_BATCH` of the precision that a model computes in.

    A subclass must define :meth:`extract`. It should define ``frame_shift`` unless it gives one vector per utterance,
    and :meth:`num_frames` unless its frames are those of the default. Disk space and memory are planned with
    :meth:`num_frames` before anything is computed; features with another number of frames are refused.

    An extractor that reads text has tokens for signals: a token is a sample, and their rate is 1.

    Attributes:
        Config: Frozen keyword-only dataclass of the options, derived from
            :class:`~featcache.settings.extractor_configs.ChunkConfig` or
            :class:`~featcache.settings.extractor_configs.AudioConfig`, with fields made by
            :func:`featcache.settings.field.setting`. It is the command line's ``--set``, the YAML and the identity.
        kind: ``descriptors`` compute on the CPU and are stored as float32; a ``model`` has a device, and layers that
            are stored as float16 by default.
        frame_shift: Time between frames, in seconds; None if frames are not steps in time.
        feature_names: Names of the values of a frame, if they have names.
        layer_names: Names of the layers; by default the numbers from 0 on for a model with several.
        averages_frames: Whether means of neighbouring frames may stand beside slower frames of another store.
        averaged_frame_shift: Frame shift to which frames are averaged in every fit on frames, of this store alone too.
        supports_chunks: Whether windows of a long utterance give the features of the whole.
        decided: Options that the name of the extractor decides.
        argument: Option that follows the name and a colon.
        description: Plain data about the extractor, which is kept with its features.
        tokenise: Makes tokens of the text of an utterance; None where the extractor reads audio.

    Example:
        >>> class Energy(Extractor):
        ...     frame_shift = 0.010
        ...
        ...     def extract(self, signals):
        ...         return [self.energy(signal) for signal in signals]
        ...
        ...     def energy(self, signal):
        ...         hop = self.hop(signal.sampling_rate)
        ...         padded = np.pad(signal.samples, (0, hop))
        ...         frames = padded[: len(padded) // hop * hop].reshape(1, -1, hop)
        ...         return (frames**2).mean(axis=2, keepdims=True)
        >>> Energy().num_frames(16000, 16000)
        101
    """

    Config: ClassVar[type[Any]] = ChunkConfig
    kind: ClassVar[Literal["descriptors", "model"]] = "descriptors"
    frame_shift: float | None = None
    feature_names: Sequence[str] = ()
    layer_names: Sequence[str] = ()
    averages_frames: ClassVar[bool] = True
    averaged_frame_shift: ClassVar[float | None] = None
    supports_chunks: ClassVar[bool] = False
    decided: ClassVar[Mapping[str, Any]] = {}
    argument: ClassVar[str | None] = None
    tokenise: Callable[[str], Tokens] | None = None

    def __init__(self, config: Any = None, *, device: str = "cpu") -> None:
        """Keep the options and the device.

        Args:
            config: The options, an instance of ``Config``; None is the defaults.
            device: Where a model computes, as torch names it.
        """
        self.config = self.Config() if config is None else config
        self.device = device

    @classmethod
    def recorded_as(cls, reference: str, settings: Mapping[str, Any]) -> str:
        """Return the reference that makes the extractor again, from what a store records."""
        return reference if cls.argument is None else f"{reference}:{settings.get(cls.argument, '')}"

    def settings(self) -> dict[str, Any]:
        """Return all that changes numbers: the options; a subclass may add more, such as the checksum of weights."""
        return config_settings(self.config)

    @cached_property
    def description(self) -> Description:
        shape = self._shape()
        names = tuple(self.layer_names) or _layer_names(self.kind, shape[0])
        chunks = self.config.chunks() if isinstance(self.config, ChunkConfig) else None
        if chunks and not self.supports_chunks:
            raise ModelError(f"--chunk-seconds does not apply to {self._name}, which computes each utterance whole")
        provenance: dict[str, Any] = {"num_blocks": len(names) - 1} if len(names) > 1 else {}
        if self.feature_names:
            provenance["feature_names"] = list(self.feature_names)
        return Description(
            dataset="hidden_states" if self.kind == "model" else "frames",
            layer_names=names,
            hidden_size=shape[2],
            frame_shift=self.frame_shift,
            sampling_rate=getattr(self.config, "sampling_rate", None),
            channel=getattr(self.config, "channel", "mean"),
            max_seconds=getattr(self.config, "max_seconds", None),
            chunks=chunks,
            settings=self.settings(),
            provenance={**provenance, **self.provenance(), **self._pairing()},
        )

    def provenance(self) -> dict[str, Any]:
        """Return what else is worth knowing and changes no identity, such as versions of packages."""
        return {}

    def _pairing(self) -> dict[str, Any]:
        """Return what a store records of how its frames pair with those of other stores."""
        if self.averaged_frame_shift is not None and self.frame_shift is not None:
            return {"averaged_frame_shift": self.averaged_frame_shift}
        if self.frame_shift is not None:
            return {"averages_frames": True} if self.averages_frames else {}
        counts = {self.num_frames(seconds * USUAL_RATE, USUAL_RATE) for seconds in (1, 10)}
        return {"one_vector": True} if counts == {1} else {}

    def num_frames(self, num_samples: int, sampling_rate: int) -> int:
        """Return the number of frames that :meth:`extract` will return for such a signal; 0 if it is too short.

        By default one vector, or a frame at every hop from sample 0 on and one more, as of librosa's centred frames.
        """
        if num_samples <= 0:
            return 0
        return 1 if self.frame_shift is None else 1 + num_samples // self.hop(sampling_rate)

    def hop(self, sampling_rate: int) -> int:
        """Samples between two frames: a signal without so many at its beginning has the same frames but the first."""
        return max(1, floor((self.frame_shift or 0) * sampling_rate + 0.5))

    def context(self, sampling_rate: int) -> int:
        """How many frames at either end of a signal reach beyond it; none unless an extractor says otherwise."""
        return 0

    def peak_bytes(self, batch: int, num_samples: int, sampling_rate: int) -> int:
        """Estimate the host memory that equally long signals take at their peak, in bytes, beside the model itself.

        Args:
            batch: How many go through the extractor together.
            num_samples: Samples or tokens of each, as the extractor sees it.
            sampling_rate: In Hz, or 1.
        """
        frames = self.num_frames(num_samples, sampling_rate)
        layers, size = len(self.description.layer_names), self.description.hidden_size
        return batch * (DESCRIPTOR_BYTES * num_samples + kept_bytes(layers, frames, size))

    @abstractmethod
    def extract(self, signals: Sequence[Any]) -> list[Features]:
        """Features of each signal: (num_layers, num_frames, hidden_size) float32.

        Args:
            signals: Each a :class:`~featcache.audio.Signal` or, where it has ``tokenise``, the
                :class:`~featcache.features.Tokens` of a text.

        Raises:
            AudioError: a signal is too short for a single frame, or too long for the model.
        """

    @property
    def _name(self) -> str:
        return type(self).__name__

    def _shape(self) -> tuple[int, int, int]:
        """Return layers, frames and hidden size, as the names say or as a second of noise shows."""
        if self.feature_names and self.kind == "descriptors":
            return 1, 1, len(self.feature_names)
        rate = getattr(self.config, "sampling_rate", None) or USUAL_RATE
        found = self.extract([noise(rate, rate)])[0]
        if not isinstance(found, np.ndarray) or found.ndim != 3:
            shape = getattr(found, "shape", type(found).__name__)
            raise ModelError(f"extract() gives {shape}, expected (num_layers, num_frames, hidden_size) float32")
        layers, frames, size = found.shape
        return int(layers), int(frames), int(size)


def noise(num_samples: int, sampling_rate: int) -> Signal:
    """Return quiet noise, always the same, to try out an extractor."""
    samples = np.random.default_rng(0).normal(0, 0.05, num_samples).astype(np.float32)
    return Signal(samples=samples, sampling_rate=sampling_rate)


def config_settings(config: Any) -> dict[str, Any]:
    """Return the options that change numbers, as they stand among a store's settings."""
    if isinstance(config, ChunkConfig):
        return config.settings()
    return {name: getattr(config, name) for name, (_, about) in settings_of(type(config)).items() if about.identity}


def _layer_names(kind: str, number: int) -> tuple[str, ...]:
    return tuple(map(str, range(number))) if kind == "model" or number > 1 else ("",)
