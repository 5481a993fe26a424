"""Statistics of utterances and their merging are compared with float64 over all frames."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featcache.cache import statistics
from featcache.cache.statistics import merge, of_frames

EPS = np.finfo(np.float32).eps


@st.composite
def utterances(draw):
    """Draw utterances of (num_layers, num_frames, hidden_size) float32, far from zero and from each other."""
    lengths = draw(st.lists(st.integers(1, 40), min_size=1, max_size=8))
    offset = draw(st.sampled_from([0.0, 1.0, -1e3, 1e5]))
    spread = draw(st.sampled_from([0.0, 1e-3, 1.0, 1e3]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return [
        (offset + spread * rng.standard_normal() + rng.standard_normal((2, length, 3))).astype(np.float32)
        for length in lengths
    ]


def rounding(frames):
    """Return the tolerance for float32 means and sums of squares: some units in the last place of the largest value."""
    return 4 * EPS * max(1.0, float(np.abs(frames).max()))


@given(utterances())
def test_an_utterance_alone_against_float64(parts):
    frames = parts[0].astype(np.float64)
    found = of_frames(parts[0])
    assert found.count == frames.shape[1]
    np.testing.assert_allclose(found.mean, frames.mean(axis=1), rtol=EPS, atol=0)
    deviations = frames - frames.mean(axis=1, keepdims=True)
    # A mean with an error e adds count * e^2 to the sum of squares; the rest is float32 summation.
    slack = found.count * rounding(frames) ** 2
    np.testing.assert_allclose(found.m2, (deviations**2).sum(axis=1), rtol=1e-5, atol=slack)
    np.testing.assert_array_equal(found.max, frames.max(axis=1))


@given(parts=utterances(), chunk=st.integers(1, 9))
def test_merging_any_partition_gives_the_statistics_of_all_frames(parts, chunk):
    found = [of_frames(part) for part in parts]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(statistics, "CHUNK", chunk)
        mean, std = merge(
            np.array([item.count for item in found]),
            lambda rows: np.stack([found[row].mean for row in rows]),
            lambda rows: np.stack([found[row].m2 for row in rows]),
        )
    frames = np.concatenate(parts, axis=1).astype(np.float64)
    assert mean.dtype == std.dtype == np.float64
    np.testing.assert_allclose(mean, frames.mean(axis=1), rtol=0, atol=rounding(frames))
    np.testing.assert_allclose(std, frames.std(axis=1), rtol=1e-5, atol=rounding(frames))


def test_what_never_changes_has_no_deviation():
    found = of_frames(np.full((1, 1000, 1), 0.1, dtype=np.float32))
    assert found.m2 == 0
    mean, std = merge(
        np.array([1000, 1000, 7]),
        lambda rows: np.stack([found.mean for _ in rows]),
        lambda rows: np.stack([found.m2 for _ in rows]),
    )
    assert mean == pytest.approx(np.float32(0.1))
    assert std <= 1e-15
