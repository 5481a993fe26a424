"""Signal → low-level descriptors or functionals of openSMILE: the package's feature sets, or a configuration file.

``opensmile:GeMAPSv01b`` is a feature set of the package, ``opensmile:FILE.conf`` a configuration of your own. Where a
set begins to have frames, and how many, is measured once for each sampling rate with short noise. openSMILE's licence
allows research and private use only.
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

# For good, because catch_warnings would change the filters under other threads' feet. A signal without frames is
# refused before openSMILE sees it, and a set of an older paper is what the user asks for.
warnings.filterwarnings("ignore", "Segment too short", UserWarning)
warnings.filterwarnings("ignore", "Feature set .* is deprecated", UserWarning)

# openSMILE takes 16-bit samples: +1.0 would become 32768, which wraps round to -32768.
LARGEST_SAMPLE = np.float32(1 - 2**-15)
# What openSMILE calls the level of functionals.
LEVELS = {"functionals": "func"}
# A set needs no more than this, in seconds, to give its first frame and the next one.
LONGEST_START = 2.0
# How many frames after the first the number is checked again.
CHECKED_FRAMES = (5, 50)


@dataclass(frozen=True, kw_only=True)
class FrameGrid:
    """Where a feature set has frames, in samples at one sampling rate.

    Attributes:
        shortest: Length of the shortest signal that has a frame.
        first: How many frames such a signal has.
        hop: One more frame comes with so many more samples; 0 if there is one vector per utterance.
    """

    shortest: int
    first: int
    hop: int

    def num_frames(self, num_samples: int) -> int:
        """Return the number of frames of a signal."""
        if num_samples < self.shortest:
            return 0
        return self.first + ((num_samples - self.shortest) // self.hop if self.hop else 0)


class OpensmileExtractor(Extractor):
    """A feature set of openSMILE: (1, num_frames, num_features), or (1, 1, num_features) for functionals.

    Raises:
        ModelError: no such feature set, level or file; windows of long utterances; a configuration that openSMILE does
            not accept.
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
            raise ModelError(f"{self._label} has no features at the level {config.level!r}; choose another with level")
        grid = self._grid(USUAL_RATE)
        self.frame_shift = grid.hop / USUAL_RATE if grid.hop else None

    @property
    def feature_set(self) -> str:
        """Name of the feature set, or path of the configuration."""
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
                f"feature set {name} has no level {self.config.level!r}, expected lld, functionals or, beside the "
                "GeMAPS family, lld_de"
            ) from error

    def _grid(self, sampling_rate: int) -> FrameGrid:
        with self._measuring:
            if sampling_rate not in self._grids:
                self._grids[sampling_rate] = self._measured(sampling_rate)
            return self._grids[sampling_rate]

    def _measured(self, rate: int) -> FrameGrid:
        """Find by bisection where the first frames are, and check the number of later ones.

        Raises:
            ModelError: frames that do not come at equal steps.
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
                    raise ModelError(f"{self._label} has frames at unequal steps at {rate} Hz, expected one every hop")
        return grid


class Compare2016(OpensmileExtractor):
    """ComParE 2016: 65 low-level descriptors every 10 ms.

    Source: Schuller et al. 2016, The INTERSPEECH 2016 Computational Paralinguistics Challenge; Weninger et al. 2013.
    """

    decided: ClassVar = {"feature_set": "ComParE_2016", "level": "lld"}
    argument = None


class Compare2016Functionals(OpensmileExtractor):
    """ComParE 2016: 6373 functionals of an utterance."""

    decided: ClassVar = {"feature_set": "ComParE_2016", "level": "functionals"}
    argument = None


def _bisect(holds: Any, below: int, above: int) -> int:
    """Return the first number for which something holds that does not hold for ``below`` and holds for ``above``."""
    while above - below > 1:
        middle = (below + above) // 2
        if holds(middle):
            above = middle
        else:
            below = middle
    return above
