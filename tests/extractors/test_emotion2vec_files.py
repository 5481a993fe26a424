"""Original parameters of emotion2vec → files; files that contradict each other are refused in one line."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from featcache.audio import Signal
from featcache.errors import ModelError
from featcache.extractors import create_extractor
from featcache.extractors.emotion2vec import convert
from featcache.extractors.emotion2vec.network import Emotion2vecModel
from featcache.extractors.emotion2vec.sizes import configuration
from featcache.extractors.models import known_models, load
from tests.extractors.folders import ANY_VALUE, edit_config, edit_weights, refused
from tests.extractors.hostile.spoilt import one_line_or_fine
from tests.extractors.original_emotion2vec import AUDIO, random_parameters, shapes

PUBLISHED = {"channels": 512, "prenet": 4, "depth": 8, "tokens": 10, "groups": 16}
BASE = {**PUBLISHED, "hidden": 768, "inner": 3072, "heads": 12}
LARGE = {**PUBLISHED, "hidden": 1024, "inner": 4096, "heads": 16}
SIZES = {
    "emotion2vec-base": BASE,
    "emotion2vec-plus-seed": BASE,
    "emotion2vec-plus-base": BASE,
    "emotion2vec-plus-large": LARGE,
}


@pytest.fixture
def folder(tmp_path):
    config, parameters = convert(random_parameters())
    (tmp_path / "config.json").write_text(json.dumps(config))
    save_file(parameters, tmp_path / "model.safetensors", metadata={"format": "pt"})
    return tmp_path


@pytest.mark.parametrize("name", SIZES)
def test_published_parameters_fit_the_short_names(name):
    """The names and shapes of the published checkpoints give the configuration in models.json, and fit the network."""
    with torch.device("meta"):
        original = {name: torch.empty(shape) for name, shape in shapes(**SIZES[name]).items()}
        config, parameters = convert({f"d2v_model.{name}": values for name, values in original.items()})
        entry = known_models()[name]
        assert configuration(name, config) == configuration(name, entry["config"])
        wanted = Emotion2vecModel(configuration(name, config)).state_dict()
    assert {name: values.shape for name, values in parameters.items()} == {
        name: values.shape for name, values in wanted.items()
    }


def test_published_size():
    """The published file of the large model has 1,945,790,254 bytes: encoder, classifier and Adam's two copies."""
    with torch.device("meta"):
        model = Emotion2vecModel(configuration("large", known_models()["emotion2vec-plus-large"]["config"]))
    # The original has one scale of the biases for all twelve blocks; the classifier has nine classes.
    count = sum(values.numel() for values in model.parameters()) - 11 * 16 + 9 * 1025
    assert 3 * 4 * count == pytest.approx(1_945_790_254, rel=1e-4)


def test_every_parameter_is_converted_once_without_change():
    original = random_parameters()
    config, parameters = convert(original)
    scale, tokens = (original.pop(f"{AUDIO}{name}") for name in ("alibi_scale", "extra_tokens"))
    for number in range(config["num_hidden_layers"]):
        assert torch.equal(parameters.pop(f"encoder.layers.{number}.attention.alibi_scale"), scale.flatten())
    assert torch.equal(parameters.pop("encoder.extra_tokens"), tokens[0])
    assert len(parameters) == len(original)
    for values in original.values():
        (match,) = (name for name, other in parameters.items() if torch.equal(values, other))
        del parameters[match]


OTHERS = {
    "proj.weight": torch.ones(9, 24),
    "_ema": {"blocks.0.norm1.weight": torch.ones(3)},
    f"{AUDIO}decoder.blocks.0.0.weight": torch.ones(3),
    "shared_decoder.proj.weight": torch.ones(3),
}


@pytest.mark.parametrize("prefix", ["", "d2v_model.", "w2v_encoder.w2v_model."])
@pytest.mark.parametrize("wrapped", [False, True])
def test_wrappers_and_unused_parts_are_left_out(prefix, wrapped):
    original = random_parameters()
    expected, parameters = convert(original)
    state = {f"{prefix}{name}": values for name, values in {**original, **OTHERS}.items()}
    averages = {f"_ema.{name}": values + 1 for name, values in original.items()}
    config, found = convert({"model": {**averages, **state}, "cfg": None} if wrapped else {**averages, **state})
    assert config == expected
    assert found.keys() == parameters.keys()
    assert all(torch.equal(found[name], parameters[name]) for name in found)


def test_older_checkpoints_have_scales_without_the_axis_of_blocks():
    original = random_parameters()
    expected = convert(original)[1]
    original[f"{AUDIO}alibi_scale"] = original[f"{AUDIO}alibi_scale"][0]
    found = convert(original)[1]
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        (f"{AUDIO}local_encoder.conv_layers.0.0.weight", None, "no parameter .*conv_layers.0.0.weight'; expected the"),
        (f"{AUDIO}local_encoder.conv_layers.3.0.weight", None, "no parameter for feature_extractor.conv_layers.3"),
        (f"{AUDIO}local_encoder.conv_layers.3.0.weight", torch.ones(8, 8, 5), r"kernels of \(10, 3, 3, 5, "),
        (f"{AUDIO}local_encoder.conv_layers.3.0.weight", torch.ones(8), "parameters of unexpected shapes"),
        (f"{AUDIO}local_encoder.conv_layers.0.2.weight", torch.ones(8), "which featcache's emotion2vec does not have"),
        (f"{AUDIO}alibi_scale", None, "no parameter .*alibi_scale'.* linear biases"),
        (f"{AUDIO}alibi_scale", torch.ones(2, 1, 4, 1, 1), r"of shape \(2, 1, 4, 1, 1\), expected \(3 or 1, 1, heads"),
        (f"{AUDIO}alibi_scale", torch.ones(4), r"of shape \(4,\), expected"),
        (f"{AUDIO}alibi_bias", torch.ones(1, 4, 9, 9), "which featcache's emotion2vec does not have"),
        (f"{AUDIO}extra_tokens", None, "no parameter for encoder.extra_tokens"),
        ("norm.weight", torch.ones(24), "'norm.weight', which featcache's emotion2vec does not have"),
        ("blocks.0.attn.logit_scale", torch.ones(4), "which featcache's emotion2vec does not have"),
        ("blocks.7.norm1.weight", torch.ones(24), "no parameter blocks.2"),
    ],
)
def test_other_architectures_are_refused(name, values, message):
    state = random_parameters()
    if values is None:
        del state[name]
    else:
        state[name] = values
    with pytest.raises(ModelError, match=message) as caught:
        convert(state)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_size": "big"}, "'hidden_size': 'big', expected a whole number from 1 to 16777216"),
        ({"hidden_size": 0}, "'hidden_size': 0, expected a whole number"),
        ({"hidden_size": True}, "'hidden_size': True, expected a whole number"),
        ({"hidden_size": 10**12}, "'hidden_size': 1000000000000, expected at most"),
        ({"hidden_size": 25}, "'num_attention_heads': 4, expected a divisor of 'hidden_size', which is 25"),
        ({"num_hidden_layers": 10**9}, "'num_hidden_layers': 1000000000, expected at most 1024"),
        ({"num_hidden_layers": None}, "'num_hidden_layers': None, expected a whole number from 1 to 1024"),
        ({"num_attention_heads": -4}, "'num_attention_heads': -4"),
        ({"num_conv_pos_embedding_groups": 5}, "'num_conv_pos_embedding_groups': 5, expected a divisor"),
        ({"num_extra_tokens": 10**6}, "'num_extra_tokens': 1000000, expected a whole number from 1 to 1024"),
        ({"conv_dim": 5}, "'conv_dim': 5, expected a list of 1 to 64 positive whole numbers"),
        ({"conv_dim": []}, r"'conv_dim': \[\], expected a list"),
        ({"conv_stride": [0] * 7}, r"'conv_stride': \[0, 0.*expected a list"),
        ({"conv_kernel": [10, 3, 3, 3, 3, 2]}, "of different lengths"),
        ({"conv_stride": [50] * 7}, "read .* samples for one frame, expected at most one second"),
        ({"layer_norm_eps": "small"}, "'layer_norm_eps': 'small', expected a number between 0 and 1"),
        ({"layer_norm_eps": 0}, "'layer_norm_eps': 0, expected a number between"),
        ({"do_normalize": 1}, "'do_normalize': 1, expected true or false"),
        ({"quantization_config": {"quant_method": "x"}}, "describes quantised weights"),
        ({"auto_map": {"AutoConfig": "own.Config"}, "hidden_size": 0}, "'hidden_size': 0"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.parametrize("weights", ["pretrained", "random"])
def test_contradictory_configurations_are_refused(folder, changes, message, weights):
    edit_config(folder, **changes)
    refused(message, folder, weights=weights)


def test_architectures_larger_than_the_memory_are_refused_before_they_are_built(folder, monkeypatch):
    monkeypatch.setattr("featcache.extractors.pretrained.available_memory", lambda: 1e9)
    edit_config(folder, hidden_size=2**20, num_attention_heads=1, num_conv_pos_embedding_groups=1)
    for weights in ("pretrained", "random"):
        refused("its architecture needs .* GB of memory, but only 1.0 GB are available", folder, weights=weights)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda weights: weights.pop("encoder.extra_tokens"), "1 parameter of its emotion2vec .* encoder.extra_tokens"),
        (
            lambda weights: weights.update({"encoder.extra_tokens": weights["encoder.extra_tokens"][:2]}),
            "1 parameter of its emotion2vec architecture is missing or of another shape .* encoder.extra_tokens",
        ),
    ],
)
def test_missing_parameters_are_named(folder, change, message):
    edit_weights(folder, change)
    refused(message, folder)


def test_weights_in_several_files(folder):
    expected = load(str(folder)).weights_sha256
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(weights)
    parts = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for file, part in parts.items():
        save_file({name: weights[name] for name in part}, folder / file, metadata={"format": "pt"})
    index = {"metadata": {}, "weight_map": {name: file for file, part in parts.items() for name in part}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert load(str(folder)).weights_sha256 == expected


@settings(max_examples=8)
@given(data=st.data())
def test_any_value_in_any_place_is_refused_or_followed(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("fuzz")
    config, parameters = convert(random_parameters())
    config[data.draw(st.sampled_from(sorted(config)))] = data.draw(ANY_VALUE)
    (folder / "config.json").write_text(json.dumps(config))
    save_file(parameters, folder / "model.safetensors", metadata={"format": "pt"})
    signal = Signal(samples=np.zeros(800, dtype=np.float32), sampling_rate=16000)
    one_line_or_fine(lambda: create_extractor(str(folder)).extract([signal]))
