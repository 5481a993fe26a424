"""Signal → low-level descriptors or functionals of openSMILE, from a feature set or a configuration file.

``opensmile:GeMAPSv01b`` is a feature set of the opensmile package; ``opensmile:FILE.conf`` is a configuration file of
the user. The number of frames for each signal length is measured once per sampling rate, with short noise. openSMILE's
licence allows research and private use only.
"""

import threading
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from featcache.audio import Signal
from featcache.errors import AudioError, ModelError, unknown_name
from featcache.extractors.base import USUAL_RATE, Extractor, noise
from featcache.extractors.opensmile_files import CopiedConfiguration
from featcache.features import Features
from featcache.settings.extractor_configs import EgemapsConfig, OpensmileConfig

# The filters are never removed, because catch_warnings is not safe in threads. Signals that are too short are refused
# before openSMILE reads them, and a user who names a deprecated feature set wants it.
warnings.filterwarnings("ignore", "Segment too short", UserWarning)
warnings.filterwarnings("ignore", "Feature set .* is deprecated", UserWarning)

# Largest sample: openSMILE converts samples to 16 bits, and +1.0 would become 32768, which overflows to -32768.
LARGEST_SAMPLE = np.float32(1 - 2**-15)
# featcache's name of a level → openSMILE's name.
LEVELS = {"functionals": "func"}
# Limit in seconds, both for the shortest signal with a frame and for the time until the next frame.
LONGEST_START = 2.0
# The number of frames is checked this many frames after the first one.
CHECKED_FRAMES = (5, 50)


@dataclass(frozen=True, kw_only=True)
class FrameGrid:
    """Positions of the frames of a feature set at one sampling rate.

    Attributes:
        shortest: Length of the shortest signal with a frame, in samples.
        first: Number of frames of such a signal.
        hop: Number of samples per further frame; 0 if there is one vector per utterance.
    """

    shortest: int
    first: int
    hop: int

    def num_frames(self, num_samples: int) -> int:
        """Return the number of frames of a signal with this number of samples."""
        if num_samples < self.shortest:
            return 0
        return self.first + ((num_samples - self.shortest) // self.hop if self.hop else 0)


class OpensmileExtractor(Extractor):
    """A feature set of openSMILE: (1, num_frames, num_features), or (1, 1, num_features) for functionals.

    Raises:
        ModelError: the feature set, level or file does not exist; openSMILE does not accept the configuration; frames
            are not equally spaced; windows of long utterances are requested.
    """

    Config: ClassVar[type[Any]] = OpensmileConfig
    argument: ClassVar[str | None] = "feature_set"

    def __init__(self, config: OpensmileConfig | EgemapsConfig) -> None:
        super().__init__(config)
        self._grids: dict[int, FrameGrid] = {}
        self._measuring = threading.Lock()
        self._copy = CopiedConfiguration(self.feature_set) if self.feature_set.endswith(".conf") else None
        self._smile = self._make()
        self.feature_names = list(self._smile.feature_names)
        if not self.feature_names:
            raise ModelError(f"{self._label} has no features at the level {config.level!r}; choose another level")
        grid = self._grid(USUAL_RATE)
        self.frame_shift = grid.hop / USUAL_RATE if grid.hop else None

    @property
    def feature_set(self) -> str:
        """Name of the feature set, or path of the configuration file."""
        return str(self.config.feature_set)

    def settings(self) -> dict[str, Any]:
        settings = super().settings()
        return settings if self._copy is None else {**settings, **self._copy.settings()}

    def provenance(self) -> dict[str, Any]:
        import opensmile

        return {"opensmile_version": opensmile.__version__}

    def num_frames(self, num_samples: int, sampling_rate: int) -> int:
        return self._grid(sampling_rate).num_frames(num_samples)

    def hop(self, sampling_rate: int) -> int:
        return self._grid(sampling_rate).hop or 1

    def extract(self, signals: Sequence[Signal]) -> list[Features]:
        return [self._extract_one(signal) for signal in signals]

    def _extract_one(self, signal: Signal) -> Features:
        num_samples, rate = len(signal.samples), signal.sampling_rate
        if self.num_frames(num_samples, rate) == 0:
            raise AudioError(
                f"{num_samples} samples at {rate} Hz are too short for {self._label}, which needs "
                f"{self._shortest_seconds(rate) * 1000:.0f} ms"
            )
        values = self._smile(np.clip(signal.samples, -1, LARGEST_SAMPLE), rate)
        return np.ascontiguousarray(values.transpose(0, 2, 1), dtype=np.float32)

    @property
    def _label(self) -> str:
        return f"openSMILE's {self.settings()['feature_set']}"

    def _shortest_seconds(self, sampling_rate: int) -> float:
        return self._grid(sampling_rate).shortest / sampling_rate

    def _make(self) -> Any:
        import opensmile

        level, name = LEVELS.get(self.config.level, self.config.level), self.feature_set
        if self._copy is not None:
            with self._copy.explained():
                return opensmile.Smile(feature_set=str(self._copy.path), feature_level=level)
        known = opensmile.FeatureSet.__members__
        if name not in known:
            raise ModelError(unknown_name("feature set", name, known, hint="opensmile:FILE.conf works too"))
        try:
            return opensmile.Smile(feature_set=known[name], feature_level=opensmile.FeatureLevel(level))
        except ValueError as error:
            raise ModelError(
                f"feature set {name} has no level {self.config.level!r}, expected lld, functionals or, outside the "
                "GeMAPS family, lld_de"
            ) from error

    def _grid(self, sampling_rate: int) -> FrameGrid:
        with self._measuring:
            if sampling_rate not in self._grids:
                self._grids[sampling_rate] = self._measured(sampling_rate)
            return self._grids[sampling_rate]

    def _measured(self, rate: int) -> FrameGrid:
        """Find the first frames by bisection, and check the number of later frames.

        Raises:
            ModelError: there is no frame, or the frames are not equally spaced.
        """
        samples = noise(int(2 * LONGEST_START * rate), rate).samples

        def count(num_samples: int) -> int:
            values = self._smile(samples[:num_samples], rate)
            return 0 if np.isnan(values).any() else int(values.shape[2])

        most = int(LONGEST_START * rate)
        if count(most) == 0:
            raise ModelError(f"{self._label} has no frame in {LONGEST_START:g} s of noise at {rate} Hz")
        shortest = _bisect(lambda num: count(num) > 0, 0, most)
        first = count(shortest)
        if count(len(samples)) == first == 1:
            return FrameGrid(shortest=shortest, first=1, hop=0)
        hop = _bisect(lambda num: count(num) > first, shortest, len(samples)) - shortest
        grid = FrameGrid(shortest=shortest, first=first, hop=hop)
        for frames in CHECKED_FRAMES:
            for num in (shortest + frames * hop - 1, shortest + frames * hop):
                if num <= len(samples) and count(num) != grid.num_frames(num):
                    raise ModelError(f"{self._label} has unequally spaced frames at {rate} Hz, expected one every hop")
        return grid


class Compare2016(OpensmileExtractor):
    """ComParE 2016 low-level descriptors: 65 values every 10 ms.

    Source: Schuller et al. 2016, The INTERSPEECH 2016 Computational Paralinguistics Challenge; Weninger et al. 2013.
    """

    decided: ClassVar = {"feature_set": "ComParE_2016", "level": "lld"}
    argument = None


class Compare2016Functionals(OpensmileExtractor):
    """ComParE 2016 functionals: 6373 values per utterance."""

    decided: ClassVar = {"feature_set": "ComParE_2016", "level": "functionals"}
    argument = None


def _bisect(holds: Any, below: int, above: int) -> int:
    """Return the smallest number that satisfies ``holds``, given that ``above`` does and ``below`` does not."""
    while above - below > 1:
        middle = (below + above) // 2
        if holds(middle):
            above = middle
        else:
            below = middle
    return above
