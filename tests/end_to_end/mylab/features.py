"""An extractor with an option and two layers: log energies with their second and third power, and their differences."""

from dataclasses import dataclass

import numpy as np

from featcache.extractors.base import Extractor
from featcache.settings.extractor_configs import AudioConfig
from featcache.settings.field import setting


@dataclass(frozen=True, kw_only=True)
class EnergyConfig(AudioConfig):
    """Options of the extractor."""

    floor: float = setting(1e-6, "Energy that is added before the logarithm.", above=0)


class Energy(Extractor):
    """Extractor of log energies: (2, num_frames, 3), one frame every 20 ms."""

    Config = EnergyConfig
    kind = "model"
    frame_shift = 0.020

    def extract(self, signals):
        return [self._energy(signal) for signal in signals]

    def _energy(self, signal):
        hop = self.hop(signal.sampling_rate)
        padded = np.pad(signal.samples, (0, hop))
        frames = padded[: len(padded) // hop * hop].reshape(-1, hop)
        energy = np.log((frames**2).mean(axis=1) + self.config.floor)
        values = np.stack([energy, energy**2, energy**3], axis=1)
        return np.stack([values, np.diff(values, axis=0, prepend=values[:1])]).astype(np.float32)
