"""The short names of text models: architecture, compared with published sizes, and models that are refused."""

import json
from importlib.resources import files

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from featcache.errors import ModelError
from featcache.extractors.models import known_models
from featcache.extractors.text_models import load_text_model
from tests.conftest import tiny_tokenizer

MODELS = json.loads((files("featcache") / "extractors" / "text_models.json").read_text(encoding="utf-8"))

# Number of parameters of the same checkpoints in KerasHub. As here, prediction heads are not counted.
PUBLISHED = {
    "bert-base": 109_482_240,
    "bert-base-cased": 108_310_272,
    "bert-base-multilingual-cased": 177_853_440,
    "bert-large": 335_141_888,
    "albert-base": 11_683_584,
    "deberta-v3-base": 183_831_552,
}
# KerasHub's RoBERTa has no vector for the single token type, no pooler, and two unused positions less.
PUBLISHED_ROBERTA = {"roberta-base": 124_052_736, "roberta-large": 354_307_072}
# Rounded numbers of parameters in papers and model cards, in millions.
ROUNDED = {
    "tinybert": 14.5,  # Jiao et al. 2020, also for the next model
    "tinybert-6l": 67.0,
    "distilbert-base": 66,  # Sanh et al. 2019
    "distilroberta-base": 82,  # model card
    "xlm-roberta-base": 277,  # Conneau et al. 2020, without the pooler; also for the next model
    "xlm-roberta-large": 560,
    "electra-small": 13.5,  # checkpoint in KerasHub, also for the next model
    "electra-base": 109,
    "mpnet-base": 109,
    "minilm-l6": 22.7,
}
ROUNDING = 0.011


def build(name):
    entry = MODELS[name]
    return transformers.AutoConfig.for_model(entry["family"], **entry["config"])


def num_parameters(name, *, without=""):
    with torch.device("meta"):  # allocates no memory
        model = transformers.AutoModel.from_config(build(name))
    return sum(p.numel() for key, p in model.named_parameters() if not without or without not in key)


@pytest.mark.parametrize("name", MODELS)
def test_the_number_of_parameters_is_recorded(name):
    assert num_parameters(name) == MODELS[name]["num_parameters"]


def test_names_and_ids_stand_for_one_model():
    model_ids = [model["model_id"] for model in MODELS.values()]
    assert len(set(model_ids)) == len(model_ids)
    assert not MODELS.keys() & known_models().keys()
    assert all(model_id.count("/") == 1 for model_id in model_ids)


@pytest.mark.parametrize("name", MODELS)
def test_the_size_is_that_of_the_architecture(name):
    config, entry = build(name), MODELS[name]
    assert (entry["num_layers"], entry["hidden_size"]) == (config.num_hidden_layers + 1, config.hidden_size)
    assert config.hidden_size % config.num_attention_heads == 0
    defaults = transformers.AutoConfig.for_model(entry["family"]).to_dict()
    assert not [key for key, value in entry["config"].items() if defaults.get(key) == value]


@pytest.mark.parametrize(("name", "published"), PUBLISHED.items())
def test_parameters_are_the_published_ones(name, published):
    assert num_parameters(name) == published


@pytest.mark.parametrize(("name", "published"), PUBLISHED_ROBERTA.items())
def test_parameters_of_roberta_are_the_published_ones(name, published):
    assert num_parameters(name, without="pooler") == published + 3 * build(name).hidden_size


@pytest.mark.parametrize(("name", "millions"), ROUNDED.items())
def test_parameters_are_about_the_published_ones(name, millions):
    assert num_parameters(name) == pytest.approx(millions * 1e6, rel=ROUNDING)


def test_every_model_is_compared():
    assert MODELS.keys() == PUBLISHED.keys() | PUBLISHED_ROBERTA.keys() | ROUNDED.keys()


# Loading.


@pytest.fixture
def folder(tiny_text_model, tmp_path):
    """Return a private copy of a tiny BERT with the head of a masked language model."""
    config = transformers.AutoConfig.from_pretrained(tiny_text_model("bert"))
    transformers.AutoModelForMaskedLM.from_config(config).save_pretrained(tmp_path)
    tiny_tokenizer("bert").save_pretrained(tmp_path)
    return tmp_path


def refused(folder, message, **options):
    with pytest.raises(ModelError, match=message) as caught:
        load_text_model(str(folder), **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["bert", "albert", "bart", "t5"])
def test_models_are_frozen_and_end_with_their_last_layer(tiny_text_model, name):
    loaded = load_text_model(tiny_text_model(name))
    assert not any(module.training for module in loaded.module.modules())
    assert not any(parameter.requires_grad for parameter in loaded.module.parameters())
    assert not [key for key, _ in loaded.module.named_parameters() if "pooler" in key or "decoder" in key]
    assert loaded.weights_sha256 == load_text_model(tiny_text_model(name)).weights_sha256


def test_a_checkpoint_without_a_pooler_is_whole(folder):
    stored = load_file(folder / "model.safetensors")
    loaded = load_text_model(str(folder)).module.state_dict()
    assert not [key for key in stored if "pooler" in key]
    assert {f"bert.{key}" for key in loaded} <= stored.keys()
    assert all(torch.equal(values, stored[f"bert.{key}"]) for key, values in loaded.items())


def test_missing_weights_are_not_made_up(folder):
    weights = load_file(folder / "model.safetensors")
    del weights["bert.encoder.layer.1.output.dense.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    refused(folder, r"1 parameter of its bert architecture is missing .* \(first: .*layer.1.output.dense.weight\)")


def test_pickled_weights_are_never_loaded(folder):
    (folder / "model.safetensors").unlink()
    torch.save({}, folder / "pytorch_model.bin")
    refused(folder, r"contains pickled weights \(pytorch_model.bin\), which are never loaded; .*--convert")


@pytest.mark.parametrize("name", ["bert", "roberta", "t5", "gpt2", "deberta-v2"])
def test_a_folder_without_a_tokenizer_is_refused(tiny_text_model, tmp_path, name):
    """transformers would create a tokenizer without vocabulary, in which every word is unknown."""
    transformers.AutoModel.from_pretrained(tiny_text_model(name)).save_pretrained(tmp_path)
    refused(tmp_path, r"its tokenizer has no vocabulary; copy the tokenizer of the checkpoint|cannot be loaded \(")


def test_no_code_of_a_model_is_run(folder):
    sprung = folder / "sprung"
    (folder / "own.py").write_text(f"open({str(sprung)!r}, 'w')\nclass Config: pass\nclass Model: pass\n")
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "own", "auto_map": {"AutoConfig": "own.Config", "AutoModel": "own.Model"}}
    (folder / "config.json").write_text(json.dumps(config))
    for weights in ("pretrained", "random"):
        refused(folder, "cannot be loaded", weights=weights)
    assert not sprung.exists()


def test_a_model_of_neither_kind_is_refused(tmp_path):
    config = transformers.ViTConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8)
    transformers.ViTModel(config).save_pretrained(tmp_path)
    refused(tmp_path, "is a 'vit' model, expected a text model such as bert or roberta")


def test_a_model_that_is_not_here_says_what_works_offline():
    refused(
        "tinybert",
        "'tinybert' is not on this machine and could not be downloaded .*; run 'featcache fetch tinybert --out .* "
        "or use --weights random",
    )
    refused(
        "somebody/some-bert", r"'somebody/some-bert' is not on this machine and could not be downloaded .*\).* here$"
    )
