"""float32 features ↔ 8 bits each, with a step of their own for every utterance, layer and dimension.

A value is stored as the number of steps between it and the mean over its utterance's frames, which stands in the
statistics anyway. A step is the largest such distance over 127, so that nothing is clipped: values that are normally
distributed over a few seconds keep about 40 dB to the noise of rounding, those of any one dimension at least 35 dB as
long as no frame is further than 7 standard deviations from the mean.
"""

import numpy as np
import numpy.typing as npt

STEPS = 127


def quantise(
    features: npt.NDArray[np.float32], mean: npt.NDArray[np.float32]
) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float32]]:
    """Round to 8 bits.

    Args:
        features: (num_layers, num_frames, hidden_size) float32, finite.
        mean: (num_layers, hidden_size) float32, over the frames.

    Returns:
        The features in steps, (num_layers, num_frames, hidden_size) int8, and the steps, (num_layers, hidden_size)
        float32; 0 where a value never changes.
    """
    step = step_between(features.min(axis=1), features.max(axis=1), mean)
    return count_steps(features, mean, step), step


def step_between(
    lowest: npt.NDArray[np.float32], highest: npt.NDArray[np.float32], mean: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    """The step that reaches from the mean to both extremes, of any equal shapes, float32."""
    step = np.maximum(highest - mean, mean - lowest) / np.float32(STEPS)
    # below its normal numbers float32 has too few digits left for a step
    return np.where(step < np.finfo(np.float32).tiny, np.float32(0), step)


def count_steps(
    features: npt.NDArray[np.float32], mean: npt.NDArray[np.float32], step: npt.NDArray[np.float32]
) -> npt.NDArray[np.int8]:
    """(…, num_frames, hidden_size) float32 in steps from (…, hidden_size) means; as int8."""
    divisor = np.where(step > 0, step, np.float32(1))
    return np.rint((features - mean[..., None, :]) / divisor[..., None, :]).astype(np.int8)


def restore(
    in_steps: npt.NDArray[np.int8], mean: npt.NDArray[np.float32], step: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    """The float32 features that :func:`quantise` rounded, off by half a step at most."""
    return in_steps * step[:, None] + mean[:, None]
