"""Loaded models are frozen, float32, have the stored weights, and are identified by a hash."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from safetensors.numpy import load_file

from featcache.extractors.models import FAMILIES, load
from tests.extractors.folders import edit_config, edit_weights, refused


@pytest.mark.parametrize("weights", ["pretrained", "random"])
@pytest.mark.parametrize("family", FAMILIES)
def test_models_of_every_family_are_frozen(tiny_model, family, weights):
    loaded = load(tiny_model(family), weights=weights)
    assert not any(module.training for module in loaded.module.modules())
    assert not any(parameter.requires_grad for parameter in loaded.module.parameters())
    assert {parameter.dtype for parameter in loaded.module.parameters()} == {torch.float32}
    assert loaded.model_id == Path(tiny_model(family)).name
    assert loaded.revision is None
    assert re.fullmatch("[0-9a-f]{64}", loaded.weights_sha256)


def test_pretrained_weights_are_those_of_the_file(folder):
    stored = load_file(folder / "model.safetensors")
    loaded = {name: values.numpy() for name, values in load(str(folder)).module.state_dict().items()}
    common = stored.keys() & loaded.keys()
    assert len(common) >= len(stored) - 2  # transformers may rename the two parameters of the weight norm.
    for name in common:
        np.testing.assert_array_equal(loaded[name], stored[name])


def test_half_precision_checkpoints_run_in_float32(folder):
    model = transformers.Wav2Vec2Model.from_pretrained(folder).half()
    model.save_pretrained(folder)
    loaded = load(str(folder))
    assert {parameter.dtype for parameter in loaded.module.parameters()} == {torch.float32}
    expected = model.state_dict()
    for name, values in loaded.module.state_dict().items():
        assert torch.equal(values, expected[name].float())


def test_a_prediction_head_is_left_aside(tiny_model, tmp_path):
    base = transformers.Wav2Vec2Model.from_pretrained(tiny_model("wav2vec2"))
    with_head = transformers.Wav2Vec2ForCTC(base.config)
    with_head.wav2vec2.load_state_dict(base.state_dict())
    with_head.save_pretrained(tmp_path)
    transformers.Wav2Vec2FeatureExtractor().save_pretrained(tmp_path)
    assert load(str(tmp_path)).weights_sha256 == load(tiny_model("wav2vec2")).weights_sha256


def test_loading_leaves_transformers_as_talkative_as_it_was(tiny_model, capsys):
    logging = transformers.utils.logging
    before = logging.get_verbosity(), logging.is_progress_bar_enabled()
    load(tiny_model("wav2vec2"))
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before
    captured = capsys.readouterr()
    assert captured.out + captured.err == ""


def test_the_hash_is_that_of_the_weights_alone(tiny_model, folder):
    original = tiny_model("wav2vec2")
    edit_config(folder, hidden_dropout=0.3)
    assert load(str(folder)).weights_sha256 == load(original).weights_sha256 == load(original).weights_sha256


@pytest.mark.parametrize("name", ["encoder.layers.2.final_layer_norm.bias", "feature_projection.projection.weight"])
def test_the_hash_changes_with_a_single_weight(tiny_model, folder, name):
    def change(weights):
        weights[name].flat[7] = np.nextafter(weights[name].flat[7], np.float32(1))

    edit_weights(folder, change)
    assert load(str(folder)).weights_sha256 != load(tiny_model("wav2vec2")).weights_sha256


def test_random_weights_are_always_the_same_and_leave_the_global_generator_alone(tiny_model, tiny_entry):
    folder = tiny_model("wav2vec2")
    before = torch.random.get_rng_state()
    for model in ("tiny", folder):
        hashes = {load(model, weights="random").weights_sha256}
        torch.manual_seed(5)
        state = torch.random.get_rng_state()
        hashes.add(load(model, weights="random").weights_sha256)
        assert torch.equal(torch.random.get_rng_state(), state)
        assert len(hashes) == 1
        assert hashes != {load(folder).weights_sha256}
    torch.random.set_rng_state(before)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("weights", ["pretrained", "random"])
def test_pruned_models_hold_the_first_blocks_alone_as_they_are_in_the_whole(tiny_model, family, weights):
    folder = tiny_model(family)
    whole, pruned = load(folder, weights=weights), load(folder, weights=weights, num_blocks=2)
    everything = whole.module.state_dict()
    kept = {name for name in everything if not re.search(r"(^|\.)layers?\.2\.", name) or "pos_conv" in name}
    assert len(kept) < len(everything)
    assert pruned.module.state_dict().keys() == kept
    for name, values in pruned.module.state_dict().items():
        assert torch.equal(values, everything[name]), name
    assert pruned.weights_sha256 != whole.weights_sha256
    assert load(folder, weights=weights, num_blocks=3).weights_sha256 == whole.weights_sha256


def test_weights_of_dropped_blocks_are_not_read(folder):
    def drop(weights):
        for name in [name for name in weights if ".layers.2." in name]:
            del weights[name]

    edit_weights(folder, drop)
    refused(r"my-model: \d+ parameters of its wav2vec2 architecture are missing", folder)
    assert load(str(folder), num_blocks=2).module.config.num_hidden_layers == 2
    refused(r"my-model: \d+ parameters of its wav2vec2 architecture are missing", folder, num_blocks=3)


def test_random_weights_of_a_short_name_need_no_network(tiny_entry):
    loaded = load("tiny", weights="random", revision="v1")
    assert loaded.model_id == "nobody/tiny-model"
    assert loaded.revision is None
    assert loaded.feature_extractor.do_normalize is False
    assert loaded.module.config.hidden_size == tiny_entry["config"]["hidden_size"]


@pytest.mark.parametrize("do_normalize", [True, False])
def test_the_untrained_control_hears_what_the_checkpoint_hears(tiny_model, do_normalize):
    loaded = load(tiny_model("wav2vec2", do_normalize=do_normalize), weights="random")
    assert loaded.feature_extractor.do_normalize is do_normalize


def test_random_weights_of_a_bare_configuration(folder, tiny_model, tmp_path):
    (folder / "preprocessor_config.json").unlink()
    (folder / "model.safetensors").unlink()
    assert load(str(folder), weights="random").feature_extractor.do_normalize is True
    whisper = shutil.copytree(tiny_model("whisper"), tmp_path / "whisper")
    (whisper / "preprocessor_config.json").unlink()
    assert load(str(whisper), weights="random").feature_extractor.feature_size == 80
