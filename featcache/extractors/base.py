"""Signal or text → features: the base class of all extractors, which are independent of the cache."""

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
"""Precision → largest difference between an utterance alone and in any batch, relative to the layer's largest value.

Matrix products have other shapes in a batch, and their sums are therefore computed in another order. In float32 this
changes the last digits. In half precision each operation rounds its result to 8 or 11 bits: a sum may be rounded to the
neighbouring value, and later layers propagate this difference. The tolerance is eight rounding steps at the layer's
largest value; the largest observed differences are three steps (float16) and four steps (bfloat16).
"""
# Sampling rate of test signals for an extractor that uses each file's own rate.
USUAL_RATE = 16000


class Extractor(ABC):
    """Base class of extractors, which convert signals into features.

    The features of a signal must not depend on the other signals in the batch, within :data:`SAME_IN_ANY_BATCH` for the
    precision of the model. All methods must be safe to call from several threads.

    A subclass must define :meth:`extract`. It should define ``frame_shift`` unless it returns one vector per utterance,
    and :meth:`num_frames` unless the default number of frames is right. featcache plans disk space and memory with
    :meth:`num_frames` before it computes anything, and refuses features with another number of frames.

    If an extractor reads text, each signal is the tokens of one text. A token then counts as one sample, and the
    sampling rate is 1.

    Args:
        config: Options, an instance of ``Config``; None uses the defaults.
        device: Torch device on which a model computes.

    Attributes:
        Config: Frozen keyword-only dataclass of the options, derived from
            :class:`~featcache.settings.extractor_configs.ChunkConfig` or
            :class:`~featcache.settings.extractor_configs.AudioConfig`. Its fields are made by
            :func:`featcache.settings.field.setting`. They are set by ``--set`` or in YAML, and identify the store.
        kind: ``descriptors`` for an extractor that computes on the CPU; its features are stored as float32. ``model``
            for an extractor with a device and layers; its features are stored as float16 by default.
        frame_shift: Time between frames, in seconds; None if frames are not steps in time.
        feature_names: Names of the values of a frame; empty if they have no names.
        layer_names: Names of the layers. By default they are numbered from 0 if there are several, or for a model.
        averages_frames: Whether neighbouring frames may be averaged to match a store with a longer frame shift.
        averaged_frame_shift: Frame shift, in seconds, to which every fit on frames averages them, even if it uses this
            store alone; None for no averaging.
        supports_chunks: Whether a long utterance may be computed in windows.
        decided: Options that the name of the extractor fixes.
        argument: Option whose value follows the name and a colon; None if there is none.
        description: Plain data about the extractor, which is stored with its features.
        tokenise: Function that converts the text of an utterance into tokens; None if the extractor reads audio.

    Raises:
        ModelError: :attr:`description` raises it if windows are requested but not supported, or if the features of a
            test signal do not have three dimensions.

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
        self.config = self.Config() if config is None else config
        self.device = device

    @classmethod
    def recorded_as(cls, reference: str, settings: Mapping[str, Any]) -> str:
        """Return the reference that creates the same extractor again.

        Args:
            reference: Name of the extractor in the store's settings.
            settings: The store's settings.

        Returns:
            The reference, followed by a colon and the argument if the extractor takes one.
        """
        return reference if cls.argument is None else f"{reference}:{settings.get(cls.argument, '')}"

    def settings(self) -> dict[str, Any]:
        """Return everything that affects the features: the options.

        A subclass may add more entries, such as a checksum of weights.

        Returns:
            Plain JSON values, which identify the store.
        """
        return config_settings(self.config)

    @cached_property
    def description(self) -> Description:
        """The layers, sizes, options and provenance of the extractor, which are stored with its features."""
        shape = self._shape()
        names = tuple(self.layer_names) or _layer_names(self.kind, shape[0])
        chunks = self.config.chunks() if isinstance(self.config, ChunkConfig) else None
        if chunks and not self.supports_chunks:
            raise ModelError(f"--chunk-seconds does not apply to {self._name}, which computes whole utterances only")
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
        """Return further information for the user, such as package versions.

        Returns:
            Plain JSON values. They are stored with the features, but do not identify the store.
        """
        return {}

    def _pairing(self) -> dict[str, Any]:
        """Return the entries of the provenance that say how frames are combined with frames of other stores."""
        if self.averaged_frame_shift is not None and self.frame_shift is not None:
            return {"averaged_frame_shift": self.averaged_frame_shift}
        if self.frame_shift is not None:
            return {"averages_frames": True} if self.averages_frames else {}
        counts = {self.num_frames(seconds * USUAL_RATE, USUAL_RATE) for seconds in (1, 10)}
        return {"one_vector": True} if counts == {1} else {}

    def num_frames(self, num_samples: int, sampling_rate: int) -> int:
        """Return the number of frames that :meth:`extract` returns for a signal of this length.

        The default is one vector if there is no ``frame_shift``, otherwise the number of librosa's centred frames:
        one frame, and another one for each whole hop.

        Args:
            num_samples: Number of samples, or of tokens.
            sampling_rate: Sampling rate in Hz; 1 for tokens.

        Returns:
            The number of frames; 0 if the signal is too short.
        """
        if num_samples <= 0:
            return 0
        return 1 if self.frame_shift is None else 1 + num_samples // self.hop(sampling_rate)

    def hop(self, sampling_rate: int) -> int:
        """Return the number of samples between two frames.

        If one hop is cut from the beginning of a signal, the signal loses its first frame only.

        Args:
            sampling_rate: Sampling rate in Hz; 1 for tokens.

        Returns:
            The number of samples, at least 1.
        """
        return max(1, floor((self.frame_shift or 0) * sampling_rate + 0.5))

    def context(self, sampling_rate: int) -> int:
        """Return the number of frames at each end of a signal that extend beyond the signal.

        Args:
            sampling_rate: Sampling rate in Hz; 1 for tokens.

        Returns:
            The number of frames; the default is 0.
        """
        return 0

    def peak_bytes(self, batch: int, num_samples: int, sampling_rate: int) -> int:
        """Estimate the peak host memory of a batch of equally long signals, without the model itself.

        Args:
            batch: Number of signals in the batch.
            num_samples: Number of samples, or of tokens, of each signal.
            sampling_rate: Sampling rate in Hz; 1 for tokens.

        Returns:
            The estimate in bytes.
        """
        frames = self.num_frames(num_samples, sampling_rate)
        layers, size = len(self.description.layer_names), self.description.hidden_size
        return batch * (DESCRIPTOR_BYTES * num_samples + kept_bytes(layers, frames, size))

    @abstractmethod
    def extract(self, signals: Sequence[Any]) -> list[Features]:
        """Return the features of each signal.

        Args:
            signals: Batch of :class:`~featcache.audio.Signal` or, if the extractor has ``tokenise``, of
                :class:`~featcache.features.Tokens`.

        Returns:
            One (num_layers, num_frames, hidden_size) float32 array per signal, in the same order.

        Raises:
            AudioError: a signal is too short for a single frame, or too long for the model.
        """

    def extract_with_padding(self, signals: Sequence[Any]) -> list[tuple[Features, Features | None]]:
        """Return the features of each signal as :meth:`extract`, and those of its padding.

        Args:
            signals: Batch as in :meth:`extract`.

        Returns:
            Per signal, its features and those of the padding after it, (num_layers, ``description.padded_frames`` -
            num_frames, hidden_size) float32; None for the padding if it is not kept, as by default.
        """
        return [(features, None) for features in self.extract(signals)]

    @property
    def _name(self) -> str:
        return type(self).__name__

    def _shape(self) -> tuple[int, int, int]:
        """Return the layers, frames and hidden size, from the feature names or from the features of noise."""
        if self.feature_names and self.kind == "descriptors":
            return 1, 1, len(self.feature_names)
        rate = getattr(self.config, "sampling_rate", None) or USUAL_RATE
        found = self.extract([noise(rate, rate)])[0]
        if not isinstance(found, np.ndarray) or found.ndim != 3:
            shape = getattr(found, "shape", type(found).__name__)
            raise ModelError(f"extract() returned {shape}, expected (num_layers, num_frames, hidden_size) float32")
        layers, frames, size = found.shape
        return int(layers), int(frames), int(size)


def noise(num_samples: int, sampling_rate: int) -> Signal:
    """Return quiet noise to test an extractor, always the same.

    Args:
        num_samples: Number of samples.
        sampling_rate: Sampling rate in Hz.

    Returns:
        Gaussian noise with standard deviation 0.05.
    """
    samples = np.random.default_rng(0).normal(0, 0.05, num_samples).astype(np.float32)
    return Signal(samples=samples, sampling_rate=sampling_rate)


def config_settings(config: Any) -> dict[str, Any]:
    """Return the options that affect the features, as a store's settings contain them."""
    if isinstance(config, ChunkConfig):
        return config.settings()
    return {name: getattr(config, name) for name, (_, about) in settings_of(type(config)).items() if about.identity}


def _layer_names(kind: str, number: int) -> tuple[str, ...]:
    return tuple(map(str, range(number))) if kind == "model" or number > 1 else ("",)
