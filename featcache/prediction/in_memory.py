"""Samples in memory → a WAV file with exactly these samples."""

from pathlib import Path

import numpy.typing as npt


def write_samples(samples: npt.ArrayLike, sampling_rate: int, path: Path) -> None:
    """Write samples as 32-bit floating-point WAV.

    Args:
        samples: (num_samples,) or (num_channels, num_samples).
        sampling_rate: Sampling rate in Hz.
        path: WAV file to write.
    """
    import numpy as np
    from scipy.io import wavfile

    wavfile.write(path, int(sampling_rate), np.asarray(samples, dtype=np.float32).T)
