"""Signal → eGeMAPSv02 low-level descriptors or functionals, computed by openSMILE.

Source: Eyben et al. 2016, The Geneva Minimalistic Acoustic Parameter Set (GeMAPS) for Voice Research and
Affective Computing. openSMILE's licence allows research and private use only.
"""

import math
from collections.abc import Mapping
from typing import Any, ClassVar

from featcache.errors import ModelError
from featcache.extractors.opensmile_sets import FrameGrid, OpensmileExtractor
from featcache.extractors.windows import check_chunks
from featcache.settings.extractor_configs import EgemapsConfig

FRAME_SHIFT = 0.010
# Shortest signal in seconds: openSMILE's pitch window has 60 ms, and shorter signals give rows of NaN.
SHORTEST = 0.060


class EgemapsExtractor(OpensmileExtractor):
    """eGeMAPSv02 features, computed by opensmile: LLD (1, num_frames, 25), or functionals (1, 1, 88).

    Raises:
        ModelError: functionals in windows, or windows that are too short.
    """

    Config = EgemapsConfig
    argument = None
    decided: ClassVar = {"level": "lld"}
    averaged_frame_shift = 0.020
    supports_chunks = True

    def __init__(self, config: EgemapsConfig) -> None:
        self._functionals = config.level == "functionals"
        if self._functionals and config.chunks():
            raise ModelError("--chunk-seconds does not apply to egemaps-functionals, which need the whole utterance")
        super().__init__(config)
        check_chunks(self)

    @property
    def feature_set(self) -> str:
        return "eGeMAPSv02"

    @classmethod
    def recorded_as(cls, reference: str, settings: Mapping[str, Any]) -> str:
        return "egemaps" if settings.get("level") == "lld" else "egemaps-functionals"

    def settings(self) -> dict[str, Any]:
        return {"extractor": "egemaps", "feature_set": self.feature_set, **self.config.settings()}

    @property
    def _label(self) -> str:
        return "eGeMAPS"

    def _shortest_seconds(self, sampling_rate: int) -> float:
        return SHORTEST

    def num_frames(self, num_samples: int, sampling_rate: int) -> int:
        if num_samples < SHORTEST * sampling_rate:
            return 0
        if self._functionals:
            return 1
        return (num_samples - _in_samples(SHORTEST, sampling_rate)) // self.hop(sampling_rate) + 2

    def hop(self, sampling_rate: int) -> int:
        return _in_samples(FRAME_SHIFT, sampling_rate)

    def _measured(self, rate: int) -> FrameGrid:
        """Return the positions of the frames, which are known for eGeMAPS and need not be measured."""
        first, hop = (1, 0) if self._functionals else (2, _in_samples(FRAME_SHIFT, rate))
        return FrameGrid(shortest=_in_samples(SHORTEST, rate), first=first, hop=hop)


class EgemapsFunctionals(EgemapsExtractor):
    """eGeMAPSv02 functionals: 88 values per utterance."""

    decided: ClassVar = {"level": "functionals"}


def _in_samples(seconds: float, sampling_rate: int) -> int:
    # openSMILE rounds halves up, such as 220.5 samples at 22,050 Hz; Python's round() rounds them to even numbers.
    return math.floor(seconds * sampling_rate + 0.5)
