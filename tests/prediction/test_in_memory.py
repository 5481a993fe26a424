"""Samples in memory → a WAV file with exactly these samples."""

import numpy as np
import pytest
import soundfile

from featcache import audio
from featcache.errors import AudioError
from featcache.manifest import Utterance
from featcache.prediction.in_memory import write_samples


def read_back(folder):
    return audio.read(folder, Utterance(utterance_id="x", path="x.wav"))


@pytest.mark.parametrize("shape", [(1,), (5000,), (1, 30), (2, 5000), (6, 7)])
def test_samples_are_read_back_to_the_last_bit(tmp_path, rng, shape):
    samples = rng.normal(size=shape).astype(np.float32) * 3  # beyond [-1, 1], too
    samples.flat[0] = np.float32(1e-42)
    write_samples(samples, 22050, tmp_path / "x.wav")
    found = read_back(tmp_path)
    np.testing.assert_array_equal(found.channels, np.atleast_2d(samples))
    assert found.sampling_rate == 22050
    first = (tmp_path / "x.wav").read_bytes()
    write_samples(samples.astype(np.float64).tolist(), 22050, tmp_path / "x.wav")
    assert (tmp_path / "x.wav").read_bytes() == first


def test_integers_are_scaled_as_in_a_file(tmp_path, rng):
    samples = rng.integers(-(2**15), 2**15, 400, dtype=np.int16)
    soundfile.write(tmp_path / "x.wav", samples, 16000)
    expected = read_back(tmp_path).channels
    write_samples(samples, 16000, tmp_path / "x.wav")
    np.testing.assert_array_equal(read_back(tmp_path).channels, expected)


@pytest.mark.parametrize(
    ("samples", "rate", "message"),
    [
        (np.zeros(0), 16000, r"shape \(0,\)"),
        (np.zeros((2, 2, 2)), 16000, r"shape \(2, 2, 2\)"),
        (np.zeros((400, 2)), 16000, "the other way round; transpose"),
        ([0.0, np.nan], 16000, "NaN, infinite or too large"),
        ([0.0, 1e300], 16000, "NaN, infinite or too large"),
        ([1j], 16000, "type complex128"),
        (["a"], 16000, "samples of the type"),
        ([[0.0], [1.0, 2.0]], 16000, "found list"),
        (np.zeros(4, dtype=np.uint8), 16000, "type uint8"),
        ([0.0], 0, "sampling rate 0: expected a positive whole number"),
        ([0.0], 0.5, "sampling rate 0.5: expected"),
    ],
)
def test_what_is_no_signal_is_told(tmp_path, samples, rate, message):
    with pytest.raises(AudioError, match=message) as error:
        write_samples(samples, rate, tmp_path / "x.wav")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "x.wav").exists()
