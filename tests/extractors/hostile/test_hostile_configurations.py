"""JSON files of a model with contradictions or dangerous entries are loaded safely or refused in one line."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featcache.audio import Signal
from featcache.extractors import create_extractor
from tests.extractors.folders import ANY_VALUE
from tests.extractors.hostile.spoilt import DEEP, HTML, LFS, edit, one_line_or_fine, refused

SHALLOWER = b'{"a":' * 300 + b"1" + b"}" * 300


@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json"])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a valid JSON file, but an empty file"),
        (LFS, "a Git LFS pointer; run 'git lfs pull'"),
        (HTML, "an HTML page"),
        (b"[1, 2]", "not a JSON object but a list"),
        (b'"text"', "not a JSON object but a str"),
        (b"null", "not a JSON object"),
        (DEEP, "nested too deeply"),
        (SHALLOWER, "nested too deeply"),
        (b'{"a": 1' + b"0" * 5000 + b"}", "not a valid JSON file"),
        (b'{"a": "\xff\xfe"}', "not a valid JSON file"),
        (b"\x80\x04\x95", "a pickle"),
        ("link", "outside of the folder"),
        ("fifo", "not a regular file"),
        ("folder", "not a regular file"),
    ],
)
def test_what_is_no_json_object_is_named(folder, tmp_path, name, content, message):
    path = folder / name
    whole = path.rename(tmp_path / "whole.json")
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        {"link": lambda: path.symlink_to(whole), "fifo": lambda: os.mkfifo(path), "folder": path.mkdir}[content]()
    refused(
        folder,
        rf"my-model: cannot be loaded \({name}.*{message}",
        weights="random" if isinstance(content, bytes) else "pretrained",
    )


WRONG = [
    {"hidden_size": "big"},
    {"hidden_size": 0},
    {"hidden_size": -32},
    {"hidden_size": 10**12},
    {"num_hidden_layers": 10**9},
    {"num_hidden_layers": None},
    {"num_attention_heads": 0},
    {"conv_dim": 5},
    {"conv_dim": []},
    {"conv_stride": [0] * 7},
    {"conv_stride": "5"},
    {"conv_kernel": [10, 3, 3, 3, 3, 2, -2]},
    {"hidden_act": "no-such-function"},
    {"hidden_act": {"a": 1}},
    {"feat_extract_norm": 5},
    {"layer_norm_eps": "small"},
    {"model_type": ["wav2vec2"]},
    {"model_type": {"a": 1}},
    {"num_conv_pos_embedding_groups": 5},
    {"attn_implementation": "flash_attention_2"},
    {"_attn_implementation": "flash_attention_3"},
    {"_attn_implementation": "somebody/their-kernels"},
    {"attn_implementation": {"": "sdpa"}},
    {"quantization_config": {"quant_method": "bitsandbytes", "load_in_8bit": True}},
    {"dtype": "evil"},
]


@pytest.mark.parametrize("changes", WRONG, ids=lambda changes: "-".join(f"{k}={v}" for k, v in changes.items())[:60])
def test_configurations_that_cannot_be_built_are_one_line(folder, changes):
    edit(folder, **changes)
    # Untrained models cannot fail because of missing weights; only stored weights have a dtype.
    refused(folder, r"my-model.*: ", weights="pretrained" if "dtype" in changes else "random")


@pytest.mark.parametrize("changes", [{"hidden_size": 10**6}, {"conv_dim": [10**7] * 7}])
def test_architectures_larger_than_the_memory_are_refused_before_they_are_built(folder, changes, monkeypatch):
    monkeypatch.setattr("featcache.extractors.pretrained.available_memory", lambda: 1e9)
    edit(folder, **changes)
    for weights in ("pretrained", "random"):
        refused(folder, "its architecture needs .* GB of memory, but only 1.0 GB are available", weights=weights)


@settings(max_examples=25)
@given(data=st.data())
def test_any_value_in_any_place_is_refused_or_followed(tiny_model, tmp_path_factory, data):
    folder = Path(shutil.copytree(tiny_model("wav2vec2"), tmp_path_factory.mktemp("fuzz") / "model"))
    name = data.draw(st.sampled_from(["config.json", "preprocessor_config.json"]))
    content = json.loads((folder / name).read_text())
    edit(folder, name, **{data.draw(st.sampled_from(sorted(content))): data.draw(ANY_VALUE)})
    signal = Signal(samples=np.zeros(800, dtype=np.float32), sampling_rate=16000)
    one_line_or_fine(lambda: create_extractor(str(folder)).extract([signal]))


def test_the_attention_of_the_checkpoint_is_followed(folder, tiny_model, speech_like):
    signal = Signal(samples=speech_like(8000), sampling_rate=16000)
    expected = create_extractor(tiny_model("wav2vec2")).extract([signal])[0]
    for wanted in ("eager", "sdpa"):
        edit(folder, attn_implementation=wanted)
        found = create_extractor(str(folder)).extract([signal])[0]
        np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("rate", [8000, 24000])
def test_the_sampling_rate_is_the_checkpoints(folder, tiny_model, speech_like, rate):
    edit(folder, "preprocessor_config.json", sampling_rate=rate)
    own, usual = create_extractor(str(folder)), create_extractor(tiny_model("wav2vec2"))
    assert own.description.sampling_rate == rate
    assert own.description.frame_shift == 320 / rate
    assert own.description.settings != usual.description.settings
    samples = speech_like(8000)
    expected = usual.extract([Signal(samples=samples, sampling_rate=16000)])[0]
    np.testing.assert_array_equal(own.extract([Signal(samples=samples, sampling_rate=rate)])[0], expected)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sampling_rate": "16k"}, "'sampling_rate': '16k'"),
        ({"sampling_rate": 0}, "'sampling_rate': 0, expected"),
        ({"sampling_rate": -16000}, "'sampling_rate'"),
        ({"sampling_rate": True}, "'sampling_rate': True"),
        ({"sampling_rate": 10**9}, "'sampling_rate'"),
        ({"sampling_rate": None}, "'sampling_rate'"),
        ({"feature_size": 80}, "'feature_size': 80, but the model expects 1"),
        ({"do_normalize": "no"}, "'do_normalize': 'no', expected true or false"),
        ({"feature_extractor_type": "WhisperFeatureExtractor"}, "describes a WhisperFeatureExtractor, expected"),
        ({"feature_extractor_type": "NoSuchExtractor"}, r"cannot be loaded \("),
        ({"feature_extractor_type": ["x"]}, r"cannot be loaded \("),
    ],
)
def test_preprocessors_that_do_not_fit(folder, changes, message):
    edit(folder, "preprocessor_config.json", **changes)
    refused(folder, message)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"feature_size": 128}, "'feature_size': 128, but the model expects 80"),
        ({"chunk_length": 10}, "contradict each other"),
        ({"hop_length": 320}, "contradict each other"),
        ({"hop_length": "x"}, r"cannot be loaded \("),
        ({"dither": 0.5}, "adds random noise"),
        ({"padding_side": "left"}, "'padding_side': 'left', but the model expects right"),
        ({"padding_value": 1.0}, "'padding_value': 1.0, but the model expects 0"),
    ],
)
def test_whispers_preprocessors_that_do_not_fit(tiny_model, tmp_path, changes, message):
    folder = Path(shutil.copytree(tiny_model("whisper"), tmp_path / "whisper"))
    edit(folder, "preprocessor_config.json", **changes)
    refused(folder, message)


@pytest.mark.parametrize("content", ['{"error": "Access denied"}', "{}", '{"processor_class": "Wav2Vec2Processor"}'])
def test_a_preprocessor_that_describes_nothing(folder, content):
    (folder / "preprocessor_config.json").write_text(content)
    refused(folder, "preprocessor_config.json contains none of sampling_rate")


def test_a_negative_number_of_blocks(folder):
    edit(folder, num_hidden_layers=-1)
    refused(folder, "has 'num_hidden_layers': -1")


def test_an_error_of_several_lines_is_told_with_its_reason(folder):
    edit(folder, conv_bias="yes")
    refused(folder, "conv_bias.*yes")


@pytest.mark.parametrize("setting", [True, False])
def test_a_mask_of_the_preprocessor_changes_nothing(folder, tiny_model, speech_like, setting):
    edit(folder, "preprocessor_config.json", return_attention_mask=setting)
    signals = [Signal(samples=speech_like(length), sampling_rate=16000) for length in (4000, 8000)]
    for found, expected in zip(
        create_extractor(str(folder)).extract(signals),
        create_extractor(tiny_model("wav2vec2")).extract(signals),
        strict=True,
    ):
        np.testing.assert_array_equal(found, expected)
