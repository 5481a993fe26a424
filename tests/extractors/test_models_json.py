"""The short names of speech models: Hugging Face ids, valid configurations and published sizes."""

import json
from importlib.resources import files

import pytest
import torch
import transformers

from featcache.cli.model_list import num_parameters
from featcache.extractors.families import FAMILIES
from featcache.extractors.models import dimensions

MODELS = json.loads((files("featcache") / "extractors" / "models.json").read_text(encoding="utf-8"))
# Models whose network is part of transformers; test_emotion2vec_files.py tests the others.
OF_TRANSFORMERS = {name: model for name, model in MODELS.items() if model["family"] != "emotion2vec"}
WAVEFORM_MODELS = {name: model for name, model in MODELS.items() if FAMILIES[model["family"]].normalises_waveform}

# Checkpoints without waveform normalisation; the feature extractors of all others normalise.
UNNORMALISED = {"wavlm-base", "wavlm-base-plus", "wavlm-base-plus-sv", "distilhubert"}

# Published counts are rounded, and some include the quantiser or prediction head, which are not part of the model here
# (0.7 % of wav2vec2-base). A model of another size differs by more than half.
PUBLISHED_COUNT_TOLERANCE = 0.01


def build(model):
    return transformers.AutoConfig.for_model(model["family"], **model["config"])


def sizes(config):
    """Return the number of blocks, the hidden size and the number of attention heads of an encoder."""
    if hasattr(config, "d_model"):
        return config.encoder_layers, config.d_model, config.encoder_attention_heads
    return config.num_hidden_layers, config.hidden_size, config.num_attention_heads


def count_parameters(module):
    return sum(parameter.numel() for parameter in module.parameters())


def build_on_meta(name):
    with torch.device("meta"):  # allocates no memory, even for 2 billion parameters
        return transformers.AutoModel.from_config(build(MODELS[name]))


def test_model_ids_are_unique():
    model_ids = [model["model_id"] for model in MODELS.values()]
    assert len(set(model_ids)) == len(model_ids)


@pytest.mark.parametrize("name", MODELS)
def test_fields(name):
    model = MODELS[name]
    expected = {"model_id", "family", "num_parameters", "config"} | (
        {"do_normalize"} if name in WAVEFORM_MODELS else set()
    )
    assert set(model) == expected
    assert model["model_id"].count("/") == 1


@pytest.mark.parametrize("name", OF_TRANSFORMERS)
def test_config_holds_only_known_entries_that_differ_from_the_defaults(name):
    model = MODELS[name]
    defaults = transformers.AutoConfig.for_model(model["family"]).to_dict()
    built = build(model).to_dict()
    for key, value in model["config"].items():
        assert key in defaults, f"{key} is no entry of the {model['family']} configuration"
        assert value != defaults[key], f"{key} repeats the default"
        assert built[key] == value


@pytest.mark.parametrize("name", OF_TRANSFORMERS)
def test_heads_divide_the_hidden_size(name):
    _, size, heads = sizes(build(MODELS[name]))
    assert size % heads == 0


@pytest.mark.parametrize("name", OF_TRANSFORMERS)
def test_feed_forward_is_four_times_the_hidden_size(name):
    config = build(MODELS[name]).to_dict()
    if "d_model" in config:
        assert (
            config["encoder_ffn_dim"] == config.get("decoder_ffn_dim", 4 * config["d_model"]) == 4 * config["d_model"]
        )
    else:
        assert config["intermediate_size"] == 4 * config["hidden_size"]


@pytest.mark.parametrize("name", OF_TRANSFORMERS)
def test_dimensions_are_those_of_the_configuration(name):
    blocks, size, _ = sizes(build(MODELS[name]))
    assert dimensions(MODELS[name]["family"], MODELS[name]["config"]) == (blocks + 1, size)


@pytest.mark.parametrize(
    "name",
    [
        name
        for name in WAVEFORM_MODELS
        if name in OF_TRANSFORMERS and MODELS[name]["family"] not in ("data2vec-audio", "wav2vec2-conformer")
    ],
)  # data2vec always has layer-normalised features and a post-norm encoder; all conformers have pre-norm encoders.
def test_layer_normalised_features_go_with_the_pre_norm_encoder(name):
    config = build(WAVEFORM_MODELS[name])
    assert (config.feat_extract_norm == "layer") == config.do_stable_layer_norm


@pytest.mark.parametrize("family", sorted({model["family"] for model in MODELS.values()}))
def test_the_smallest_model_of_a_family_has_the_recorded_number_of_parameters(family):
    model = min(
        (model for model in MODELS.values() if model["family"] == family), key=lambda model: model["num_parameters"]
    )
    assert num_parameters(family, model["config"]) == model["num_parameters"]


def test_unnormalised_models():
    assert {name for name, model in WAVEFORM_MODELS.items() if not model["do_normalize"]} == UNNORMALISED


@pytest.mark.parametrize(
    ("name", "published_millions"),
    [
        ("wav2vec2-base", 95.04),  # SUPERB (Yang et al. 2021), also for HuBERT and wav2vec 2.0 large
        ("wav2vec2-large-lv60", 317.38),
        ("hubert-base", 94.68),
        ("hubert-large", 316.61),
        ("hubert-xlarge", 964),  # Hsu et al. 2021
        ("wavlm-base", 94.70),  # Chen et al. 2022 (WavLM), also for UniSpeech-SAT
        ("wavlm-base-plus", 94.70),
        ("wavlm-large", 316.62),
        ("unispeech-sat-base", 94.68),
        ("unispeech-sat-large", 316.61),
        ("wav2vec2-large-xlsr-53", 317),  # Babu et al. 2021, also for XLS-R
        ("wav2vec2-xls-r-300m", 317),
        ("wav2vec2-xls-r-1b", 965),
        ("wav2vec2-xls-r-2b", 2162),
        ("distilhubert", 23.49),  # Chang et al. 2022
        ("whisper-small", 244),  # Radford et al. 2022; tiny and base are rounded too much for this tolerance
        ("whisper-small.en", 244),
        ("whisper-medium", 769),
        ("whisper-medium.en", 769),
        ("whisper-large-v2", 1550),
        ("whisper-large-v3", 1550),
        ("whisper-large-v3-turbo", 809),
        ("mms-300m", 317),  # Pratap et al. 2023 use the architectures of XLS-R.
        ("mms-1b", 965),
        ("mhubert-147", 94.7),
        ("w2v-bert-2.0", 580),  # the model's page on the Hugging Face hub
        ("ast-audioset", 86.6),  # Gong et al. 2021: 87 million
        ("qwen2-audio-7b", 637),  # the encoder of Whisper large v3
    ],
)
def test_parameter_count_is_the_published_one(name, published_millions):
    count = count_parameters(build_on_meta(name))
    assert count == pytest.approx(published_millions * 1e6, rel=PUBLISHED_COUNT_TOLERANCE)


@pytest.mark.parametrize(
    ("name", "layers", "size", "mel"), [("whisper-tiny", 4, 384, 80), ("whisper-base", 6, 512, 80)]
)
def test_whisper_encoder_count_by_hand(name, layers, size, mel):
    convolutions = (3 * mel * size + size) + (3 * size * size + size)
    positions = 1500 * size
    attention = 4 * size * size + 3 * size  # The key projection has no bias.
    feed_forward = 8 * size * size + 5 * size
    layer_norm = 2 * size
    expected = convolutions + positions + layers * (attention + feed_forward + 2 * layer_norm) + layer_norm
    assert count_parameters(build_on_meta(name).encoder) == expected


@pytest.mark.parametrize("name", [name for name in MODELS if name.endswith(".en")])
def test_english_whispers_differ_in_one_token(name):
    english, multilingual = (build(MODELS[model]).to_dict() for model in (name, name.removesuffix(".en")))
    assert {key for key in english if english[key] != multilingual[key]} == {"vocab_size"}
    assert multilingual["vocab_size"] - english["vocab_size"] == 1
