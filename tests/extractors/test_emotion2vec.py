"""emotion2vec gives the layers of a slow version with the original parameters, alone and in any batch."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from featcache.audio import Signal
from featcache.errors import AudioError
from featcache.extractors.base import SAME_IN_ANY_BATCH
from featcache.extractors.emotion2vec import convert
from featcache.extractors.ssl import SSLExtractor
from featcache.settings.extractor_configs import SSLConfig
from tests.extractors.original_emotion2vec import TINY, plain_layers, random_parameters
from tests.extractors.speech import assert_close, run_alone

# Part of a layer's power that may be lost by rounding; see test_half_precision.py.
LOST = 0.01
MODELS = {
    "tiny": {},
    "six heads, a scale for each block": {"heads": 6, "scales": 3},
    "even kernel, three tokens more": {"kernel": 6, "tokens": 6},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a function that makes a folder with a converted model, and returns it with the original parameters."""

    def make(changes=None, **entries):
        original = random_parameters(**(changes or {}))
        config, parameters = convert(original)
        path = tmp_path_factory.mktemp("emotion2vec")
        (path / "config.json").write_text(json.dumps({**config, **entries}))
        save_file(parameters, path / "model.safetensors", metadata={"format": "pt"})
        return str(path), original

    return make


@pytest.fixture(scope="module")
def tiny(folder):
    return folder()[0]


@pytest.fixture(scope="module")
def own(tiny):
    return SSLExtractor(SSLConfig(model=tiny, layers="0-3,input"))


@pytest.mark.parametrize("changes", MODELS.values(), ids=MODELS)
def test_layers_are_those_of_the_original(folder, signal, changes):
    path, original = folder(changes)
    sizes = {name: {**TINY, **changes}[name] for name in ("heads", "prenet", "depth")}
    found = SSLExtractor(SSLConfig(model=path, layers="0-3,input"))
    for length in (400, 9000):
        utterance = signal(length)
        features = found.extract([utterance])[0]
        assert features.dtype == np.float32
        assert_close(features, plain_layers(original, utterance.samples, **sizes))


def test_batched_equals_alone(own, signals):
    alone = run_alone(own, signals)
    for order in ([0, 1, 2, 3, 4], [4, 2], [2, 0, 2]):
        for position, features in zip(order, own.extract([signals[i] for i in order]), strict=True):
            assert_close(features, alone[position])


def test_each_part_that_keeps_the_padding_out_is_needed(own, signals, monkeypatch):
    """Without the zeros before the positional convolutions, the comparison above would fail."""
    alone = own.extract([signals[3]])[0]
    positions = own._family.encoder.encoder.pos_conv_embed
    whole = positions.forward
    monkeypatch.setattr(positions, "forward", lambda hidden_states, _: whole(hidden_states, None))
    features = own.extract([signals[3], signals[4]])[0]
    assert np.abs(features[-1] - alone[-1]).max() > 1e-3 * np.abs(alone[-1]).max()
    np.testing.assert_allclose(features[0], alone[0], atol=1e-5)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_is_near_float32_and_the_same_in_any_batch(tiny, own, speech_like, precision):
    half = SSLExtractor(SSLConfig(model=tiny, layers="0-3,input", precision=precision))
    signals = [
        Signal(samples=speech_like(length, seed=n), sampling_rate=16000) for n, length in enumerate((16007, 400000))
    ]
    for features, signal in zip(half.extract(signals), signals, strict=True):
        expected, exact = half.extract([signal])[0], own.extract([signal])[0]
        scale = np.abs(exact).max(axis=(1, 2))
        assert np.isfinite(features).all()
        assert (np.abs(features - expected).max(axis=(1, 2)) <= SAME_IN_ANY_BATCH[precision] * scale).all()
        power = np.square(exact).mean(axis=(1, 2))
        assert (np.square(expected - exact).mean(axis=(1, 2)) <= LOST * power).all()


@pytest.mark.parametrize("num_frames", [1, 2, 49])
@pytest.mark.parametrize("more", [-1, 0, 1])
def test_frame_counts_one_sample_short_exact_and_one_over(own, signal, num_frames, more):
    num_samples = 400 + 320 * (num_frames - 1) + more
    expected = num_frames if more >= 0 else num_frames - 1
    assert own.num_frames(num_samples, 16000) == expected
    if expected:
        assert own.extract([signal(num_samples)])[0].shape == (5, expected, TINY["hidden"])
    else:
        with pytest.raises(AudioError, match=r"^399 samples at 16000 Hz are too short for a single frame$"):
            own.extract([signal(num_samples)])


def test_the_description(own, tiny):
    assert own.description.frame_shift == 0.02
    assert own.description.sampling_rate == 16000
    assert own.description.hidden_size == TINY["hidden"]
    assert own.description.settings["do_normalize"] is True
    assert own.description.provenance["model_type"] == "emotion2vec"
    assert SSLExtractor(SSLConfig(model=tiny)).description.layer_names == ("0", "1", "2", "3")


def test_the_first_blocks_alone(own, tiny, signals):
    shorter = SSLExtractor(SSLConfig(model=tiny, num_blocks=2))
    np.testing.assert_array_equal(shorter.extract(signals[:1])[0], own.extract(signals[:1])[0][:3])


def test_quiet_audio_is_normalised_as_in_the_original(folder, own, signal):
    """The original adds 1e-5 to the variance; transformers' feature extractors add 1e-7, which differs here."""
    path, original = folder()
    utterance = signal(4000)
    quiet = Signal(samples=utterance.samples * np.float32(0.005), sampling_rate=16000)
    sizes = {name: TINY[name] for name in ("heads", "prenet", "depth")}
    assert_close(own.extract([quiet])[0], plain_layers(original, quiet.samples, **sizes))
    plain = SSLExtractor(SSLConfig(model=path, layers="0-3,input", do_normalize=False))
    assert_close(plain.extract([quiet])[0], plain_layers(original, quiet.samples, **sizes, normalise=False))


def test_inputs_are_not_changed(own, signals):
    before = [signal.samples.copy() for signal in signals]
    own.extract(signals)
    for signal, samples in zip(signals, before, strict=True):
        np.testing.assert_array_equal(signal.samples, samples)


def test_untrained_models_are_always_the_same(tiny, signals):
    first, second = (SSLExtractor(SSLConfig(model=tiny, weights="random")) for _ in range(2))
    np.testing.assert_array_equal(first.extract(signals[:1])[0], second.extract(signals[:1])[0])
    fewer = SSLExtractor(SSLConfig(model=tiny, weights="random", num_blocks=1))
    np.testing.assert_array_equal(fewer.extract(signals[:1])[0], first.extract(signals[:1])[0][:2])


def test_untrained_parameters_have_the_distributions_of_the_original(tiny):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = SSLExtractor(SSLConfig(model=tiny, weights="random"))._family.encoder
    state = model.state_dict()
    assert float(state["encoder.layers.0.attention.qkv.weight"].std()) == pytest.approx(0.02, rel=0.1)
    assert not state["encoder.layers.0.attention.qkv.bias"].any()
    assert (state["encoder.layers.0.attention.alibi_scale"] == 1).all()
    assert not state["encoder.extra_tokens"][0].any()
    assert float(state["encoder.extra_tokens"][1:].std()) == pytest.approx(1, rel=0.5)
