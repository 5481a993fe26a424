"""Log-mel spectrograms, compared with direct calls of librosa and with explicit sums."""

import librosa
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featcache.audio import Signal
from featcache.errors import AudioError, ModelError
from featcache.extractors import create_extractor
from featcache.extractors.windows import plan_windows

# Difference of decimal logarithms, from float32 sums in another order.
TOLERANCE = 1e-4


def plain_mel(rate, n_fft, n_mels, fmin, fmax):
    """Return triangular bands on Slaney's mel scale, normalised to unit area: (n_mels, n_fft // 2 + 1) float64."""

    def to_mel(hertz):
        return hertz * 3 / 200 if hertz < 1000 else 15 + 27 * np.log(hertz / 1000) / np.log(6.4)

    def to_hertz(mel):
        return mel * 200 / 3 if mel < 15 else 1000 * 6.4 ** ((mel - 15) / 27)

    edges = [to_hertz(mel) for mel in np.linspace(to_mel(fmin), to_mel(fmax), n_mels + 2)]
    filters = np.zeros((n_mels, n_fft // 2 + 1))
    for band in range(n_mels):
        low, middle, high = edges[band : band + 3]
        for number in range(n_fft // 2 + 1):
            hertz = number * rate / n_fft
            height = min((hertz - low) / (middle - low), (high - hertz) / (high - middle))
            filters[band, number] = max(0, height) * 2 / (high - low)
    return filters


def plain_logmel(samples, rate, *, window, hop, n_fft, n_mels, fmin, fmax, floor):
    padded = np.pad(samples.astype("f8"), n_fft // 2)
    before = (n_fft - window) // 2
    weights = np.zeros(n_fft)
    weights[before : before + window] = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / window)
    frames = np.stack([padded[i : i + n_fft] * weights for i in range(0, len(padded) - n_fft + 1, hop)])
    power = np.abs(np.fft.rfft(frames)) ** 2
    return np.log10(np.maximum(power @ plain_mel(rate, n_fft, n_mels, fmin, fmax).T, floor))


@pytest.mark.parametrize(
    ("options", "rate", "lengths"),
    [
        ({}, 16000, (400, 160, 512)),
        ({"n_mels": 40, "fmin": 50.0, "fmax": 7600}, 16000, (400, 160, 512)),
        ({"window": "512samples", "hop": "320samples", "n_fft": 1024, "n_mels": 23}, 16000, (512, 320, 1024)),
        ({"sampling_rate": 0, "fmax": 4000, "n_fft": 2048}, 44100, (1102, 441, 2048)),
    ],
)
def test_bands_are_those_of_librosa_and_of_plain_sums(speech_like, options, rate, lengths):
    own = create_extractor("logmel", **options)
    window, hop, n_fft = lengths
    n_mels, fmin, fmax = options.get("n_mels", 80), options.get("fmin", 0.0), options.get("fmax", rate / 2)
    signals = [Signal(samples=speech_like(length, rate), sampling_rate=rate) for length in (9000, n_fft)]
    for signal, features in zip(signals, own.extract(signals), strict=True):
        assert (features.dtype, features.flags.c_contiguous) == (np.float32, True)
        assert features.shape == (1, own.num_frames(len(signal.samples), rate), n_mels)
        power = librosa.feature.melspectrogram(
            y=signal.samples, sr=rate, n_fft=n_fft, hop_length=hop, win_length=window, pad_mode="constant",
            n_mels=n_mels, fmin=fmin, fmax=fmax,
        )  # fmt: skip
        np.testing.assert_allclose(features[0], np.log10(np.maximum(power, 1e-10)).T, rtol=0, atol=TOLERANCE)
        expected = plain_logmel(
            signal.samples, rate, window=window, hop=hop, n_fft=n_fft, n_mels=n_mels, fmin=fmin, fmax=fmax, floor=1e-10
        )
        audible = expected > expected.max() - 6  # Lower values are rounding errors of float32 sums.
        np.testing.assert_allclose(features[0][audible], expected[audible], rtol=0, atol=TOLERANCE * 10)


@settings(max_examples=40)
@given(num_samples=st.integers(0, 3000), hop=st.integers(1, 700), center=st.booleans())
def test_num_frames_is_exact(num_samples, hop, center):
    own = create_extractor("logmel", hop=f"{hop}samples", center=center, n_mels=20)
    signal = Signal(samples=np.ones(num_samples, dtype=np.float32), sampling_rate=16000)
    expected = own.num_frames(num_samples, 16000)
    if num_samples < 512:
        assert expected == 0
        with pytest.raises(AudioError, match="too short for a Fourier transform of 512 samples"):
            own.extract([signal])
    else:
        assert own.extract([signal])[0].shape == (1, expected, 20)


def test_silence_is_the_floor_and_a_batch_changes_nothing(speech_like):
    own = create_extractor("logmel", floor=1e-6)
    signals = [Signal(samples=speech_like(2000 + 300 * n, seed=n), sampling_rate=16000) for n in range(4)]
    silence = Signal(samples=np.zeros(1000, dtype=np.float32), sampling_rate=16000)
    for features, signal in zip(own.extract(signals), signals, strict=True):
        np.testing.assert_array_equal(features, own.extract([signal])[0])
    # The last digit of numpy's float32 logarithm depends on the CPU.
    np.testing.assert_allclose(own.extract([silence])[0], np.float32(-6), rtol=np.finfo(np.float32).eps)


def test_windows_give_what_the_whole_gives(speech_like):
    own = create_extractor("logmel", chunk_seconds=0.5, overlap_seconds=0.1)
    samples = speech_like(30000)
    [whole] = own.extract([Signal(samples=samples, sampling_rate=16000)])
    pieces = []
    for window in plan_windows(own, len(samples), 16000):
        signal = Signal(samples=samples[window.start : window.stop], sampling_rate=16000)
        pieces.append(own.extract([signal])[0][:, window.kept])
    np.testing.assert_allclose(np.concatenate(pieces, axis=1), whole, rtol=0, atol=1e-6)  # other matrix shapes


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"n_mels": 300},
            r"^\d+ of 300 mel bands contain no bin of .* use a larger --n-fft or",
        ),
        ({"fmax": 9000}, r"from fmin 0 to fmax 9000 Hz do not fit .* 16000 Hz; expected fmin < fmax <= 8000$"),
        ({"fmin": 5000, "fmax": 4000}, "from fmin 5000 to fmax 4000 Hz do not fit"),
        ({"sampling_rate": 0}, "needs fmax, so that all have the same bands"),
        ({"n_mel": 3}, "no option 'n_mel'; did you mean 'n_mels'"),
    ],
)
def test_options_that_cannot_be(options, message):
    with pytest.raises(ModelError, match=message):
        create_extractor("logmel", **options)


def test_a_file_of_a_rate_that_does_not_fit_fails_alone(speech_like):
    own = create_extractor("logmel", sampling_rate=0, fmax=8000, n_fft=4096)
    with pytest.raises(AudioError, match="do not fit the sampling rate 8000 Hz"):
        own.extract([Signal(samples=speech_like(8000, 8000), sampling_rate=8000)])
