"""Source code of a user's extractor, which is written to a file of its own."""

PROSODY = """
from dataclasses import dataclass

import numpy as np

from featcache.extractors.base import Extractor
from featcache.settings.extractor_configs import AudioConfig
from featcache.settings.field import setting


@dataclass(frozen=True, kw_only=True)
class ProsodyConfig(AudioConfig):
    f0_max: float = setting(400.0, "Highest pitch that is looked for, in Hz.", above=0)


class Prosody(Extractor):
    Config = ProsodyConfig
    kind = "descriptors"
    frame_shift = 0.010

    def extract(self, signals):
        return [self.one(signal) for signal in signals]

    def one(self, signal):
        hop = self.hop(signal.sampling_rate)
        num_frames = self.num_frames(len(signal.samples), signal.sampling_rate)
        padded = np.pad(signal.samples, (0, num_frames * hop - len(signal.samples))).reshape(1, num_frames, hop)
        values = [(padded**2).mean(axis=2), np.abs(padded).max(axis=2) * self.config.f0_max]
        return np.stack(values, axis=2).astype(np.float32)
"""

# Bodies of ``extract`` with one error each, and the expected message; a class with the body is added to the file above.
BROKEN = {
    "shape": (
        "return [self.one(s)[0] for s in signals]",
        r"returned \(101, 2\) float32 for 16000 samples",
    ),
    "dtype": (
        "return [self.one(s).astype('f8') for s in signals]",
        r"returned \(1, 101, 2\) float64 for 16000 samples",
    ),
    "frames": (
        "return [self.one(s)[:, 1:] for s in signals]",
        r"returned \(1, 100, 2\) float32 .*expected \(1, 101, 2\)",
    ),
    "batch": (
        "return [self.one(s) * len(signals) for s in signals]",
        "the features of an utterance depend on its batch",
    ),
    "number": ("return [self.one(s) for s in signals[1:] or signals]", "returned 2 feature arrays for 3 signals"),
    "exit": ("raise SystemExit(0)", r"failed \(SystemExit: 0\)"),
    "bug": ("raise ZeroDivisionError('a\\nbug')", r"ZeroDivisionError: a bug\)"),
}


def broken(body):
    """Return the source of an extractor with another ``extract``."""
    return f"""{PROSODY}

class Broken(Prosody):
    feature_names = ("energy", "largest")

    def extract(self, signals):
        {body}
"""


def write(folder, source=PROSODY, name="prosody.py"):
    """Write the file and return the reference of its extractor."""
    folder.mkdir(exist_ok=True, parents=True)
    path = folder / name
    path.write_text(source, encoding="utf-8")
    return f"{path}:Prosody"
