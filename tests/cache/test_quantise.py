"""int8 storage: error of at most half a scale, at least 35 dB in every layer, half the size of float16."""

import h5py
import numpy as np
import pytest
import soundfile
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from featcache.cache.quantise import quantise, restore
from featcache.cache.reader import FeatureStore
from featcache.extraction import extract
from featcache.extraction.plan import ROW_BYTES
from featcache.extraction.verify import damaged_datasets, recompute

RATE = 16000
LEAST_RATIO = 35.0  # dB, the documented minimum for every layer.


def signal_to_noise(exact, found):
    """Return the signal-to-noise ratio of each layer in dB, (num_layers,)."""
    noise = np.square(found - exact).sum(axis=(1, 2), dtype=np.float64)
    return 10 * np.log10(np.square(exact).sum(axis=(1, 2), dtype=np.float64) / noise)


VALUES = arrays.arrays(
    np.float32,
    st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(1, 4)),
    elements=st.floats(-1e4, 1e4, width=32),
)


@given(features=VALUES)
@example(features=np.array([[[5.62e-43], [0], [0]]], dtype=np.float32))
def test_no_value_is_off_by_more_than_half_a_step(features):
    mean = features.mean(axis=1, dtype=np.float64).astype(np.float32)
    in_steps, step = quantise(features, mean)
    assert in_steps.dtype == np.int8
    assert np.abs(in_steps.astype(int)).max() <= 127
    # float32 rounds the sum of mean and difference once more.
    rounding = 4 * np.finfo(np.float32).eps * np.abs(features).max(axis=1)
    error = np.abs(restore(in_steps, mean, step) - features).max(axis=1)
    # A subnormal scale counts as 0.
    assert (error <= step / 2 + rounding + 127 * np.finfo(np.float32).tiny).all()


def test_what_never_changes_is_kept_exactly():
    features = np.full((2, 5, 3), 7.25, dtype=np.float32)
    in_steps, step = quantise(features, features.mean(axis=1))
    assert not in_steps.any()
    assert not step.any()
    np.testing.assert_array_equal(restore(in_steps, features.mean(axis=1), step), features)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
def test_normally_distributed_features_keep_35_db(rng, scale):
    features = (scale * rng.standard_normal((3, 400, 64)) * rng.lognormal(size=(3, 1, 64))).astype(np.float32)
    mean = features.mean(axis=1)
    in_steps, step = quantise(features, mean)
    assert (signal_to_noise(features, restore(in_steps, mean, step)) >= LEAST_RATIO).all()


@pytest.fixture(scope="module")
def stores(tmp_path_factory, speech_like, tiny_model):
    """Return stores of the same utterances in float32, float16 and int8."""
    folder = tmp_path_factory.mktemp("quantised")
    (folder / "made-up").mkdir()
    for number, seconds in enumerate((1.5, 3.0, 2.2)):
        soundfile.write(folder / "made-up" / f"u{number}.wav", speech_like(int(seconds * RATE), seed=number), RATE)
    (folder / "made-up" / "manifest.csv").write_text("path\nu0.wav\nu1.wav\nu2.wav\n")
    model = tiny_model("wav2vec2")
    reports = {
        dtype: extract(
            model=model, data=folder / "made-up", home=folder / "data", egemaps=False, name=dtype, store=dtype
        )
        for dtype in ("float32", "float16", "int8")
    }
    found = {dtype: FeatureStore(report.cache / dtype) for dtype, report in reports.items()}
    return folder / "made-up", model, reports, found


def test_a_store_of_8_bits_is_read_back_transparently(stores):
    corpus, model, _, found = stores
    assert list(damaged_datasets(found["int8"].path)) == []
    for utterance_id in found["int8"]:
        restored = found["int8"][utterance_id]
        assert restored.dtype == np.float32
        assert (signal_to_noise(found["float32"][utterance_id], restored) >= LEAST_RATIO).all()
    np.testing.assert_array_equal(found["int8"].pooled("mean"), found["float32"].pooled("mean"))
    deviations = recompute(found["int8"], corpus, 3, model=model)
    assert all(deviation.within for deviation in deviations)
    assert max(deviation.largest for deviation in deviations) > 0


def test_features_take_half_of_what_float16_takes(stores):
    _, _, reports, found = stores
    sizes = {}
    for dtype in ("float16", "int8"):
        with h5py.File(found[dtype].path / "shard-00000.h5") as file:
            sizes[dtype] = file["hidden_states"].nbytes
            statistics = sum(dataset.nbytes for dataset in file["statistics"].values())
        planned = sizes[dtype] + statistics + 3 * (ROW_BYTES - 8)  # The counts are included in the rows.
        assert reports[dtype].planned_bytes == planned
    assert sizes["int8"] * 2 == sizes["float16"]


def test_the_index_shows_the_steps(stores):
    found = stores[-1]["int8"]
    with h5py.File(found.path / "index.h5") as file:
        assert file["hidden_states"].dtype == np.int8
        assert file["statistics/step"].shape == file["statistics/mean"].shape
        first = file["statistics/step"][0]
    assert (first > 0).any()
