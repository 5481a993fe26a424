"""Signal → eGeMAPSv02 low-level descriptors or functionals, computed by openSMILE.

Source: Eyben et al. 2016, The Geneva Minimalistic Acoustic Parameter Set (GeMAPS) for Voice Research and
Affective Computing. openSMILE's licence allows research and private use only.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np

from featcache.audio import ChannelPolicy, Signal
from featcache.errors import AudioError
from featcache.extractors.base import Description, Extractor, Features

FRAME_SHIFT = 0.010
# Below this openSMILE's 60 ms pitch window does not fit and it answers with rows of NaN.
SHORTEST = 0.060
# openSMILE takes 16-bit samples: +1.0 would become 32768, which wraps round to -32768.
LARGEST_SAMPLE = np.float32(1 - 2**-15)


@dataclass(frozen=True, kw_only=True)
class EgemapsConfig:
    """Which eGeMAPS features, of which signal.

    Attributes:
        level: ``lld``, 25 low-level descriptors every 10 ms, or ``functionals``, 88 values per utterance.
        sampling_rate: In Hz to resample to first; None, the default and Pepino's choice, keeps the file's own.
        channel: ``mean`` of the channels, or the ``first`` one, as Pepino ran it.
        max_seconds: How much of each utterance is used, from its beginning; None is all.
    """

    level: Literal["lld", "functionals"] = "lld"
    sampling_rate: int | None = None
    channel: ChannelPolicy = "mean"
    max_seconds: float | None = None


class EgemapsExtractor(Extractor):
    """eGeMAPSv02 through opensmile: (1, num_frames, 25) or, for functionals, (1, 1, 88)."""

    def __init__(self, config: EgemapsConfig) -> None:
        import opensmile

        self._functionals = config.level == "functionals"
        level = opensmile.FeatureLevel.Functionals if self._functionals else opensmile.FeatureLevel.LowLevelDescriptors
        self._smile = opensmile.Smile(feature_set=opensmile.FeatureSet.eGeMAPSv02, feature_level=level)
        self.description = Description(
            dataset="frames",
            hidden_size=self._smile.num_features,
            frame_shift=None if self._functionals else FRAME_SHIFT,
            sampling_rate=config.sampling_rate,
            channel=config.channel,
            max_seconds=config.max_seconds,
            settings={"extractor": "egemaps", "feature_set": "eGeMAPSv02", **asdict(config)},
            provenance={"feature_names": list(self._smile.feature_names), "opensmile_version": opensmile.__version__},
        )

    def num_frames(self, num_samples: int, sampling_rate: int) -> int:
        if num_samples < SHORTEST * sampling_rate:
            return 0
        if self._functionals:
            return 1
        # openSMILE rounds as C does: a half, such as 220.5 samples at 22,050 Hz, goes up
        hop, window = (math.floor(seconds * sampling_rate + 0.5) for seconds in (FRAME_SHIFT, SHORTEST))
        return (num_samples - window) // hop + 2

    def extract(self, signals: Sequence[Signal]) -> list[Features]:
        return [self._extract_one(signal) for signal in signals]

    def _extract_one(self, signal: Signal) -> Features:
        if self.num_frames(len(signal.samples), signal.sampling_rate) == 0:
            raise AudioError(
                f"{len(signal.samples)} samples at {signal.sampling_rate} Hz are too short for eGeMAPS, "
                f"which needs {SHORTEST * 1000:.0f} ms"
            )
        values = self._smile(np.clip(signal.samples, -1, LARGEST_SAMPLE), signal.sampling_rate)
        return np.ascontiguousarray(values.transpose(0, 2, 1), dtype=np.float32)
