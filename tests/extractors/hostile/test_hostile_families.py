"""Files of conformers, w2v-BERT, AST and Qwen2-Audio that do not fit are refused; a part of a model is loaded alone."""

import json
import math
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from featcache.extractors.models import load
from tests.extractors.hostile.spoilt import edit, refused

W2V_BERT, AST, QWEN2_AUDIO = "wav2vec2-bert", "audio-spectrogram-transformer", "qwen2_audio"


@pytest.fixture
def copied(tiny_model, tmp_path):
    """Return a function from the name of a tiny model to a private copy of its folder."""
    return lambda name: Path(shutil.copytree(tiny_model(name), tmp_path / name))


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        (W2V_BERT, {"stride": 0}, "'stride': 0, expected a number of frames"),
        (W2V_BERT, {"stride": 4}, "'num_mel_bins': 80, but the model expects 40"),
        (W2V_BERT, {"sampling_rate": 8000}, "'sampling_rate': 8000, but the model expects 16000"),
        (W2V_BERT, {"feature_extractor_type": "Wav2Vec2FeatureExtractor"}, "expected a SeamlessM4TFeatureExtractor"),
        (AST, {"num_mel_bins": 40}, "'num_mel_bins': 40, but the model expects 36"),
        (AST, {"max_length": 100}, "'max_length': 100, but the model expects 200"),
        (AST, {"mean": "x"}, "'mean': 'x', expected a number"),
        (AST, {"std": 0.0}, "'std': 0.0, expected a positive number"),
        (AST, {"std": math.nan}, "'std': nan, expected a positive number"),
        (W2V_BERT, {"padding_side": "left"}, "'padding_side': 'left', but the model expects right"),
        (QWEN2_AUDIO, {"padding_side": "left"}, "'padding_side': 'left', but the model expects right"),
        (QWEN2_AUDIO, {"padding_value": 1.0}, "'padding_value': 1.0, but the model expects 0"),
        (QWEN2_AUDIO, {"feature_size": 128}, "'feature_size': 128, but the model expects 80"),
        (QWEN2_AUDIO, {"chunk_length": 10}, "contradict each other"),
    ],
)
def test_preprocessors_that_do_not_fit(copied, name, changes, message):
    folder = copied(name)
    edit(folder, "preprocessor_config.json", **changes)
    refused(folder, message)


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        (W2V_BERT, {"position_embeddings_type": 5}, r"cannot be loaded \("),
        (AST, {"time_stride": 0}, r"cannot be loaded \("),
        (AST, {"patch_size": 10**6}, r"its architecture needs .* GB of memory"),
        (QWEN2_AUDIO, {"audio_config": {"_attn_implementation": "somebody/their-kernels"}}, "requests the attention"),
        (QWEN2_AUDIO, {"audio_config": {"d_model": 10**12}}, "'d_model': 1000000000000, expected at most"),
        (QWEN2_AUDIO, {"audio_config": [1]}, "has 'audio_config'"),
        (QWEN2_AUDIO, {"audio_config": None}, "has 'audio_config': None, expected the configuration of the encoder"),
    ],
)
def test_configurations_that_cannot_be_built(copied, name, changes, message):
    folder = copied(name)
    edit(folder, **changes)
    refused(folder, message)


def split(folder):
    """Move the weights of a Qwen2-Audio folder into two files: the encoder's, and those of the language model."""
    weights = load_file(folder / "model.safetensors")
    os.remove(folder / "model.safetensors")
    places = {name: "one.safetensors" if "audio_tower" in name else "two.safetensors" for name in weights}
    for file in set(places.values()):
        save_file({name: weights[name] for name in weights if places[name] == file}, folder / file)
    index = {"metadata": {}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return places


def test_only_the_files_of_the_encoder_are_opened(copied, tiny_model):
    folder = copied(QWEN2_AUDIO)
    assert set(split(folder).values()) == {"one.safetensors", "two.safetensors"}
    os.remove(folder / "two.safetensors")
    assert load(str(folder)).weights_sha256 == load(tiny_model(QWEN2_AUDIO)).weights_sha256
    os.remove(folder / "one.safetensors")
    refused(folder, "lists 'one.safetensors', which is missing")


def test_the_encoder_is_the_same_with_and_without_the_language_model(tiny_model, copied):
    """A folder with the encoder alone, as Qwen2AudioEncoder.save_pretrained writes it, gives the same store."""
    folder = copied("qwen2_audio_encoder")
    weights = load_file(Path(tiny_model(QWEN2_AUDIO)) / "model.safetensors")
    encoder = {name.partition("audio_tower.")[2]: v for name, v in weights.items() if "audio_tower." in name}
    save_file(encoder, folder / "model.safetensors", metadata={"format": "pt"})
    alone, whole = load(str(folder)), load(tiny_model(QWEN2_AUDIO))
    assert alone.weights_sha256 == whole.weights_sha256
    assert alone.num_parameters == whole.num_parameters == sum(values.size for values in encoder.values())


@pytest.mark.parametrize("change", ["missing", "shape", "type"])
def test_weights_of_the_encoder_are_not_made_up(copied, change):
    folder = copied(QWEN2_AUDIO)
    weights = load_file(folder / "model.safetensors")
    name = next(name for name in weights if name.endswith("audio_tower.conv1.bias"))
    if change == "missing":
        del weights[name]
    else:
        weights[name] = weights[name].astype(np.int8) if change == "type" else np.zeros(5, dtype=np.float32)
    save_file(weights, folder / "model.safetensors")
    refused(folder, r"1 parameter of its qwen2_audio_encoder architecture is missing or of another shape .*conv1\.bias")
