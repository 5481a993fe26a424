"""Weights outside of the folder, damaged weights and other formats are refused in one line; no link is followed."""

import json
import os
import pickle
import shutil
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from featcache.extractors.models import load
from tests.extractors.hostile.spoilt import HTML, LFS, edit, one_line_or_fine, refused


class Trap:
    """Object that creates a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.fixture
def pickled(tmp_path, sprung):
    """Write a pickle outside of the model's folder and return its path."""
    path = tmp_path / "models" / "outside.bin"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(pickle.dumps(Trap(sprung)))
    return path


def in_shards(folder, weight_map=None):
    """Split the weights into two files with an index; ``weight_map`` replaces the map in the index."""
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
    refused(folder, "lists no file")


@pytest.mark.parametrize("weight_map", [[], "x", 3, {"a": 1}, {"a": None}, {"a": ["model.safetensors"]}])
def test_an_index_of_wrong_types(folder, weight_map):
    in_shards(folder, weight_map)
    refused(folder, "has no 'weight_map' from parameters to files")


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("link", "outside of the folder"),
        ("fifo", "is not a regular file"),
        ("folder", "is not a regular file"),
        ("loop", "is a broken link"),
        ("dangling", "is a broken link"),
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
    refused(folder, "gives another name of its weights")


def test_adapters_are_not_followed(folder, tmp_path):
    adapter = {"base_model_name_or_path": str(tmp_path / "models"), "peft_type": "LORA"}
    (folder / "adapter_config.json").write_text(json.dumps(adapter))
    assert load(str(folder))  # The adapter is ignored, whether or not a package for adapters is installed.
    (folder / "model.safetensors").unlink()
    refused(folder, "it contains an adapter, adapter_config.json, but no model.safetensors")


@pytest.fixture
def snapshot(folder, tmp_path):
    """Return the model in the layout of the hub's cache, with links to the blobs of the repository."""
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
