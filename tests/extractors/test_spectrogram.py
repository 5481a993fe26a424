"""Spectrograms, compared with direct calls of librosa and with an explicit Fourier sum."""

import librosa
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featcache.audio import Signal
from featcache.errors import AudioError, ModelError
from featcache.extractors.spectrogram import SpectrogramExtractor
from featcache.settings.extractor_configs import SpectrogramConfig

# librosa sums in float32; in the worst case, a thousand terms lose four of seven digits.
TOLERANCE = 1e-4

# Options of Pepino et al. 2021, at each file's own rate.
AS_RUN = {"window": "400samples", "hop": "320samples", "n_fft": 512, "sampling_rate": None}


def make(**config):
    return SpectrogramExtractor(SpectrogramConfig(**config))


def fourier_sum(samples, *, window, hop, n_fft, center):
    """Return the magnitudes by definition: (num_frames, n_fft // 2 + 1) float64."""
    if center:
        samples = np.pad(samples, n_fft // 2)
    before = (n_fft - window) // 2
    weights = np.zeros(n_fft)
    weights[before : before + window] = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / window)
    starts = range(0, len(samples) - n_fft + 1, hop)
    frames = np.stack([samples[start : start + n_fft] * weights for start in starts])
    turns = np.outer(np.arange(n_fft), np.arange(n_fft // 2 + 1)) / n_fft
    return np.abs(frames @ np.exp(-2j * np.pi * turns))


@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize(
    ("config", "rate", "lengths"),
    [
        ({}, 16000, (400, 160, 512)),
        ({"n_fft": 1024}, 16000, (400, 160, 1024)),
        ({"n_fft": 401}, 16000, (400, 160, 401)),
        ({"window": "32ms", "hop": "12.5ms"}, 16000, (512, 200, 512)),
        ({"sampling_rate": 8000}, 8000, (200, 80, 256)),
        (AS_RUN, 48000, (400, 320, 512)),
        (AS_RUN, 16000, (400, 320, 512)),
        ({"n_fft": 2048, "sampling_rate": None}, 44100, (1102, 441, 2048)),
    ],
)
def test_magnitudes(speech_like, config, rate, lengths, center):
    window, hop, n_fft = lengths
    own = make(center=center, **config)
    signals = [Signal(samples=speech_like(length, rate), sampling_rate=rate) for length in (5000, 4000, n_fft)]
    for signal, features in zip(signals, own.extract(signals), strict=True):
        spectrum = librosa.stft(signal.samples, n_fft=n_fft, hop_length=hop, win_length=window, center=center)
        assert features.dtype == np.float32
        assert features.flags.c_contiguous
        assert features.shape == (1, own.num_frames(len(signal.samples), rate), own.description.hidden_size)
        np.testing.assert_array_equal(features, np.abs(spectrum.T)[None])
        expected = fourier_sum(signal.samples, window=window, hop=hop, n_fft=n_fft, center=center)
        np.testing.assert_allclose(features[0], expected, rtol=0, atol=TOLERANCE * expected.max())


def test_a_tone_stands_in_its_bin():
    time = np.arange(16000) / 16000
    tone = Signal(samples=np.sin(2 * np.pi * 1000 * time).astype(np.float32), sampling_rate=16000)
    inner = make().extract([tone])[0][0, 3:-3]
    assert (inner.argmax(axis=1) == 1000 * 512 // 16000).all()
    np.testing.assert_allclose(inner.max(axis=1), 400 / 4, rtol=TOLERANCE)  # Half the sum of a Hann window.


def test_as_pepino_ran_it_on_ravdess(speech_like):
    own = make(**AS_RUN)
    assert own.description.hidden_size == 257
    assert own.description.frame_shift is None  # It differs between files.
    assert own.description.sampling_rate is None
    features = own.extract([Signal(samples=speech_like(80000, 48000), sampling_rate=48000)])[0]
    assert features.shape == (1, 251, 257)  # 250 frames of 320 samples cover 1.67 s
    assert own.num_frames(round(1.667 * 48000), 48000) == 251


@given(
    num_samples=st.integers(0, 5000),
    hop=st.integers(1, 700),
    window=st.integers(1, 300),
    n_fft=st.integers(300, 700),
    center=st.booleans(),
)
def test_num_frames_is_exact(num_samples, hop, window, n_fft, center):
    own = make(window=f"{window}samples", hop=f"{hop}samples", n_fft=n_fft, center=center)
    signal = Signal(samples=np.ones(num_samples, dtype=np.float32), sampling_rate=16000)
    num_frames = own.num_frames(num_samples, 16000)
    if num_samples < n_fft:
        assert num_frames == 0
        with pytest.raises(AudioError, match=f"^{num_samples} samples are too short for a .* of {n_fft} samples$"):
            own.extract([signal])
    else:
        assert own.extract([signal])[0].shape == (1, num_frames, n_fft // 2 + 1)


@pytest.mark.parametrize(
    ("config", "frame_shift"),
    [
        ({}, 0.010),
        ({"hop": "320samples"}, 0.020),
        ({"hop": "20ms", "sampling_rate": 48000}, 0.020),
        ({"hop": "20ms", "sampling_rate": None, "n_fft": 4096}, 0.020),
    ],
)
def test_description(config, frame_shift):
    description = make(**config).description
    assert description.dataset == "frames"
    assert description.layer_names == ("",)
    assert description.frame_shift == frame_shift
    assert description.channel == "mean"


@pytest.mark.parametrize(
    "change",
    [
        {"window": "20ms"},
        {"hop": "20ms"},
        {"n_fft": 1024},
        {"center": False},
        {"sampling_rate": 48000},
        {"channel": "first"},
    ],
)
def test_what_changes_numbers_is_in_the_settings(change):
    assert make(**change).description.settings != make().description.settings


@pytest.mark.parametrize("option", ["window", "hop"])
@pytest.mark.parametrize("length", ["", "25", "25 ms", "25s", "-25ms", "0ms", "0.0ms", "0samples", "1.5samples", "ms"])
def test_lengths_that_are_none(option, length):
    with pytest.raises(ModelError, match=rf"^--{option} is '{length}', expected a length such as 25ms or 400samples$"):
        make(**{option: length})


@pytest.mark.parametrize("n_fft", [399, 0, -512])
@pytest.mark.parametrize("window", ["25ms", "400samples"])
def test_a_window_longer_than_the_transform(n_fft, window):
    with pytest.raises(ModelError, match=rf"^a window of 400 samples does not fit into --n-fft {n_fft}$"):
        make(n_fft=n_fft, window=window)


def test_a_window_in_time_is_checked_at_the_rate_of_each_file(speech_like):
    own = make(n_fft=512, sampling_rate=None)
    assert own.num_frames(16000, 16000) == 101
    with pytest.raises(ModelError, match=r"^a window of 1200 samples does not fit into --n-fft 512$"):
        own.extract([Signal(samples=speech_like(48000, 48000), sampling_rate=48000)])


def test_own_rates_need_one_size():
    with pytest.raises(ModelError, match=r"^a spectrogram at the files' own sampling rates needs --n-fft, so that all"):
        make(sampling_rate=None)
