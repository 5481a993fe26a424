"""An extractor from outside of featcache → one that keeps the promises of every extractor, or fails in one line."""

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

# Names of a store's settings that are no options.
RESERVED = frozenset({"extractor", "origin", "storage_dtype", "format_version", "pool", "model", "text", "device"})
# Seconds of the signals that an extractor is tried out with, alone and together.
TRIED = (1.0, 0.63, 1.17)


def check_declarations(reference: str, kind: type[Extractor]) -> None:
    """Refuse a class whose declarations cannot be used.

    Raises:
        ModelError: a configuration that is no dataclass, an option whose name is taken, or an unknown kind.
    """
    if not (isinstance(kind.Config, type) and is_dataclass(kind.Config)):
        raise ModelError(f"extractor {reference!r}: Config is {kind.Config!r:.60}, expected a frozen dataclass")
    taken = sorted(RESERVED.intersection(kind.Config.__dataclass_fields__))
    if taken:
        raise ModelError(f"extractor {reference!r}: an option cannot be called {taken[0]!r}; choose another name")
    if kind.kind not in ("descriptors", "model"):
        raise ModelError(f"extractor {reference!r}: kind is {kind.kind!r}, expected 'descriptors' or 'model'")


def made(named: NamedExtractor, config: Any, origin: Origin | None, *, device: str = "cpu") -> Extractor:
    """Make an extractor from outside, try it out, and record where it comes from.

    Raises:
        ModelError: it cannot be made, or does not keep the promises of an extractor.
    """
    reference = named.reference
    try:
        of_model = named.extractor.kind == "model"
        extractor = named.extractor(config, device=device) if of_model else named.extractor(config)
        description = extractor.description
    except FeatcacheError:
        raise
    except (Exception, SystemExit) as error:  # whatever the code of the part raises
        raise ModelError(f"extractor {reference!r} cannot be made ({in_one_line(error)})") from error
    if extractor.tokenise is not None:
        raise ModelError(f"extractor {reference!r} reads text, expected one that reads audio")
    settings = {**description.settings, "extractor": reference}
    if origin is not None:
        settings["origin"] = {**origin.settings(), "reference": reference}
    extractor.description = replace(description, settings=settings)
    guarded = OutsideExtractor(extractor, reference)
    check_chunks(guarded)
    guarded.try_out()
    return guarded


class BrokenPromiseError(AudioError):
    """Features that an extractor from outside may not give, or an error of its code."""


class OutsideExtractor(Extractor):
    """Passes on what an extractor from outside computes, and turns its errors into failures of single utterances.

    Args:
        extractor: The extractor.
        reference: Its name, for messages.
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
            raise ModelError(f"extractor {self._reference!r}: num_frames() fails ({in_one_line(error)})") from error

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
            raise BrokenPromiseError(f"extractor {self._reference!r} fails ({in_one_line(error)})") from error
        if len(found) != len(signals):
            raise BrokenPromiseError(
                f"extractor {self._reference!r} gives {len(found)} features for {len(signals)} signals"
            )
        return [self._checked(features, signal) for features, signal in zip(found, signals, strict=True)]

    def try_out(self) -> None:
        """Compare noise alone with the same noise in a batch.

        Raises:
            ModelError: the features have another shape or dtype than promised, or depend on the batch.
        """
        rate = self.description.sampling_rate or USUAL_RATE
        signals = [noise(round(seconds * rate), rate) for seconds in TRIED]
        try:
            alone = [self.extract([signal])[0] for signal in signals]
            together = self.extract(signals)
        except BrokenPromiseError as error:
            raise ModelError(f"{error}, tried out on a second of noise") from error
        except AudioError:  # noise is not what it is for
            return
        allowed = SAME_IN_ANY_BATCH.get(str(self.description.settings.get("precision")), SAME_IN_ANY_BATCH["float32"])
        for one, other in zip(alone, together, strict=True):
            scale = max(float(np.abs(one).max(initial=0)), float(np.finfo(np.float32).tiny))
            off = float(np.abs(one - other).max(initial=0)) / scale
            if not off <= allowed:
                raise ModelError(
                    f"extractor {self._reference!r}: an utterance has other features in a batch than alone (off by "
                    f"{off:.1e} of the largest value, expected at most {allowed:.1e}); compute each signal by itself"
                )

    def _checked(self, features: Any, signal: Any) -> Features:
        """Return features of the promised shape and dtype.

        Raises:
            AudioError: another shape or dtype.
        """
        num_samples, rate = len(signal.samples), signal.sampling_rate
        frames = self.num_frames(num_samples, rate)
        expected = (len(self.description.layer_names), frames, self.description.hidden_size)
        dtype, shape = getattr(features, "dtype", type(features).__name__), getattr(features, "shape", ())
        if not isinstance(features, np.ndarray) or features.dtype != np.float32 or shape != expected:
            raise BrokenPromiseError(
                f"extractor {self._reference!r} gives {shape} {dtype} for {num_samples} samples at {rate} Hz, expected "
                f"{expected} float32 (num_layers, num_frames, hidden_size); num_frames() must agree with extract()"
            )
        return np.ascontiguousarray(features)
