"""Frames of two stores pair by the integer ratio of their frame shifts; checked with loops over single values."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from featcache.cache.reader import FeatureStore
from featcache.normalise import Normaliser
from featcache.runs.head_inputs import read_head_inputs
from featcache.training.store_features import average_frames, features_of, frames_in_use

NOTHING = {"kind": "functionals", "provenance": {"averages_frames": True}, "settings": {"extractor": "logmel"}}


def plain_means(features, number):
    """Return frame i as the sum of the existing frames from ``number * i`` on, divided by ``number``."""
    num_layers, num_frames, size = features.shape
    means = np.zeros((num_layers, num_frames // number + 1, size))
    for frame in range(num_frames):
        means[:, frame // number] += features[:, frame].astype("f8") / number
    return means


def halves_as_before(features):
    """Compute the averaged frames of eGeMAPS exactly as release 0.1.0 did."""
    length = features.shape[1] // 2 + 1
    padded = np.pad(features, ((0, 0), (0, 2 * length - features.shape[1]), (0, 0)))
    return padded.reshape(len(padded), length, 2, -1).mean(axis=2)


SHAPES = st.tuples(st.integers(1, 2), st.integers(0, 13), st.integers(1, 3))


@given(arrays.arrays("f4", SHAPES, elements=st.floats(-1e3, 1e3, width=32)), st.integers(2, 6))
def test_neighbouring_frames_are_averaged_and_what_is_missing_is_zero(features, number):
    averaged = average_frames(features, number)
    assert averaged.dtype == np.float32
    np.testing.assert_allclose(averaged, plain_means(features, number), rtol=1e-5, atol=1e-3)
    np.testing.assert_array_equal(average_frames(features, 2), halves_as_before(features))


@pytest.fixture
def opened(tmp_path, write_store, rng):
    """Return the stores of two utterances of 0.48 and 0.45 s by name, and all frames."""
    written = {
        "ssl": (3, 0.02, {}),
        "coarse": (2, 0.04, {}),
        "odd": (2, 0.025, {}),
        "egemaps": (1, 0.01, {"kind": "egemaps"}),
        "logmel": (1, 0.01, NOTHING),
        "slow": (1, 0.02, NOTHING),
        "fast": (1, 0.005, NOTHING),
        "spectrogram": (1, 0.01, {**NOTHING, "provenance": {}}),
    }
    frames = {}
    for name, (layers, shift, options) in written.items():
        lengths = {"a": round(0.48 / shift), "b": int(0.45 / shift + 1e-9)}
        frames[name] = {i: rng.normal(size=(layers, n, 2)).astype("f4") for i, n in lengths.items()}
        write_store(tmp_path / name, frames[name], frame_shift=shift, **options)
    return {name: FeatureStore(tmp_path / name) for name in written}, frames


@pytest.mark.parametrize(
    ("names", "averaged"),
    [
        (["ssl", "egemaps"], [1, 2]),
        (["egemaps"], [2]),  # also without other stores
        (["logmel"], [1]),
        (["ssl", "logmel"], [1, 2]),
        (["logmel", "ssl"], [2, 1]),
        (["egemaps", "logmel"], [2, 2]),
        (["coarse", "logmel"], [1, 4]),
        (["coarse", "fast"], [1, 8]),
        (["coarse", "slow", "fast"], [1, 2, 8]),
        (["ssl", "slow"], [1, 1]),
    ],
)
def test_stores_pair_by_the_ratio_of_their_frame_shifts(opened, names, averaged):
    stores, frames = opened
    together = features_of([stores[name] for name in names], layers="all", max_frames=None, pooling=None)
    assert [one.averaged for one in together] == averaged
    assert all(one.paired for one in together)
    assert len({one.frame_shift for one in together}) == 1
    for i in "ab":
        [number, *others] = frames_in_use(together, i)
        assert set(others) <= {number}
        for name, one, ratio in zip(names, together, averaged, strict=True):
            expected = frames[name][i] if ratio == 1 else plain_means(frames[name][i], ratio)
            found = one.read(i, number, Normaliser(group_of={}, mean_={}, std_={}))
            np.testing.assert_allclose(found, expected[:, :number], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "names", [["ssl", "spectrogram"], ["coarse", "egemaps"], ["coarse", "ssl"], ["odd", "logmel"], ["odd", "egemaps"]]
)
def test_what_did_not_pair_or_has_no_integer_ratio_stays_apart(opened, names):
    stores, frames = opened
    apart = features_of([stores[name] for name in names], layers="all", max_frames=None, pooling=None)
    assert [(one.averaged, one.paired) for one in apart] == [(1, False)] * 2
    assert [one.num_frames("a") for one in apart] == [frames[name]["a"].shape[1] for name in names]


@pytest.mark.parametrize(
    ("recorded", "number"),
    [({"averaged_in_pairs": True}, 2), ({"averaged_in_pairs": False}, 1), ({"averaged_frames": 4}, 4)],
)
def test_runs_say_how_many_frames_were_averaged(tmp_path, recorded, number):
    of_store = {"layers": [""], "hidden_size": 2, "frame_shift": 0.02, "max_frames": None, **recorded}
    config = {"features": {"one": "x"}, "head_inputs": {"one": of_store}, "head": "svm", "pooling": "mean"}
    [found] = read_head_inputs(tmp_path, config, {})
    assert found.averaged_frames == number
    assert found.settings()["averaged_frames"] == number
