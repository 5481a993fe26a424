"""Extractor of a user → checked extractor, whose errors are messages of one line."""

from collections.abc import Sequence
from dataclasses import is_dataclass, replace
from typing import Any

import numpy as np

from featcache.errors import AudioError, FeatcacheError, ModelError, in_one_line
from featcache.extractors.base import SAME_IN_ANY_BATCH, USUAL_RATE, Extractor, noise
from featcache.extractors.references import NamedExtractor
from featcache.extractors.windows import check_chunks
from featcache.features import Features
from featcache.registry import Origin

# Names in a store's settings that an option must not have.
RESERVED = frozenset({"extractor", "origin", "storage_dtype", "format_version", "pool", "model", "text", "device"})
# Lengths in seconds of the signals that test an extractor, alone and in a batch.
TRIED = (1.0, 0.63, 1.17)


def check_declarations(reference: str, kind: type[Extractor]) -> None:
    """Refuse a class with invalid declarations.

    Args:
        reference: Name of the extractor, for messages.
        kind: Class of the extractor.

    Raises:
        ModelError: ``Config`` is not a dataclass, the name of an option is reserved, or ``kind`` is unknown.
    """
    if not (isinstance(kind.Config, type) and is_dataclass(kind.Config)):
        raise ModelError(f"extractor {reference!r}: Config is {kind.Config!r:.60}, expected a frozen dataclass")
    taken = sorted(RESERVED.intersection(kind.Config.__dataclass_fields__))
    if taken:
        raise ModelError(f"extractor {reference!r}: the option name {taken[0]!r} is reserved; choose another name")
    if kind.kind not in ("descriptors", "model"):
        raise ModelError(f"extractor {reference!r}: kind is {kind.kind!r}, expected 'descriptors' or 'model'")


def made(named: NamedExtractor, config: Any, origin: Origin | None, *, device: str = "cpu") -> Extractor:
    """Create an extractor of a user, test it, and record its origin.

    Args:
        named: The extractor.
        config: Its options.
        origin: Where its code comes from; None if unknown.
        device: Torch device, for an extractor of kind ``model``.

    Returns:
        The extractor, with checks around its methods.

    Raises:
        ModelError: the extractor cannot be created, or its features are invalid.
    """
    reference = named.reference
    try:
        of_model = named.extractor.kind == "model"
        extractor = named.extractor(config, device=device) if of_model else named.extractor(config)
        description = extractor.description
    except FeatcacheError:
        raise
    except (Exception, SystemExit) as error:  # The user's code may raise anything.
        raise ModelError(f"extractor {reference!r} cannot be created ({in_one_line(error)})") from error
    if extractor.tokenise is not None:
        raise ModelError(f"extractor {reference!r} reads text, expected an extractor that reads audio")
    settings = {**description.settings, "extractor": reference}
    if origin is not None:
        settings["origin"] = {**origin.settings(), "reference": reference}
    extractor.description = replace(description, settings=settings)
    guarded = OutsideExtractor(extractor, reference)
    check_chunks(guarded)
    guarded.try_out()
    return guarded


class BrokenPromiseError(AudioError):
    """Invalid features of a user's extractor, or an error in its code."""


class OutsideExtractor(Extractor):
    """A user's extractor with checks; its errors become failures of single utterances.

    Args:
        extractor: The user's extractor.
        reference: Name of the extractor, for messages.
    """

    def __init__(self, extractor: Extractor, reference: str) -> None:
        self._extractor = extractor
        self._reference = reference
        self.description = extractor.description

    def num_frames(self, num_samples: int, sampling_rate: int) -> int:
        try:
            return int(self._extractor.num_frames(num_samples, sampling_rate))
        except FeatcacheError:
            raise
        except (Exception, SystemExit) as error:
            raise ModelError(f"extractor {self._reference!r}: num_frames() failed ({in_one_line(error)})") from error

    def hop(self, sampling_rate: int) -> int:
        return self._extractor.hop(sampling_rate)

    def context(self, sampling_rate: int) -> int:
        return self._extractor.context(sampling_rate)

    def peak_bytes(self, batch: int, num_samples: int, sampling_rate: int) -> int:
        return self._extractor.peak_bytes(batch, num_samples, sampling_rate)

    def extract(self, signals: Sequence[Any]) -> list[Features]:
        for signal in signals:
            if self.num_frames(len(signal.samples), signal.sampling_rate) == 0:
                raise AudioError(
                    f"{len(signal.samples)} samples at {signal.sampling_rate} Hz are too short for {self._reference}"
                )
        try:
            found = list(self._extractor.extract(signals))
        except (FeatcacheError, MemoryError):
            raise
        except (Exception, SystemExit) as error:
            raise BrokenPromiseError(f"extractor {self._reference!r} failed ({in_one_line(error)})") from error
        if len(found) != len(signals):
            raise BrokenPromiseError(
                f"extractor {self._reference!r} returned {len(found)} feature arrays for {len(signals)} signals"
            )
        return [self._checked(features, signal) for features, signal in zip(found, signals, strict=True)]

    def try_out(self) -> None:
        """Compare the features of noise alone with the features of the same noise in a batch.

        Raises:
            ModelError: the features have a wrong shape or dtype, or depend on the batch.
        """
        rate = self.description.sampling_rate or USUAL_RATE
        signals = [noise(round(seconds * rate), rate) for seconds in TRIED]
        try:
            alone = [self.extract([signal])[0] for signal in signals]
            together = self.extract(signals)
        except BrokenPromiseError as error:
            raise ModelError(f"{error}, when tested on a second of noise") from error
        except AudioError:  # The extractor may be made for other signals than noise.
            return
        allowed = SAME_IN_ANY_BATCH.get(str(self.description.settings.get("precision")), SAME_IN_ANY_BATCH["float32"])
        for one, other in zip(alone, together, strict=True):
            scale = max(float(np.abs(one).max(initial=0)), float(np.finfo(np.float32).tiny))
            off = float(np.abs(one - other).max(initial=0)) / scale
            if not off <= allowed:
                raise ModelError(
                    f"extractor {self._reference!r}: the features of an utterance depend on its batch (difference "
                    f"{off:.1e} of the largest value, expected at most {allowed:.1e}); compute each signal separately"
                )

    def _checked(self, features: Any, signal: Any) -> Features:
        """Check the shape and dtype of features and return them as a contiguous array.

        Raises:
            AudioError: the shape or dtype is wrong.
        """
        num_samples, rate = len(signal.samples), signal.sampling_rate
        frames = self.num_frames(num_samples, rate)
        expected = (len(self.description.layer_names), frames, self.description.hidden_size)
        dtype, shape = getattr(features, "dtype", type(features).__name__), getattr(features, "shape", ())
        if not isinstance(features, np.ndarray) or features.dtype != np.float32 or shape != expected:
            raise BrokenPromiseError(
                f"extractor {self._reference!r} returned {shape} {dtype} for {num_samples} samples at {rate} Hz, "
                f"expected {expected} float32 (num_layers, num_frames, hidden_size); num_frames() must agree with "
                "extract()"
            )
        return np.ascontiguousarray(features)
