"""Speech models give the same layers as Hugging Face transformers, alone and in any batch."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from featcache.audio import Signal
from featcache.errors import AudioError
from featcache.extractors.ssl import SSLExtractor
from featcache.settings.extractor_configs import SSLConfig
from tests.extractors.speech import (
    TOLERANCE,
    WAVEFORM_MODELS,
    WITH_INPUT,
    assert_close,
    hugging_face,
    hugging_face_features,
    run_alone,
)


@pytest.mark.parametrize(("name", "changes"), WAVEFORM_MODELS)
def test_layers_are_those_of_hugging_face(extractor, tiny_model, signal, name, changes):
    utterance = signal(12345)
    folder = tiny_model(name, **changes)
    features = extractor(folder, layers=WITH_INPUT[name]).extract([utterance])[0]
    assert features.dtype == np.float32
    assert_close(features, hugging_face_features(folder, utterance.samples))


@pytest.mark.parametrize(("name", "changes"), WAVEFORM_MODELS)
def test_batched_equals_alone(extractor, tiny_model, signals, name, changes):
    own = extractor(tiny_model(name, **changes), layers=WITH_INPUT[name])
    alone = run_alone(own, signals)
    for order in ([0, 1, 2, 3, 4], [4, 2, 4], [1, 0]):  # all, the longest with the shortest, and equal frame counts
        for position, features in zip(order, own.extract([signals[i] for i in order]), strict=True):
            assert_close(features, alone[position])


@pytest.mark.parametrize("name", ["wav2vec2", "data2vec-audio", "mhubert"])
def test_without_care_padding_would_show(tiny_model, signals, name):
    """With Hugging Face's own handling of padding, the batches in the tests above would fail."""
    model, feature_extractor = hugging_face(tiny_model(name))
    short = signals[3].samples
    with torch.inference_mode():
        batch = feature_extractor(
            [short, signals[4].samples],
            sampling_rate=16000,
            padding=True,
            return_attention_mask=True,
            return_tensors="pt",
        )
        batched = model(**batch).last_hidden_state[0].numpy()
        alone = model(**feature_extractor(short, sampling_rate=16000, return_tensors="pt")).last_hidden_state[0].numpy()
    assert np.abs(batched[: len(alone)] - alone).max() > 100 * TOLERANCE * np.abs(alone).max()


@pytest.mark.parametrize("name", ["wav2vec2", "data2vec-audio", "wavlm"])
@settings(max_examples=10)
@given(lengths=st.lists(st.integers(400, 8000), min_size=2, max_size=5))
def test_batched_equals_alone_at_any_lengths(extractor, tiny_model, signal, name, lengths):
    own = extractor(tiny_model(name))
    signals = [signal(length, seed) for seed, length in enumerate(lengths)]
    for features, expected in zip(own.extract(signals), run_alone(own, signals), strict=True):
        assert_close(features, expected)


@pytest.mark.parametrize("name", ["wav2vec2", "data2vec-audio", "wavlm"])
def test_threads_may_share_an_extractor(extractor, tiny_model, signals, name):
    own = extractor(tiny_model(name))
    alone = run_alone(own, signals)
    batches = [
        [i, (i + step) % 5, (i + 2 * step) % 5][:size] for i in range(5) for step in (1, 2) for size in (1, 2, 3)
    ]
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda batch: own.extract([signals[i] for i in batch]), batches))
    for batch, result in zip(batches, results, strict=True):
        for position, features in zip(batch, result, strict=True):
            assert_close(features, alone[position])


@pytest.mark.parametrize("name", ["wav2vec2", "wavlm"])
def test_the_threads_in_use_at_loading_change_nothing(tiny_model, signals, name):
    before = torch.get_num_threads()
    features = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        try:
            own = SSLExtractor(SSLConfig(model=tiny_model(name)))
            assert torch.get_num_threads() == threads
        finally:
            torch.set_num_threads(before)
        features.append(own.extract(signals[:1])[0])
    for others in features[1:]:
        np.testing.assert_array_equal(others, features[0])


@pytest.mark.parametrize("quiet", [0.0, 1e-4])
def test_silence_and_whispers_are_finite_and_do_not_mind_their_mates(extractor, tiny_model, signals, quiet):
    own = extractor(tiny_model("wav2vec2"))
    hushed = Signal(samples=signals[3].samples * np.float32(quiet), sampling_rate=16000)
    expected = own.extract([hushed])[0]
    assert np.isfinite(expected).all()
    assert_close(own.extract([signals[4], hushed])[1], expected)


def test_inputs_stay_untouched_and_features_are_ones_own(extractor, tiny_model, signals):
    own = extractor(tiny_model("wav2vec2"))
    before = [signal.samples.copy() for signal in signals]
    first = own.extract(signals)
    kept = [features.copy() for features in first]
    own.extract(signals[::-1])
    for signal, samples in zip(signals, before, strict=True):
        np.testing.assert_array_equal(signal.samples, samples)
    for features, copy in zip(first, kept, strict=True):
        assert features.flags.owndata
        assert features.flags.c_contiguous
        np.testing.assert_array_equal(features, copy)


# All convolutions together span 400 samples; every further frame needs 320 samples more.
@pytest.mark.parametrize("num_frames", [1, 2, 3, 49])
@pytest.mark.parametrize("more", [-1, 0, 1])
def test_frame_counts_one_sample_short_exact_and_one_over(extractor, tiny_model, signal, num_frames, more):
    own = extractor(tiny_model("wav2vec2"))
    num_samples = 400 + 320 * (num_frames - 1) + more
    expected = num_frames if more >= 0 else num_frames - 1
    assert own.num_frames(num_samples, 16000) == expected
    if expected:
        assert own.extract([signal(num_samples)])[0].shape == (4, expected, 32)


def test_frame_counts_are_those_of_hugging_face(extractor, tiny_model):
    folder = tiny_model("wav2vec2")
    own, (model, _) = extractor(folder), hugging_face(folder)
    num_samples = torch.cat([torch.arange(400, 2000), torch.tensor([16000, 480000, 10**7])])
    expected = model._get_feat_extract_output_lengths(num_samples)
    assert [own.num_frames(length, 16000) for length in num_samples.tolist()] == expected.tolist()


@pytest.mark.parametrize("num_samples", [0, 1, 399])
def test_too_short_for_a_frame(extractor, tiny_model, signal, num_samples):
    own = extractor(tiny_model("wav2vec2"))
    assert own.num_frames(num_samples, 16000) == 0
    with pytest.raises(AudioError, match=f"^{num_samples} samples at 16000 Hz are too short for a single frame$"):
        own.extract([signal(num_samples), signal(16000)])


@pytest.mark.parametrize("num_blocks", [None, 1, 2, 3])
def test_whisper_layers_are_those_of_hugging_face(extractor, tiny_model, signals, num_blocks):
    own = extractor(tiny_model("whisper"), num_blocks=num_blocks)
    model, feature_extractor = hugging_face(tiny_model("whisper"), encoder_layers=num_blocks or 3)
    encoder = model.get_encoder()
    utterance = signals[4]
    mel = feature_extractor(utterance.samples, sampling_rate=16000, return_tensors="pt").input_features
    with torch.inference_mode():
        output = encoder(mel, output_hidden_states=True)
        convolved = torch.nn.functional.gelu(encoder.conv2(torch.nn.functional.gelu(encoder.conv1(mel))))
        start = convolved.transpose(1, 2) + encoder.embed_positions.weight
    num_frames = -(-len(utterance.samples) // 320)
    expected = torch.cat([start, *output.hidden_states[1:-1], output.last_hidden_state])[:, :num_frames].numpy()
    assert own.description.layer_names == ("0", "1", "2", "3")[: (num_blocks or 3) + 1]
    assert_close(own.extract([utterance])[0], expected)


def test_whisper_batched_and_threaded_equals_alone(extractor, tiny_model, signals):
    own = extractor(tiny_model("whisper"))
    signals = signals[:3]
    alone = run_alone(own, signals)
    with ThreadPoolExecutor(2) as pool:
        for result in pool.map(own.extract, [signals, signals]):
            for features, expected in zip(result, alone, strict=True):
                assert_close(features, expected)


@pytest.mark.parametrize(
    ("num_samples", "num_frames"), [(1, 1), (319, 1), (320, 1), (321, 2), (479999, 1500), (480000, 1500)]
)
def test_whisper_keeps_the_frames_of_real_audio(extractor, tiny_model, signal, num_samples, num_frames):
    own = extractor(tiny_model("whisper"))
    assert own.num_frames(num_samples, 16000) == num_frames
    assert own.extract([signal(num_samples)])[0].shape == (4, num_frames, 32)


def test_whisper_hears_thirty_seconds(extractor, tiny_model, signal):
    with pytest.raises(
        AudioError,
        match=r"^30\.5 s are too long for Whisper, which processes at most 30 s; use windows with --chunk-seconds 30",
    ):
        extractor(tiny_model("whisper")).extract([signal(488000)])
    with pytest.raises(AudioError, match=r"^30\.0 s are too long for Whisper"):
        extractor(tiny_model("whisper")).extract([signal(480001)])
    with pytest.raises(AudioError, match=r"^0 samples at 16000 Hz are too short for a single frame$"):
        extractor(tiny_model("whisper")).extract([signal(0)])
