"""Hidden states: those of Hugging Face for one utterance, and the same in any batch, order and thread."""

import functools
import itertools
import re
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from featcache.audio import Signal
from featcache.errors import AudioError, ModelError
from featcache.extractors.ssl import SSLConfig, SSLExtractor

# Padding changes the order of float32 sums and nothing else: 1e-6 of a layer's largest value is usual here, while a
# leak of padding shows as 1e-3 or more (test_without_care_padding_would_show).
TOLERANCE = 1e-5

PLACEMENTS = [
    {"feat_extract_norm": norm, "do_stable_layer_norm": stable, "conv_bias": stable}
    for norm in ("group", "layer")
    for stable in (False, True)
]
WAVEFORM_MODELS = [
    pytest.param(name, changes, id=f"{name}-{changes['feat_extract_norm']}-stable={changes['do_stable_layer_norm']}")
    for name in ("wav2vec2", "hubert", "wavlm", "unispeech", "unispeech-sat")
    for changes in PLACEMENTS
] + [pytest.param(name, {}, id=name) for name in ("data2vec-audio", "xls-r", "distilhubert", "mhubert")]

WITH_INPUT = defaultdict(lambda: "0-3,input", distilhubert="0-2,input")

# In samples: two that give the same number of frames, the shortest that gives one, and others.
LENGTHS = (16000, 16100, 400, 9000, 23456)


@pytest.fixture(scope="session")
def extractor():
    """Make an extractor; equal calls share one."""
    return functools.cache(lambda model, **config: SSLExtractor(SSLConfig(model=model, **config)))


@pytest.fixture(scope="session")
def signal(speech_like):
    def make(num_samples, seed=0):
        return Signal(samples=speech_like(num_samples, pitch=100 + 10 * seed, seed=seed), sampling_rate=16000)

    return make


@pytest.fixture(scope="session")
def signals(signal):
    return [signal(length, seed) for seed, length in enumerate(LENGTHS)]


def assert_close(features, expected):
    """The same shape, and each layer within TOLERANCE of its largest value."""
    assert features.shape == expected.shape
    scale = np.abs(expected).max(axis=(1, 2))
    assert (np.abs(features - expected).max(axis=(1, 2)) <= TOLERANCE * scale).all()


def run_alone(extractor, signals):
    return [extractor.extract([signal])[0] for signal in signals]


def hugging_face(folder, **config):
    model = transformers.AutoModel.from_pretrained(folder, **config).eval()
    return model, transformers.AutoFeatureExtractor.from_pretrained(folder)


def hugging_face_features(folder, samples, **config):
    """Layers 0 … N and the encoder's input, by the model's own outputs and modules."""
    model, feature_extractor = hugging_face(folder, **config)
    values = feature_extractor(samples, sampling_rate=16000, return_tensors="pt").input_values
    with torch.inference_mode():
        output = model(values, output_hidden_states=True)
        projected = model.feature_projection(model.feature_extractor(values).transpose(1, 2))
    local = projected if torch.is_tensor(projected) else projected[0]
    layers = [local, *output.hidden_states[1:-1], output.last_hidden_state, output.hidden_states[0]]
    return torch.cat(layers).numpy()


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
    for order in ([0, 1, 2, 3, 4], [4, 2], [2, 4, 3, 1, 0], [0, 1], [2, 0, 2]):
        for position, features in zip(order, own.extract([signals[i] for i in order]), strict=True):
            assert_close(features, alone[position])


@pytest.mark.parametrize("name", ["wav2vec2", "data2vec-audio", "mhubert"])
def test_without_care_padding_would_show(tiny_model, signals, name):
    """The batches above would fail with Hugging Face's own handling of padding."""
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
@settings(max_examples=20)
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


# The first convolution spans 10 samples, the others reach out to 400; a frame more needs 320 samples more.
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
        match=r"^30\.5 s are too long for Whisper, which hears 30 s; compute it in windows with --chunk-seconds 30",
    ):
        extractor(tiny_model("whisper")).extract([signal(488000)])
    with pytest.raises(AudioError, match=r"^30\.0 s are too long for Whisper"):
        extractor(tiny_model("whisper")).extract([signal(480001)])
    with pytest.raises(AudioError, match=r"^0 samples at 16000 Hz are too short for a single frame$"):
        extractor(tiny_model("whisper")).extract([signal(0)])


def normalised(signal):
    samples = signal.samples.astype(np.float64)
    samples = (samples - samples.mean()) / np.sqrt(samples.var() + 1e-7)  # Hugging Face's epsilon
    return Signal(samples=samples.astype(np.float32), sampling_rate=signal.sampling_rate)


@pytest.mark.parametrize("override", [None, True, False])
@pytest.mark.parametrize("of_checkpoint", [True, False])
def test_do_normalize_is_the_checkpoints_unless_overridden(extractor, tiny_model, signals, of_checkpoint, override):
    # not a model with group norm, in which the scale of a waveform leaves no trace
    folder = tiny_model("xls-r", do_normalize=of_checkpoint)
    plain = extractor(tiny_model("xls-r", do_normalize=False))
    own = extractor(folder, do_normalize=override)
    expected = of_checkpoint if override is None else override
    assert own.description.settings["do_normalize"] is expected
    for features, signal in zip(own.extract(signals), signals, strict=True):
        assert_close(features, plain.extract([normalised(signal) if expected else signal])[0])
    difference = plain.extract([signals[0]])[0] - plain.extract([normalised(signals[0])])[0]
    assert np.abs(difference).max() > 100 * TOLERANCE  # the choice shows in the features


def test_do_normalize_does_not_apply_to_whisper(extractor, tiny_model):
    assert extractor(tiny_model("whisper")).description.settings["do_normalize"] is None
    for do_normalize in (True, False):
        with pytest.raises(
            ModelError, match=r"^do-normalize does not apply to Whisper, which sees log-mel spectrograms$"
        ):
            extractor(tiny_model("whisper"), do_normalize=do_normalize)


@pytest.mark.parametrize(
    ("layers", "names"),
    [
        ("all", ("0", "1", "2", "3")),
        ("local", ("0",)),
        ("last", ("3",)),
        ("input", ("input",)),
        ("2,1", ("1", "2")),
        ("input,last,local", ("0", "3", "input")),
    ],
)
def test_chosen_layers_are_those_of_all(extractor, tiny_model, signals, layers, names):
    folder = tiny_model("hubert")
    complete = extractor(folder, layers="0-3,input")
    own = extractor(folder, layers=layers)
    rows = [complete.description.layer_names.index(name) for name in names]
    assert own.description.layer_names == names
    for features, expected in zip(own.extract(signals), complete.extract(signals), strict=True):
        np.testing.assert_array_equal(features, expected[rows])


@pytest.mark.parametrize(("name", "changes"), WAVEFORM_MODELS)
def test_a_pruned_model_is_what_hugging_face_makes_of_the_checkpoint(extractor, tiny_model, signals, name, changes):
    """Its last layer passes the final LayerNorm of the encoder, where there is one; those below are the whole's."""
    folder = tiny_model(name, **changes)
    num_blocks = 1 if name == "distilhubert" else 2
    pruned = extractor(folder, num_blocks=num_blocks, layers=f"0-{num_blocks},input")
    whole = extractor(folder, layers=WITH_INPUT[name])
    features = pruned.extract(signals)
    for signal, own in zip(signals, features, strict=True):
        assert_close(own, hugging_face_features(folder, signal.samples, num_hidden_layers=num_blocks))
    of_whole = whole.extract(signals)[0]
    np.testing.assert_array_equal(features[0][:num_blocks], of_whole[:num_blocks])
    np.testing.assert_array_equal(features[0][-1], of_whole[-1])
    stable = changes.get("do_stable_layer_norm") or name == "xls-r"
    assert np.array_equal(features[0][num_blocks], of_whole[num_blocks]) is not bool(stable)


def test_all_last_and_local_are_those_of_the_pruned_model(extractor, tiny_model):
    folder = tiny_model("xls-r")
    names = {spec: extractor(folder, num_blocks=2, layers=spec).description.layer_names for spec in ("all", "last")}
    assert names == {"all": ("0", "1", "2"), "last": ("2",)}
    assert extractor(folder, num_blocks=2).description.provenance["num_blocks"] == 2
    with pytest.raises(ModelError, match=r"^no layer '3' among 0, 1, 2, input; expected"):
        extractor(folder, num_blocks=2, layers="3")


@pytest.fixture
def counted_blocks():
    """The transformer blocks that have computed something, one name for each time."""
    counted = []

    def count(module, _inputs, _output):
        if re.search("EncoderLayer(StableLayerNorm)?$", type(module).__name__):
            counted.append(type(module).__name__)

    handle = torch.nn.modules.module.register_module_forward_hook(count)
    yield counted
    handle.remove()


NUM_BLOCKS_RUN = [
    ({"layers": "all"}, 3),
    ({"layers": "last"}, 3),
    ({"layers": "local"}, 0),
    ({"layers": "0-2"}, 2),
    ({"layers": "1"}, 1),
    ({"num_blocks": 1}, 1),
    ({"num_blocks": 2, "layers": "last"}, 2),
    ({"num_blocks": 2, "layers": "0,1"}, 1),
]
WITH_INPUT_TOO = [({"layers": "input"}, 0), ({"layers": "input,0"}, 0), ({"layers": "input,1"}, 1)]


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        (name, options, expected)
        for name in ("wav2vec2", "xls-r", "wavlm", "data2vec-audio", "whisper")
        for options, expected in NUM_BLOCKS_RUN + (WITH_INPUT_TOO if name != "whisper" else [])
    ],
)
def test_blocks_above_what_is_kept_are_never_run(tiny_model, signals, counted_blocks, name, options, expected):
    own = SSLExtractor(SSLConfig(model=tiny_model(name), **options))
    for batch in (signals[:1], signals[2:]):
        counted_blocks.clear()
        own.extract(batch)
        assert len(counted_blocks) == expected


def test_a_pass_that_fails_leaves_nothing_for_the_next(extractor, tiny_model, signals):
    own = SSLExtractor(SSLConfig(model=tiny_model("wav2vec2"), layers="0,1"))
    expected = extractor(tiny_model("wav2vec2"), layers="0,1").extract(signals[:1])[0]
    fail = torch.nn.modules.module.register_module_forward_hook(fail_in_attention)
    with pytest.raises(MemoryError):
        own.extract(signals[1:2])
    fail.remove()
    np.testing.assert_array_equal(own.extract(signals[:1])[0], expected)


def fail_in_attention(module, _inputs, _output):
    if type(module).__name__.endswith("Attention"):
        raise MemoryError


@pytest.mark.parametrize("num_blocks", [-1, 0, 4])
@pytest.mark.parametrize("name", ["wav2vec2", "whisper"])
@pytest.mark.parametrize("weights", ["pretrained", "random"])
def test_blocks_that_are_not_there(tiny_model, name, weights, num_blocks):
    with pytest.raises(ModelError, match=rf"^--num-blocks is {num_blocks}, expected 1 to the 3 that .*{name}.* has$"):
        SSLExtractor(SSLConfig(model=tiny_model(name), weights=weights, num_blocks=num_blocks))


def test_layers_that_are_not_there(extractor, tiny_model):
    with pytest.raises(ModelError, match=r"^no layer '12' among 0, 1, 2, 3, input; expected all, local, last, or"):
        extractor(tiny_model("hubert"), layers="12")
    with pytest.raises(ModelError, match=r"^no layer 'input' among 0, 1, 2, 3; expected"):
        extractor(tiny_model("whisper"), layers="input")


@pytest.mark.parametrize("name", ["wav2vec2", "xls-r", "data2vec-audio"])
def test_settings_of_training_change_nothing(extractor, tiny_model, signals, name):
    trained = {
        "layerdrop": 0.9,
        "hidden_dropout": 0.5,
        "attention_dropout": 0.5,
        "activation_dropout": 0.5,
        "feat_proj_dropout": 0.5,
        "apply_spec_augment": True,
        "mask_time_prob": 0.9,
        "mask_feature_prob": 0.9,
    }
    plain, other = extractor(tiny_model(name)), extractor(tiny_model(name, **trained))
    assert plain.description.settings["weights_sha256"] == other.description.settings["weights_sha256"]
    for features, expected in zip(other.extract(signals), plain.extract(signals), strict=True):
        np.testing.assert_array_equal(features, expected)


def test_description(extractor, tiny_model):
    folder = tiny_model("wav2vec2")
    description = extractor(folder, layers="0,2").description
    assert description.dataset == "hidden_states"
    assert description.hidden_size == 32
    assert description.frame_shift == 0.020
    assert description.sampling_rate == 16000
    assert description.channel == "mean"
    assert description.settings["layers"] == ["0", "2"]
    assert description.settings["model_id"] == Path(folder).name
    assert description.provenance["num_blocks"] == 3
    assert description.provenance["model_type"] == "wav2vec2"
    assert extractor(tiny_model("whisper")).description.frame_shift == 0.020


def test_what_changes_numbers_is_in_the_settings(extractor, tiny_model):
    folder = tiny_model("wav2vec2")
    configs = [{}, {"layers": "0"}, {"do_normalize": False}, {"weights": "random"}, {"num_blocks": 2}]
    settings = [extractor(folder, **config).description.settings for config in configs]
    settings.append(extractor(tiny_model("hubert")).description.settings)
    assert all(one != other for one, other in itertools.combinations(settings, 2))
    assert SSLExtractor(SSLConfig(model=folder)).description.settings == settings[0]
    assert "num_blocks" not in settings[0]


@pytest.mark.parametrize("name", ["wav2vec2", "xls-r", "wavlm", "whisper"])
def test_bfloat16_is_near_float32_and_part_of_the_settings(extractor, tiny_model, signals, name):
    full, half = (extractor(tiny_model(name), precision=precision) for precision in ("float32", "bfloat16"))
    assert full.description.settings["precision"] == "float32"
    assert half.description.settings["precision"] == "bfloat16"
    for expected, found in zip(run_alone(full, signals), half.extract(signals), strict=True):
        scale = np.abs(expected).max(axis=(1, 2))
        deviation = np.abs(found - expected).max(axis=(1, 2)) / scale
        # bfloat16 has 8 bits: a few roundings of 2^-8 each, and something at all must have been rounded
        assert (deviation < 16 * 2.0**-8).all()
        assert deviation.max() > 2.0**-12
