"""float32 features ↔ int8, with one quantisation scale (step) for each utterance, layer and dimension.

A value is stored as its distance from the mean over the utterance's frames, divided by the scale and rounded. The mean
is part of the statistics. The scale is the largest distance from the mean divided by 127, so that no value is clipped.
For normally distributed values over a few seconds, the signal-to-noise ratio of the rounding is about 40 dB. It is at
least 35 dB in each dimension if no frame is further than 7 standard deviations from the mean.
"""

import numpy as np
import numpy.typing as npt

STEPS = 127


def quantise(
    features: npt.NDArray[np.float32], mean: npt.NDArray[np.float32]
) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float32]]:
    """Round features to 8 bits.

    Args:
        features: (num_layers, num_frames, hidden_size) float32, finite.
        mean: (num_layers, hidden_size) float32, the mean over the frames.

    Returns:
        Quantised features, (num_layers, num_frames, hidden_size) int8, and quantisation scales, (num_layers,
        hidden_size) float32. The scale is 0 for a constant dimension.
    """
    step = step_between(features.min(axis=1), features.max(axis=1), mean)
    return count_steps(features, mean, step), step


def step_between(
    lowest: npt.NDArray[np.float32], highest: npt.NDArray[np.float32], mean: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    """Return the quantisation scale that covers both extremes; all arrays are float32 of the same shape."""
    step = np.maximum(highest - mean, mean - lowest) / np.float32(STEPS)
    # Subnormal float32 numbers have too few digits for a scale.
    return np.where(step < np.finfo(np.float32).tiny, np.float32(0), step)


def count_steps(
    features: npt.NDArray[np.float32], mean: npt.NDArray[np.float32], step: npt.NDArray[np.float32]
) -> npt.NDArray[np.int8]:
    """Return (…, num_frames, hidden_size) float32 features as int8 multiples of the scale from the mean."""
    divisor = np.where(step > 0, step, np.float32(1))
    return np.rint((features - mean[..., None, :]) / divisor[..., None, :]).astype(np.int8)


def restore(
    in_steps: npt.NDArray[np.int8], mean: npt.NDArray[np.float32], step: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    """Return the float32 features that :func:`quantise` rounded, with an error of at most half a quantisation scale."""
    return in_steps * step[:, None] + mean[:, None]
