"""Model folders of other people: whatever their files say or are, nothing outside is read, and one line tells."""

import json
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from featcache.audio import Signal
from featcache.errors import ModelError
from featcache.extractors import create_extractor
from featcache.extractors.models import load
from featcache.files.content import describe_content
from featcache.transcription.whisper import Transcriber

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 378000000\n"
HTML = b"<!DOCTYPE html>\n<html><head><title>404</title></head><body>Not found</body></html>\n"
DEEP = b'{"a":' * 100_000 + b"1" + b"}" * 100_000
SHALLOWER = b'{"a":' * 300 + b"1" + b"}" * 300


class Trap:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.fixture
def folder(tiny_model, tmp_path):
    return Path(shutil.copytree(tiny_model("wav2vec2"), tmp_path / "models" / "my-model"))


@pytest.fixture
def text_folder(tiny_text_model, tmp_path):
    return Path(shutil.copytree(tiny_text_model("bert"), tmp_path / "models" / "my-bert"))


@pytest.fixture
def sprung(tmp_path):
    """The file that a pickle leaves behind when it is loaded; none may be there at the end."""
    path = tmp_path / "sprung"
    yield path
    assert not path.exists()


@pytest.fixture
def pickled(tmp_path, sprung):
    """A pickle outside of the model's folder."""
    path = tmp_path / "models" / "outside.bin"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(pickle.dumps(Trap(sprung)))
    return path


def edit(folder, name="config.json", **changes):
    path = folder / name
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def refused(model, message="", *, text=False, **options):
    with pytest.raises(ModelError, match=message) as caught:
        create_extractor(str(model), text=text, **options)
    assert "\n" not in str(caught.value)
    assert "featcache-model-" not in str(caught.value)  # the temporary folder is nobody's business


def one_line_or_fine(use):
    """Whatever is not refused in one line must work; any other exception fails the test."""
    try:
        use()
    except ModelError as error:
        told = str(error)
    else:
        told = ""
    assert "\n" not in told


def in_shards(folder, weight_map=None):
    """Have the weights be two files and an index; ``weight_map`` replaces what the index says."""
    weights = load_file(folder / "model.safetensors")
    names = sorted(weights)
    parts = {"model-00001-of-00002.safetensors": names[:9], "model-00002-of-00002.safetensors": names[9:]}
    for name, part in parts.items():
        save_file({key: weights[key] for key in part}, folder / name, metadata={"format": "pt"})
    (folder / "model.safetensors").unlink()
    honest = {key: name for name, part in parts.items() for key in part}
    index = {"metadata": {"total_size": 1}, "weight_map": honest if weight_map is None else weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return honest


# Weights


def test_weights_in_shards_are_those_of_one_file(folder, tiny_model):
    in_shards(folder)
    assert load(str(folder)).weights_sha256 == load(tiny_model("wav2vec2")).weights_sha256


@pytest.mark.parametrize(
    "name",
    [
        "../outside.bin",
        "../outside.safetensors",
        "sub/../../outside.safetensors",
        "..\\outside.safetensors",
        "C:\\outside.safetensors",
        "ABSOLUTE",
        "weights.bin",
        "weights.pt",
        "",
        ".",
        "nowhere.safetensors",
        "link.safetensors",
        "pickle.safetensors",
        "fifo.safetensors",
        "folder.safetensors",
        "a\0b.safetensors",
    ],
)
def test_an_index_names_only_safetensors_files_inside_the_folder(folder, pickled, name):
    shutil.copy(pickled, pickled.with_suffix(".safetensors"))
    for inside in ("weights.bin", "weights.pt", "pickle.safetensors"):
        shutil.copy(pickled, folder / inside)
    (folder / "link.safetensors").symlink_to(pickled)
    os.mkfifo(folder / "fifo.safetensors")
    (folder / "folder.safetensors").mkdir()
    honest = in_shards(folder)
    honest[min(honest)] = str(pickled) if name == "ABSOLUTE" else name
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": honest}))
    refused(folder, r"cannot be loaded \(")


def test_an_index_may_write_a_name_in_several_ways(folder, tiny_model):
    honest = in_shards(folder)
    honest[min(honest)] = f"./{honest[min(honest)]}"
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": honest}))
    assert load(str(folder)).weights_sha256 == load(tiny_model("wav2vec2")).weights_sha256


def test_an_index_of_nothing(folder):
    in_shards(folder, {})
    refused(folder, "names no file")


@pytest.mark.parametrize("weight_map", [[], "x", 3, {"a": 1}, {"a": None}, {"a": ["model.safetensors"]}])
def test_an_index_of_wrong_types(folder, weight_map):
    in_shards(folder, weight_map)
    refused(folder, "has no 'weight_map' from parameters to files")


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("link", "outside of the folder"),
        ("fifo", "is no regular file"),
        ("folder", "is no regular file"),
        ("loop", "is a link to nothing"),
        ("dangling", "is a link to nothing"),
        (b"", "an empty file"),
        (LFS, "a Git LFS pointer; run 'git lfs pull'"),
        (HTML, "an HTML page; download it again"),
        ("pickle", "a pickle, which is never loaded"),
        ("torch", "a pickle, which is never loaded"),
        (b"\x00" * 100, "a file of zeros"),
        (b"GGUF" + b"\x03" * 100, "a GGUF file"),
        (b"\x89HDF\r\n\x1a\n" + b"\0" * 90, "an HDF5 file"),
        ((10**17).to_bytes(8, "little") + b'{"a"' + b" " * 90, "something else|a safetensors file"),
        ((10**7).to_bytes(8, "little") + b'{"a": 1}' + b" " * 90, "is incomplete"),
        ((90).to_bytes(8, "little") + b'{"a": 1' + b" " * 90, r"cannot be loaded \("),
        ((90).to_bytes(8, "little") + b'{"a": ' + b"[" * 84, r"cannot be loaded \("),
    ],
)
def test_weights_are_a_safetensors_file_in_the_folder(folder, pickled, sprung, kind, message):
    weights = folder / "model.safetensors"
    whole = weights.rename(pickled.with_name("whole.safetensors"))
    make = {
        "link": lambda: weights.symlink_to(whole),
        "fifo": lambda: os.mkfifo(weights),
        "folder": weights.mkdir,
        "loop": lambda: weights.symlink_to(weights),
        "dangling": lambda: weights.symlink_to(folder / "nothing"),
        "pickle": lambda: weights.write_bytes(pickle.dumps(Trap(sprung))),
        "torch": lambda: torch.save({"a": torch.zeros(3)}, weights),
    }
    weights.write_bytes(kind) if isinstance(kind, bytes) else make[kind]()
    refused(folder, message)


@settings(max_examples=20)
@given(start=st.integers(0, 400), junk=st.binary(min_size=1, max_size=40))
def test_damaged_weights_are_refused_or_loaded_and_nothing_else(tiny_model, tmp_path_factory, start, junk):
    folder = Path(shutil.copytree(tiny_model("wav2vec2"), tmp_path_factory.mktemp("fuzz") / "model"))
    content = bytearray((folder / "model.safetensors").read_bytes())
    content[start : start + len(junk)] = junk
    (folder / "model.safetensors").write_bytes(content)
    one_line_or_fine(lambda: load(str(folder)))


def test_weights_under_a_name_of_the_configuration_are_refused(folder, pickled):
    shutil.copy(pickled, folder / "adapter_model.bin")
    edit(folder, transformers_weights="adapter_model.bin")
    refused(folder, "names its weights itself")


def test_adapters_are_not_followed(folder, tmp_path):
    adapter = {"base_model_name_or_path": str(tmp_path / "models"), "peft_type": "LORA"}
    (folder / "adapter_config.json").write_text(json.dumps(adapter))
    assert load(str(folder))  # as if it were not there, whether or not a package for adapters is installed
    (folder / "model.safetensors").unlink()
    refused(folder, "it holds an adapter, adapter_config.json, and no model.safetensors")


# Snapshots of the hub's cache consist of links.


@pytest.fixture
def snapshot(folder, tmp_path):
    """The model as the hub's client keeps it: links to the blobs of its repository."""
    repository = tmp_path / "hub" / "models--nobody--model"
    commit = repository / "snapshots" / ("a" * 40)
    commit.mkdir(parents=True)
    (repository / "blobs").mkdir()
    for number, path in enumerate(sorted(folder.iterdir())):
        path.rename(repository / "blobs" / f"{number:040x}")
        (commit / path.name).symlink_to(Path("../../blobs") / f"{number:040x}")
    return commit


def test_snapshots_of_the_hub_are_links_to_blobs(snapshot, tiny_model):
    assert load(str(snapshot)).weights_sha256 == load(tiny_model("wav2vec2")).weights_sha256


def test_snapshots_of_the_hub_link_no_further(snapshot, pickled):
    for name in ("config.json", "model.safetensors"):
        link = snapshot / name
        target = os.readlink(link)
        link.unlink()
        link.symlink_to(pickled)
        refused(snapshot, f"{name} is a link to .*outside of the folder")
        link.unlink()
        link.symlink_to(target)
    link.unlink()
    link.symlink_to("../../refs")
    (snapshot.parent.parent / "refs").write_bytes(b"x")
    refused(snapshot, "outside of the folder")


# JSON files


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
        ("fifo", "no regular file"),
        ("folder", "no regular file"),
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
    # untrained models do not fail for want of weights, and have none of a dtype
    refused(folder, r"my-model.*: ", weights="pretrained" if "dtype" in changes else "random")


@pytest.mark.parametrize("changes", [{"hidden_size": 10**6}, {"conv_dim": [10**7] * 7}])
def test_architectures_larger_than_the_memory_are_refused_before_they_are_built(folder, changes, monkeypatch):
    monkeypatch.setattr("featcache.extractors.pretrained.available_memory", lambda: 1e9)
    edit(folder, **changes)
    for weights in ("pretrained", "random"):
        refused(folder, "its architecture takes .* GB of memory and there are 1.0 GB", weights=weights)


@settings(max_examples=25)
@given(data=st.data())
def test_any_value_in_any_place_is_refused_or_followed(tiny_model, tmp_path_factory, data):
    folder = Path(shutil.copytree(tiny_model("wav2vec2"), tmp_path_factory.mktemp("fuzz") / "model"))
    name = data.draw(st.sampled_from(["config.json", "preprocessor_config.json"]))
    content = json.loads((folder / name).read_text())
    values = st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-3, 3),
        st.sampled_from([1e300, 2**70, -1.5]),
        st.text(max_size=5),
        st.lists(st.integers(-1, 3), max_size=8),
        st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
    )
    edit(folder, name, **{data.draw(st.sampled_from(sorted(content))): data.draw(values)})
    signal = Signal(samples=np.zeros(800, dtype=np.float32), sampling_rate=16000)
    one_line_or_fine(lambda: create_extractor(str(folder)).extract([signal]))


def test_the_attention_of_the_checkpoint_is_followed(folder, tiny_model, speech_like):
    signal = Signal(samples=speech_like(8000), sampling_rate=16000)
    expected = create_extractor(tiny_model("wav2vec2")).extract([signal])[0]
    for wanted in ("eager", "sdpa"):
        edit(folder, attn_implementation=wanted)
        found = create_extractor(str(folder)).extract([signal])[0]
        np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


# Preprocessors that contradict what featcache or the model takes for granted


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
        ({"sampling_rate": "16k"}, "'16k' for 'sampling_rate'"),
        ({"sampling_rate": 0}, "0 for 'sampling_rate'"),
        ({"sampling_rate": -16000}, "'sampling_rate'"),
        ({"sampling_rate": True}, "True for 'sampling_rate'"),
        ({"sampling_rate": 10**9}, "'sampling_rate'"),
        ({"sampling_rate": None}, "'sampling_rate'"),
        ({"feature_size": 80}, "80 for 'feature_size', but the model expects 1"),
        ({"do_normalize": "no"}, "'no' for 'do_normalize', expected true or false"),
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
        ({"feature_size": 128}, "128 for 'feature_size', but the model expects 80"),
        ({"chunk_length": 10}, "contradict each other"),
        ({"hop_length": 320}, "contradict each other"),
        ({"hop_length": "x"}, r"cannot be loaded \("),
        ({"dither": 0.5}, "adds random noise"),
    ],
)
def test_whispers_preprocessors_that_do_not_fit(tiny_model, tmp_path, changes, message):
    folder = Path(shutil.copytree(tiny_model("whisper"), tmp_path / "whisper"))
    edit(folder, "preprocessor_config.json", **changes)
    refused(folder, message)


@pytest.mark.parametrize("content", ['{"error": "Access denied"}', "{}", '{"processor_class": "Wav2Vec2Processor"}'])
def test_a_preprocessor_that_describes_nothing(folder, content):
    (folder / "preprocessor_config.json").write_text(content)
    refused(folder, "preprocessor_config.json gives none of sampling_rate")


def test_a_negative_number_of_blocks(folder):
    edit(folder, num_hidden_layers=-1)
    refused(folder, "gives -1 for 'num_hidden_layers'")


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


# Tokenizers


@pytest.mark.parametrize(
    ("key", "where"),
    [
        ("vocab_file", "absolute"),
        ("tokenizer_file", "../secret.txt"),
        ("special_tokens_map_file", "..\\secret.txt"),
        ("vocab", "absolute"),
        ("merges_file", "a/../../secret.txt"),
    ],
)
def test_tokenizers_name_no_file_elsewhere(text_folder, tmp_path, key, where):
    secret = tmp_path / "models" / "secret.txt"
    secret.write_text("[UNK]\nhello\n")
    edit(text_folder, "tokenizer_config.json", **{key: str(secret) if where == "absolute" else where})
    refused(text_folder, rf"tokenizer_config\.json names .* as '{key}', outside of the folder", text=True)


def test_the_paths_that_a_tokenizers_author_had_do_no_harm(text_folder, tiny_text_model):
    edit(text_folder, "tokenizer_config.json", special_tokens_map_file="/no/such/cache/map.json", tokenizer_file=None)
    own, usual = (create_extractor(str(model), text=True) for model in (text_folder, tiny_text_model("bert")))
    assert own.description.settings["tokenizer_sha256"] == usual.description.settings["tokenizer_sha256"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        *(("tokenizer.json", content) for content in (b"", LFS, DEEP, b"\x80\x04\x95 pickled", "link", "fifo")),
        *(("vocab.txt", content) for content in (b"", HTML, b"\x80\x04\x95 pickled", "link", "fifo")),
        ("tokenizer_config.json", LFS),
        ("special_tokens_map.json", "link"),
    ],
)
def test_files_of_a_tokenizer_are_checked(text_folder, tmp_path, name, content):
    path = text_folder / name
    path.unlink(missing_ok=True)
    outside = tmp_path / name
    outside.write_text("{}")
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        {"link": lambda: path.symlink_to(outside), "fifo": lambda: os.mkfifo(path)}[content]()
    refused(text_folder, r"my-bert: cannot be loaded \(", text=True)


@pytest.mark.parametrize(
    "changes",
    [
        {"model_max_length": "many"},
        {"model_max_length": [1]},
        {"tokenizer_class": "NoSuchTokenizer"},
        {"tokenizer_class": 7},
        {"auto_map": {"AutoTokenizer": ["own.Tokenizer", None]}, "tokenizer_class": "Own"},
        {"unk_token": 3.5},
        {"added_tokens_decoder": "x"},
    ],
)
def test_settings_of_a_tokenizer_are_followed_or_refused(text_folder, tmp_path, changes):
    sprung = tmp_path / "sprung"
    (text_folder / "own.py").write_text(f"open({str(sprung)!r}, 'w')\nclass Tokenizer: pass\n")
    edit(text_folder, "tokenizer_config.json", **changes)
    one_line_or_fine(lambda: create_extractor(str(text_folder), text=True))
    assert not sprung.exists()


# Transcription reads the same files.


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "generation_config.json", "config.json"])
def test_transcription_reads_no_link_that_leads_out(tiny_model, tmp_path, name):
    folder = Path(shutil.copytree(tiny_model("whisper"), tmp_path / "whisper"))
    (folder / name).unlink(missing_ok=True)
    (tmp_path / name).write_text("{}")
    (folder / name).symlink_to(tmp_path / name)
    with pytest.raises(ModelError, match="outside of the folder"):
        Transcriber(str(folder))


# Folders that are not there


@pytest.mark.parametrize("text", [False, True])
@pytest.mark.parametrize(
    "model", ["/no/such/folder", "./folder", "../folder", "~/folder", "a/b/c", "C:\\models\\mine", "x\\y", "folder/"]
)
def test_a_folder_that_does_not_exist_is_called_so(model, text):
    refused(model, r"^model folder .* does not exist; expected a folder with config\.json and", text=text)


def test_transcription_says_the_same():
    with pytest.raises(ModelError, match=r"^model folder './folder' does not exist; expected a folder"):
        Transcriber("./folder")


def test_a_file_is_no_folder(folder):
    refused(folder / "model.safetensors", "^model folder .* is no folder; expected a folder with config")


@pytest.mark.parametrize(
    ("head", "found"),
    [
        (b"", "empty"),
        (LFS, "git lfs pull"),
        (HTML, "HTML"),
        (b"\x80\x04", "pickle"),
        (b"\0\0", "zeros"),
        (b"\x01ab", None),
    ],
)
def test_content_is_described_by_its_first_bytes(head, found):
    described = describe_content(head, text=False)
    assert described is None if found is None else found in described
