"""Signal → eGeMAPSv02 low-level descriptors or functionals, computed by openSMILE.

Source: Eyben et al. 2016, The Geneva Minimalistic Acoustic Parameter Set (GeMAPS) for Voice Research and
Affective Computing. openSMILE's licence allows research and private use only.
"""

import math
from collections.abc import Sequence

import numpy as np

from featcache.audio import Signal
from featcache.errors import AudioError, ModelError
from featcache.extractors.base import Extractor
from featcache.extractors.windows import check_chunks
from featcache.features import Description, Features
from featcache.settings.extractor_configs import EgemapsConfig

FRAME_SHIFT = 0.010
# Below this openSMILE's 60 ms pitch window does not fit and it answers with rows of NaN.
SHORTEST = 0.060
# openSMILE takes 16-bit samples: +1.0 would become 32768, which wraps round to -32768.
LARGEST_SAMPLE = np.float32(1 - 2**-15)


class EgemapsExtractor(Extractor):
    """eGeMAPSv02 through opensmile: (1, num_frames, 25) or, for functionals, (1, 1, 88)."""

    def __init__(self, config: EgemapsConfig) -> None:
        import opensmile

        self._functionals = config.level == "functionals"
        if self._functionals and config.chunks():
            raise ModelError("--chunk-seconds does not apply to egemaps-functionals, which are of the whole utterance")
        level = opensmile.FeatureLevel.Functionals if self._functionals else opensmile.FeatureLevel.LowLevelDescriptors
        self._smile = opensmile.Smile(feature_set=opensmile.FeatureSet.eGeMAPSv02, feature_level=level)
        self.description = Description(
            dataset="frames",
            hidden_size=self._smile.num_features,
            frame_shift=None if self._functionals else FRAME_SHIFT,
            sampling_rate=config.sampling_rate,
            channel=config.channel,
            max_seconds=config.max_seconds,
            chunks=config.chunks(),
            settings={"extractor": "egemaps", "feature_set": "eGeMAPSv02", **config.settings()},
            provenance={"feature_names": list(self._smile.feature_names), "opensmile_version": opensmile.__version__},
        )
        check_chunks(self)

    def num_frames(self, num_samples: int, sampling_rate: int) -> int:
        if num_samples < SHORTEST * sampling_rate:
            return 0
        if self._functionals:
            return 1
        return (num_samples - _in_samples(SHORTEST, sampling_rate)) // self.hop(sampling_rate) + 2

    def hop(self, sampling_rate: int) -> int:
        return _in_samples(FRAME_SHIFT, sampling_rate)

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


def _in_samples(seconds: float, sampling_rate: int) -> int:
    # openSMILE rounds as C does: a half, such as 220.5 samples at 22,050 Hz, goes up
    return math.floor(seconds * sampling_rate + 0.5)
