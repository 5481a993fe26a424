"""Options of speech models: waveform normalisation, layers, pruned models, precision, and recorded settings."""

import itertools
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from featcache.audio import Signal
from featcache.errors import ModelError
from featcache.extractors.ssl import SSLExtractor
from featcache.settings.extractor_configs import SSLConfig
from tests.extractors.speech import (
    TOLERANCE,
    WAVEFORM_MODELS,
    WITH_INPUT,
    assert_close,
    hugging_face_features,
    run_alone,
)


def normalised(signal):
    samples = signal.samples.astype(np.float64)
    samples = (samples - samples.mean()) / np.sqrt(samples.var() + 1e-7)  # Hugging Face's epsilon
    return Signal(samples=samples.astype(np.float32), sampling_rate=signal.sampling_rate)


@pytest.mark.parametrize("override", [None, True, False])
@pytest.mark.parametrize("of_checkpoint", [True, False])
def test_do_normalize_is_the_checkpoints_unless_overridden(extractor, tiny_model, signals, of_checkpoint, override):
    # Group norm would remove the scale of the waveform. Therefore this model has none.
    folder = tiny_model("xls-r", do_normalize=of_checkpoint)
    plain = extractor(tiny_model("xls-r", do_normalize=False))
    own = extractor(folder, do_normalize=override)
    expected = of_checkpoint if override is None else override
    assert own.description.settings["do_normalize"] is expected
    for features, signal in zip(own.extract(signals), signals, strict=True):
        assert_close(features, plain.extract([normalised(signal) if expected else signal])[0])
    difference = plain.extract([signals[0]])[0] - plain.extract([normalised(signals[0])])[0]
    assert np.abs(difference).max() > 100 * TOLERANCE  # The option affects the features.


def test_do_normalize_does_not_apply_to_whisper(extractor, tiny_model):
    assert extractor(tiny_model("whisper")).description.settings["do_normalize"] is None
    for do_normalize in (True, False):
        with pytest.raises(
            ModelError, match=r"^--do-normalize does not apply to Whisper, whose input is log-mel spectrograms$"
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
    """The last layer includes the encoder's final LayerNorm, if there is one; the others equal those of all blocks."""
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
    """Return a list to which each run of a transformer block adds the name of its class."""
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
# Enough for other classes of blocks, because featcache stops all of them in the same way.
BY_CLASS = [({"layers": "last"}, 3), ({"layers": "local"}, 0), ({"num_blocks": 2, "layers": "0,1"}, 1)]


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        (name, options, expected)
        for name, cases in {
            "wav2vec2": NUM_BLOCKS_RUN + WITH_INPUT_TOO,
            "whisper": NUM_BLOCKS_RUN,
            "xls-r": [*BY_CLASS, ({"layers": "input,1"}, 1)],
            "wavlm": [*BY_CLASS, ({"layers": "input,1"}, 1)],
            "data2vec-audio": [*BY_CLASS, ({"layers": "input,1"}, 1)],
        }.items()
        for options, expected in cases
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
    with pytest.raises(ModelError, match=rf"^--num-blocks is {num_blocks}, expected 1 to 3, the number .* of .*{name}"):
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
    weights = load_file(Path(folder) / "model.safetensors")
    assert description.provenance["num_parameters"] == sum(values.size for values in weights.values())
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
        # bfloat16 has 8 bits; each rounding adds up to 2^-8. The lower limit checks that values are rounded at all.
        assert (deviation < 16 * 2.0**-8).all()
        assert deviation.max() > 2.0**-12
