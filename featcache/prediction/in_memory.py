"""Samples in memory → a WAV file with exactly these samples."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from featcache.errors import AudioError
from featcache.files.regular import replacing


def write_samples(samples: npt.ArrayLike, sampling_rate: int, path: Path) -> None:
    """Write samples as 32-bit floating-point WAV, so that reading the file returns exactly the same float32 values.

    The same samples give the same bytes.

    Args:
        samples: (num_samples,) or (num_channels, num_samples), nominally in [-1, 1]. Floating-point values are rounded
            to float32. Signed integers are divided by the largest value of their type plus one, as when a file of such
            samples is read.
        sampling_rate: Sampling rate in Hz.
        path: WAV file to write.

    Raises:
        AudioError: the samples are empty, not finite, not real numbers, have another shape, or are too many for a WAV
            file; or the sampling rate is not a positive whole number.
    """
    from scipy.io import wavfile

    channels = _channels(samples)
    if not 0 < sampling_rate < 2**31 or sampling_rate != int(sampling_rate):
        raise AudioError(f"sampling rate {sampling_rate!r}: expected a positive whole number of Hz")
    with replacing(path) as temporary:
        try:
            wavfile.write(temporary, int(sampling_rate), np.ascontiguousarray(channels.T))
        except ValueError as error:  # a WAV file has at most 4 GB
            raise AudioError(f"{channels.size} samples do not fit into a WAV file; give a file or a part") from error


def _channels(samples: npt.ArrayLike) -> npt.NDArray[np.float32]:
    """Return the samples as (num_channels, num_samples) float32."""
    try:
        found = np.asarray(samples)
    except (TypeError, ValueError) as error:
        raise AudioError(f"samples: expected an array of numbers, found {type(samples).__name__}") from error
    if not (np.issubdtype(found.dtype, np.floating) or np.issubdtype(found.dtype, np.signedinteger)):
        raise AudioError(f"samples of the type {found.dtype}: expected floating-point numbers in [-1, 1]")
    if found.ndim not in (1, 2) or found.size == 0:
        raise AudioError(f"samples of the shape {found.shape}: expected (num_samples,) or (num_channels, num_samples)")
    channels = np.atleast_2d(found)
    if channels.shape[0] > channels.shape[1]:
        raise AudioError(
            f"samples of the shape {found.shape}: expected (num_channels, num_samples), the other way round; "
            "transpose them"
        )
    if np.issubdtype(found.dtype, np.signedinteger):
        channels = channels / -float(np.iinfo(found.dtype).min)
    with np.errstate(over="ignore"):
        single = channels.astype(np.float32)
    if not np.isfinite(single).all():
        raise AudioError("samples: some are NaN, infinite or too large for float32; expected values in [-1, 1]")
    return single
