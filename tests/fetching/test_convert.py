"""Pickles are converted in a process of their own, which loads tensors only."""

import hashlib
import json
import os
import pickle
import shutil
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import featcache
from featcache.errors import ModelError
from featcache.extractors.models import load
from featcache.extractors.pickles import Pickles, pickles_of
from featcache.fetching.convert_pickles import convert_pickles, pickle_names
from featcache.fetching.convert_process import RefusedError, convert
from featcache.fetching.safe_torch import check_torch
from tests.fetching.conftest import SOURCE

NAME = "wavlm-base-plus"


class Evil:
    """Object that writes a file when a pickle with it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def test_a_pickle_of_the_hub_is_converted_and_found_by_name(hub, pickled, offline, tiny_model, tmp_path, told):
    """The weights are in two files with an index, and share memory."""
    weights = load_file(f"{tiny_model('wavlm')}/model.safetensors")
    names = sorted(weights)
    parts = {"one.bin": names[::2], "two.bin": names[1::2]}
    files = {name: content for name, content in pickled.items() if name != "pytorch_model.bin"}
    for file, part in parts.items():
        torch.save({name: weights[name] for name in part}, tmp_path / file)
        files[file] = (tmp_path / file).read_bytes()
    weight_map = {name: file for file, part in parts.items() for name in part}
    files["pytorch_model.bin.index.json"] = json.dumps({"weight_map": weight_map}).encode()
    commit = hub.add(SOURCE, "main", files, license="mit")

    folder = featcache.fetch(NAME, convert=True).folders[NAME]
    assert folder == tmp_path / "data" / "models" / NAME
    assert featcache.fetch(NAME, convert=True).folders[NAME] == folder  # nothing to do
    origin = json.loads((folder / "featcache-origin.json").read_text())
    assert (origin["model_id"], origin["revision"], origin["license"]) == (SOURCE, commit, "mit")
    assert origin["pickles"] == {name: hashlib.sha256(files[name]).hexdigest() for name in parts}
    assert {"torch", "safetensors", "featcache"} <= origin["versions"].keys()
    assert f"{NAME}: licence mit" in told()
    offline()
    loaded = load(NAME)
    assert (loaded.model_id, loaded.revision, loaded.weights_revision) == (SOURCE, commit, commit)
    assert loaded.weights_sha256 == load(tiny_model("wavlm")).weights_sha256


def test_nothing_in_a_hostile_pickle_runs(tiny_model, tmp_path, monkeypatch):
    """The refusal comes from the other process, and leaves nothing behind."""
    folder, trace = tmp_path / "hostile", tmp_path / "trace"
    shutil.copytree(tiny_model("wavlm"), folder, ignore=shutil.ignore_patterns("*.safetensors"))
    torch.save({"weight": Evil(trace)}, folder / "pytorch_model.bin")
    monkeypatch.setenv("FEATCACHE_HOME", str(tmp_path / "data"))
    with pytest.raises(ModelError, match="never loaded; add --convert"):
        featcache.fetch(str(folder))
    with pytest.raises(ModelError) as caught:
        featcache.fetch(str(folder), convert=True)
    assert str(caught.value) == (
        f"{folder}: cannot be loaded (pytorch_model.bin is not converted: it contains more than tensors, and nothing "
        "of it was run (it contains posix.system))"
    )
    assert not trace.exists()
    assert [path.name for path in (tmp_path / "data" / "models").iterdir()] == [".hostile.lock"]


@pytest.mark.parametrize("form", ["plain", "zip", "text", "list", "nested", "object"])
def test_other_content_is_refused_in_one_line(tmp_path, form):
    path, trace = tmp_path / "pytorch_model.bin", tmp_path / "trace"
    contents = {"list": [torch.zeros(2)], "nested": {"model": {"a": torch.zeros(2)}}, "object": {"a": 1}}
    if form == "plain":
        path.write_bytes(pickle.dumps(Evil(trace)))
    elif form == "text":
        path.write_text("import os")
    else:
        torch.save(contents.get(form, Evil(trace)), path)
    with pytest.raises(RefusedError) as caught:
        convert({"files": {str(path): str(tmp_path / "model.safetensors")}, "converter": ""})
    assert "\n" not in str(caught.value)
    assert not trace.exists()
    assert not (tmp_path / "model.safetensors").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"a": torch.zeros(1).expand(10**7, 10**7)}, "its tensors need 400000.0 GB of memory"),
        ({"a": torch.eye(2).to_sparse()}, "cannot be stored as safetensors"),
        ({("a", "b"): torch.zeros(1)}, "found a name of type tuple"),
        ({"a": 1, "b" * 10**6: 1}, "found 'a': int"),
    ],
    ids=["expanded", "sparse", "name", "value"],
)
def test_tensors_that_cannot_be_written_are_refused(tmp_path, content, message):
    torch.save(content, tmp_path / "pytorch_model.bin")
    with pytest.raises(RefusedError, match=message):
        convert({"files": {str(tmp_path / "pytorch_model.bin"): str(tmp_path / "model.safetensors")}, "converter": ""})


@pytest.mark.parametrize("form", ["compressed", "damaged"])
def test_archives_that_torch_does_not_write_are_refused(tmp_path, form):
    """torch would take the numbers of a compressed archive from any place of the file."""
    path, other = tmp_path / "a.bin", tmp_path / "pytorch_model.bin"
    torch.save({"a": torch.zeros(10_000)}, path)
    if form == "damaged":
        content = path.read_bytes()
        other.write_bytes(content.replace(b"PK\x01\x02", b"PK\x01\x07"))
    else:
        with zipfile.ZipFile(path) as found, zipfile.ZipFile(other, "w", zipfile.ZIP_DEFLATED) as written:
            for name in found.namelist():
                written.writestr(name, found.read(name))
    with pytest.raises(RefusedError, match=f"it is a {form} archive"):
        convert({"files": {str(other): str(tmp_path / "model.safetensors")}, "converter": ""})


def several_lines(_content):
    """Stand for a converter that fails with one of torch's messages."""
    raise ValueError("first line\nlast line")


def converter(content):
    """Stand for the converter of a family whose checkpoints have another layout."""
    return {"model_type": "wavlm"}, {f"encoder.{name}": value for name, value in content["model"].items()}


def test_a_family_can_have_a_converter_of_its_own(tmp_path):
    shared = torch.arange(6.0)
    torch.save({"model": {"a": shared, "b": shared[2:]}, "epoch": 3}, tmp_path / "model.pt")
    target = tmp_path / "model.safetensors"
    answer = convert({"files": {str(tmp_path / "model.pt"): str(target)}, "converter": f"{__name__}:converter"})
    assert answer == {"config": {"model_type": "wavlm"}, "names": {str(target): ["encoder.a", "encoder.b"]}}
    assert load_file(target)["encoder.b"].tolist() == [2, 3, 4, 5]
    with pytest.raises(RefusedError, match=r"has another form \(ValueError: last line\)"):
        convert({"files": {str(tmp_path / "model.pt"): str(target)}, "converter": f"{__name__}:several_lines"})
    with pytest.raises(RefusedError, match="has another form"):
        convert({"files": {str(tmp_path / "model.pt"): str(target)}, "converter": f"{__name__}:missing"})


def test_the_family_or_else_the_file_names_decide_on_the_converter():
    assert pickles_of("wavlm", ["a", "pytorch_model.bin"])[0] == "pytorch_model.bin"
    assert pickles_of("wavlm", ["model.pt"]) is None
    assert pickles_of("emotion2vec", ["model.pt"])[1].converter == "featcache.extractors.emotion2vec:convert"
    assert pickles_of(None, ["model.pt"]) == pickles_of("emotion2vec", ["model.pt"])


def test_a_process_that_ends_early_is_told_in_one_line(tmp_path, monkeypatch):
    (tmp_path / "model.pt").write_bytes(b"x")
    monkeypatch.setattr("featcache.fetching.convert_pickles._MODULE", "featcache.no_such_module")
    with pytest.raises(
        ModelError, match=r"converts model\.pt ended early: .*No module named featcache\.no_such_module"
    ):
        convert_pickles("x", [tmp_path / "model.pt"], Pickles(names=("model.pt",)), tmp_path)


@pytest.mark.parametrize("name", ["../a.bin", "/a.bin", "a/b.bin", "a.safetensors", 3])
def test_an_index_lists_files_of_its_folder_only(tmp_path, name):
    (tmp_path / "index.json").write_text(json.dumps({"weight_map": {"weight": name}}))
    with pytest.raises(ModelError, match=r"has no 'weight_map' from parameters to \.bin files"):
        pickle_names("x", tmp_path / "index.json")


@pytest.mark.parametrize("version", ["2.5.1", "2.6.0", "2.9.1+cpu", "1.13", "unknown"])
def test_versions_of_torch_with_known_faults_are_refused(version):
    with pytest.raises(ModelError, match=r"install torch 2\.10 or newer"):
        check_torch(version)


def test_this_torch_is_accepted_only_if_it_is_new_enough():
    for version in ("2.10.0", "2.13.0+cpu", "3.0"):
        check_torch(version)


def test_only_the_other_process_can_load_a_pickle():
    package = Path(featcache.__file__).parent
    loading = {path.name for path in package.rglob("*.py") if "torch.load" in path.read_text(encoding="utf-8")}
    assert loading == {"convert_process.py"}
