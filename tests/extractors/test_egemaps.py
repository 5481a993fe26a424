"""eGeMAPS features, compared with direct calls of opensmile."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import opensmile
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featcache.audio import Signal
from featcache.errors import AudioError
from featcache.extractors.egemaps import EgemapsExtractor
from featcache.settings.extractor_configs import EgemapsConfig

LEVELS = {
    "lld": opensmile.FeatureLevel.LowLevelDescriptors,
    "functionals": opensmile.FeatureLevel.Functionals,
}
RATES = (8000, 16000, 22050, 44100, 48000)
# Largest value of a 16-bit sample.
LARGEST = np.float32(32767 / 32768)


@pytest.fixture(scope="module")
def extractors():
    return {level: EgemapsExtractor(EgemapsConfig(level=level)) for level in LEVELS}


def by_hand(level, signal):
    smile = opensmile.Smile(feature_set=opensmile.FeatureSet.eGeMAPSv02, feature_level=LEVELS[level])
    return smile.process_signal(signal.samples, signal.sampling_rate).to_numpy()[None]


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("level", LEVELS)
def test_features_are_those_of_opensmile(extractors, speech_like, level, rate):
    signals = [
        Signal(samples=speech_like(length, rate, seed=length), sampling_rate=rate) for length in (rate // 2, rate)
    ]
    for signal, features in zip(signals, extractors[level].extract(signals), strict=True):
        assert features.dtype == np.float32
        assert features.flags.c_contiguous
        assert np.isfinite(features).all()
        np.testing.assert_array_equal(features, by_hand(level, signal))


@pytest.mark.parametrize("level", LEVELS)
def test_full_scale_samples_do_not_wrap_round(extractors, speech_like, level):
    samples = speech_like(16000)
    samples[[4000, 8000]] = 1.0
    clipped = Signal(samples=np.minimum(samples, LARGEST), sampling_rate=16000)
    signal = Signal(samples=samples, sampling_rate=16000)
    before = samples.copy()
    np.testing.assert_array_equal(extractors[level].extract([signal])[0], by_hand(level, clipped))
    assert not np.array_equal(by_hand(level, signal), by_hand(level, clipped))  # opensmile without clipping of +1.0
    np.testing.assert_array_equal(samples, before)


def test_samples_beyond_full_scale_are_clipped(extractors, speech_like):
    samples = speech_like(16000) * 2
    assert samples.max() > 1 > -1 > samples.min()
    loud, clipped = (Signal(samples=s, sampling_rate=16000) for s in (samples, samples.clip(-1, LARGEST)))
    np.testing.assert_array_equal(extractors["lld"].extract([loud])[0], by_hand("lld", clipped))


@settings(max_examples=40)
@given(rate=st.sampled_from(RATES), seconds=st.floats(0.055, 0.4))
def test_num_frames_is_exact(extractors, speech_like, rate, seconds):
    own, num_samples = extractors["lld"], round(seconds * rate)
    num_frames = own.num_frames(num_samples, rate)
    signal = Signal(samples=speech_like(num_samples, rate), sampling_rate=rate)
    if num_frames == 0:
        with pytest.raises(AudioError, match="too short for eGeMAPS"):
            own.extract([signal])
    else:
        assert own.extract([signal])[0].shape == (1, num_frames, 25)


@pytest.mark.parametrize("rate", [*RATES, 11025, 24000, 32000, 96000])
@pytest.mark.parametrize("num_frames", [2, 3, 20])
@pytest.mark.parametrize("more", [-1, 0, 1])
def test_frame_counts_one_sample_short_exact_and_one_over(extractors, speech_like, rate, num_frames, more):
    # The first 60 ms give two frames, and every further 10 ms give one more. Half samples are rounded up.
    num_samples = int(0.060 * rate + 0.5) + (num_frames - 2) * int(0.010 * rate + 0.5) + more
    expected = num_frames if more >= 0 else num_frames - 1
    if expected == 1:  # A signal never has exactly one frame.
        assert extractors["lld"].num_frames(num_samples, rate) == 0
        return
    signal = Signal(samples=speech_like(num_samples, rate), sampling_rate=rate)
    assert extractors["lld"].num_frames(num_samples, rate) == expected
    assert extractors["lld"].extract([signal])[0].shape[1] == expected


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("level", LEVELS)
def test_too_short(extractors, speech_like, level, rate):
    own, shortest = extractors[level], int(0.060 * rate)
    for num_samples in (0, 1, shortest - 1):
        assert own.num_frames(num_samples, rate) == 0
        message = rf"^{num_samples} samples at {rate} Hz are too short for eGeMAPS, which needs 60 ms$"
        with pytest.raises(AudioError, match=message):
            own.extract([Signal(samples=speech_like(num_samples, rate), sampling_rate=rate)])
    features = own.extract([Signal(samples=speech_like(shortest, rate), sampling_rate=rate)])[0]
    assert np.isfinite(features).all()


def test_silence_is_finite(extractors):
    silence = Signal(samples=np.zeros(16000, dtype=np.float32), sampling_rate=16000)
    for own in extractors.values():
        assert np.isfinite(own.extract([silence])[0]).all()


@pytest.mark.parametrize("level", LEVELS)
def test_threads_may_share_an_extractor(extractors, speech_like, level):
    own = extractors[level]
    signals = [Signal(samples=speech_like(2000 + 700 * i, seed=i), sampling_rate=16000) for i in range(12)]
    expected = own.extract(signals)
    with ThreadPoolExecutor(4) as pool:
        for features, alone in zip(pool.map(lambda signal: own.extract([signal])[0], signals), expected, strict=True):
            np.testing.assert_array_equal(features, alone)


def test_descriptions(extractors):
    lld, functionals = (extractors[level].description for level in LEVELS)
    assert (lld.hidden_size, lld.frame_shift) == (25, 0.010)
    assert (functionals.hidden_size, functionals.frame_shift) == (88, None)
    for description in (lld, functionals):
        assert description.dataset == "frames"
        assert description.layer_names == ("",)
        assert description.sampling_rate is None  # each file's own rate
        assert len(description.provenance["feature_names"]) == description.hidden_size
    assert extractors["functionals"].num_frames(16000, 16000) == 1


@pytest.mark.parametrize("change", [{"level": "functionals"}, {"sampling_rate": 16000}, {"channel": "first"}])
def test_what_changes_numbers_is_in_the_settings(extractors, change):
    description = EgemapsExtractor(EgemapsConfig(**change)).description
    assert description.settings != extractors["lld"].description.settings
    assert description.sampling_rate == change.get("sampling_rate")
    assert description.channel == change.get("channel", "mean")
