"""Saved upper blocks are complete model folders, for featcache and for Hugging Face transformers."""

import copy
import json
import shutil

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from featcache.errors import ModelError
from featcache.extractors import create_extractor
from featcache.extractors.ssl import SSLExtractor
from featcache.extractors.upper import load_upper
from featcache.settings.extractor_configs import SSLConfig
from tests.extractors.upper.plain import TEXTS, Plain, assert_near

CASES = ["wav2vec2", "wavlm", "mhubert", "whisper", "wav2vec2-conformer", "wav2vec2-bert", "bert", "t5", "bart", "gpt2"]


def changed(blocks):
    """Return a copy of upper blocks, in training mode, whose trained parameters differ."""
    blocks = copy.deepcopy(blocks).train()
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(3)
        for parameter in blocks.tuned_parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return blocks


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("k", [0, 1])
def test_saved_models_give_the_same_layers_everywhere(plain, upper, tmp_path, signal, case, k):
    one = plain(case)
    blocks = changed(upper(case, k, layers="all"))
    blocks.save(tmp_path)
    blocks.eval()
    with torch.no_grad():
        stored = [layers[k] for layers in one.layers()]
        expected = blocks(stored)
        again = load_upper(
            str(tmp_path), text=one.text, from_layer=k, layers="all", with_padding=blocks.fixed_frames is not None
        )
        for layers, found in zip(expected, again(stored), strict=True):
            assert torch.equal(layers, found)
        saved = Plain(str(tmp_path), text=one.text, signals=[signal(6000)]).layers()
    for layers, found in zip(expected, saved, strict=one.text):
        assert_near(found[k:], layers)
    if one.text:
        extractor = create_extractor(str(tmp_path), text=True)
        [features] = extractor.extract([extractor.tokenise(TEXTS[0])])
    else:
        [features] = SSLExtractor(SSLConfig(model=str(tmp_path))).extract([signal(6000)])
    assert_near(torch.from_numpy(features[-1]), expected[0][-1][: features.shape[1]])


def test_only_the_trained_parameters_differ(plain, upper, tmp_path):
    one = plain("wav2vec2")
    blocks = changed(upper("wav2vec2", 2))
    blocks.save(tmp_path)
    before, after = load_file(f"{one.folder}/model.safetensors"), load_file(tmp_path / "model.safetensors")
    assert before.keys() == after.keys()
    different = {name for name in before if not torch.equal(before[name], after[name])}
    assert different == set(blocks.tuned_state())
    assert all(name.startswith("encoder.layers.2.") for name in different)


def test_whisper_is_saved_without_its_decoder(upper, tmp_path):
    upper("whisper", 2, layers="all").save(tmp_path)
    assert not any("decoder" in name for name in load_file(tmp_path / "model.safetensors"))


def test_options_of_the_store_are_saved(tiny_model, tmp_path):
    folder = tiny_model("wav2vec2", do_normalize=True)
    blocks = load_upper(folder, text=False, from_layer=1, num_blocks=2, do_normalize=False)
    blocks.save(tmp_path / "tuned")
    description = SSLExtractor(SSLConfig(model=str(tmp_path / "tuned"))).description
    assert description.settings["do_normalize"] is False
    assert description.layer_names == ("0", "1", "2")
    assert description.settings["weights_sha256"] == blocks.source.weights_sha256


def test_half_precision_weights_are_saved_in_float32(plain, tmp_path, signal):
    shutil.copytree(plain("wav2vec2").folder, tmp_path / "half")
    file = tmp_path / "half" / "model.safetensors"
    save_file({name: values.half() for name, values in load_file(file).items()}, file, metadata={"format": "pt"})
    config = json.loads((tmp_path / "half" / "config.json").read_text())
    (tmp_path / "half" / "config.json").write_text(json.dumps({**config, "dtype": "float16", "torch_dtype": "float16"}))
    blocks = changed(load_upper(str(tmp_path / "half"), text=False, from_layer=2))
    blocks.save(tmp_path / "tuned")
    model = transformers.AutoModel.from_pretrained(tmp_path / "tuned")
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    trained = dict(model.named_parameters())
    assert all(torch.equal(trained[name], values) for name, values in blocks.tuned_state().items())


def test_untrained_models_of_the_package_are_saved(tiny_entry, tmp_path):
    blocks = load_upper("tiny", text=False, from_layer=1, weights="random")
    blocks.save(tmp_path)
    again = load_upper(str(tmp_path), text=False, from_layer=1)
    assert again.source.weights_sha256 == blocks.source.weights_sha256


def test_weights_that_changed_since_the_start_are_refused(plain, tmp_path):
    shutil.copytree(plain("wav2vec2").folder, tmp_path / "model")
    blocks = load_upper(str(tmp_path / "model"), text=False, from_layer=1)
    file = tmp_path / "model" / "model.safetensors"
    save_file({name: values + 1 for name, values in load_file(file).items()}, file, metadata={"format": "pt"})
    with pytest.raises(
        ModelError, match=r"^the weights of .* changed since the training began, so the trained model .*$"
    ):
        blocks.save(tmp_path / "tuned")
    assert not (tmp_path / "tuned").exists()


def test_the_tuned_state_can_be_restored(plain, upper):
    blocks = copy.deepcopy(upper("wav2vec2", 1, layers="all"))
    before = blocks.tuned_state()
    other = changed(blocks)
    other.load_tuned_state(before)
    assert all(torch.equal(values, other.tuned_state()[name]) for name, values in before.items())
