"""Fetched models work without a network, from the cache of the hub's client or from a copied folder."""

import inspect
import json
import os
import socket
from dataclasses import fields
from pathlib import Path

import pytest

import featcache
from featcache.errors import ModelError
from featcache.extractors.models import is_local, load
from featcache.settings.fetches import FetchSettings
from tests.fetching.conftest import SOURCE

NAME = "wavlm-base-plus"


def test_a_model_is_fetched_into_the_cache_with_its_size_and_licence(hub, files, offline, tiny_model, told):
    commit = hub.add(SOURCE, "main", files, license="mit")
    folder = featcache.fetch(NAME).folders[NAME]
    size = sum(len(content) for name, content in files.items() if name != "README.md")
    assert f"{NAME}: {size / 1000:.1f} kB (commit {commit} of https://huggingface.co/{SOURCE})" in told()
    assert f"{NAME}: licence mit" in told()
    assert {path.name for path in folder.iterdir()} == files.keys() - {"README.md"}
    offline()
    assert is_local(NAME)
    loaded = load(NAME)
    assert (loaded.revision, loaded.weights_revision) == (commit, commit)
    assert loaded.weights_sha256 == load(tiny_model("wavlm")).weights_sha256


def test_a_folder_works_by_path_and_by_name_where_it_was_copied_to(hub, files, offline, tmp_path, monkeypatch):
    commit = hub.add(SOURCE, "main", files, license="other", license_name="my-licence")
    out = tmp_path / "out"
    assert featcache.fetch(NAME, out=out).folders == {NAME: out}
    assert featcache.fetch(NAME, out=out).folders == {NAME: out}  # nothing to do
    origin = json.loads((out / "featcache-origin.json").read_text())
    assert (origin["model_id"], origin["revision"], origin["license"]) == (SOURCE, commit, "my-licence")
    assert not any(path.is_symlink() for path in out.iterdir())
    offline()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "empty"))
    by_path = load(str(out))
    assert (by_path.model_id, by_path.revision) == ("out", commit)
    assert not is_local(NAME)
    (tmp_path / "data" / "models").mkdir(parents=True)
    out.rename(tmp_path / "data" / "models" / "any-name")
    by_name = load(NAME)
    assert (by_name.model_id, by_name.revision, by_name.weights_revision) == (SOURCE, commit, commit)
    assert by_name.weights_sha256 == by_path.weights_sha256
    with pytest.raises(ModelError, match="is not on this machine"):
        load(NAME, revision="0" * 40)
    os.truncate(tmp_path / "data" / "models" / "any-name" / "model.safetensors", 1000)
    assert not is_local(NAME)


def test_an_interrupted_download_continues_where_it_ended(hub, files, monkeypatch):
    hub.add(SOURCE, "main", files)
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 1000)
    hub.cut = len(files["model.safetensors"]) // 2

    def interrupted(_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("huggingface_hub.file_download.time.sleep", interrupted)  # before the client tries again
        with pytest.raises((KeyboardInterrupt, ModelError)):
            featcache.fetch(NAME)
    assert hub.large_ranges() == [None]
    hub.cut = None
    folder = featcache.fetch(NAME).folders[NAME]
    (start,) = (int(found.removeprefix("bytes=").rstrip("-")) for found in hub.large_ranges()[1:])
    assert hub.cut is None
    assert 0 < start <= len(files["model.safetensors"]) // 2
    assert (folder / "model.safetensors").read_bytes() == files["model.safetensors"]


def test_a_damaged_part_of_a_download_is_not_used(hub, files, tmp_path):
    import hashlib

    hub.add(SOURCE, "main", files)
    blobs = tmp_path / "hub" / "models--microsoft--wavlm-base-plus" / "blobs"
    blobs.mkdir(parents=True)
    part = blobs / f"{hashlib.sha256(files['model.safetensors']).hexdigest()}.featcache"
    part.write_bytes(b"x" * 5000)
    with pytest.raises(ModelError, match=r"the SHA-256 of model\.safetensors differs"):
        featcache.fetch(NAME)
    assert not part.exists()
    assert featcache.fetch(NAME).failures == {}


def test_the_bots_pull_request_is_found_checked_and_pinned(hub, files, pickled, offline, tmp_path, told):
    main = hub.add(SOURCE, "main", pickled)
    weights = {"model.safetensors": files["model.safetensors"]}
    hub.add(SOURCE, "refs/pr/1", {**pickled, **weights, "config.json": b"{}"})  # opened on another configuration
    hub.add(SOURCE, "refs/pr/2", {**pickled, **weights})  # by someone else
    hub.add(SOURCE, "refs/pr/3", {**pickled, **weights})
    commit = hub.refs[SOURCE]["refs/pr/3"] = hub.add(SOURCE, "x", {**pickled, **weights, "README.md": b"3"})
    for number, author in ((1, "SFconvertbot"), (2, "somebody"), (3, "SFconvertbot")):
        hub.add_pull(SOURCE, number, author=author)
    folder = featcache.fetch(NAME).folders[NAME]
    assert folder.name == commit
    assert {path.name for path in folder.iterdir()} == {*weights, "config.json", "preprocessor_config.json"}
    assert f"its weights are a pickle; safetensors weights come from refs/pr/3, commit {commit}" in told()
    assert not any(path.endswith(".bin") for method, path, _ in hub.requests if method == "GET")
    featcache.fetch(NAME, out=tmp_path / "out")
    hub.pulls[SOURCE] = hub.pulls[SOURCE][:2]
    offline()
    for model in (NAME, str(tmp_path / "out")):
        loaded = load(model)
        assert (loaded.revision, loaded.weights_revision) == (main, commit)
    assert load(NAME, revision=commit).revision == load(NAME, revision="refs/pr/3").revision == commit


@pytest.mark.parametrize("status", ["merged", "closed"])
def test_merged_pull_requests_count_and_closed_ones_do_not(hub, files, pickled, status):
    hub.add(SOURCE, "main", pickled)
    commit = hub.add(SOURCE, "refs/pr/1", {**pickled, "model.safetensors": files["model.safetensors"]})
    hub.add_pull(SOURCE, 1, status=status)
    if status == "merged":
        assert load(NAME).weights_revision == commit
    else:
        with pytest.raises(ModelError, match=r"its weights as a pickle only \(pytorch_model.bin\).*add --convert"):
            featcache.fetch(NAME)


def test_one_failure_does_not_stop_the_others(hub, files, tmp_path):
    hub.add(SOURCE, "main", files)
    report = featcache.fetch(["wavlm_large", "egemaps", NAME], out=tmp_path / "out")
    assert report.folders == {NAME: tmp_path / "out" / NAME}
    assert list(report.failures) == ["wavlm_large", "egemaps"]
    assert "the hub has no model of this name" in report.failures["wavlm_large"]
    assert all("\n" not in reason for reason in report.failures.values())
    with pytest.raises(ModelError, match="other files; choose another folder"):
        featcache.fetch(NAME, out=tmp_path / "out")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"models": "wavlm-huge"}, "no model 'wavlm-huge'; did you mean"),
        ({"models": NAME, "revision": "v9"}, r"it has no revision 'v9'\)$"),
        ({"models": "egemaps"}, "needs no download"),
        ({"models": str(Path(__file__).parent)}, "has no weights that featcache knows"),
    ],
)
def test_what_cannot_be_fetched_is_told_in_one_line(hub, files, options, message):
    hub.add(SOURCE, "main", files)
    with pytest.raises(ModelError, match=message):
        featcache.fetch(**options)


def test_without_a_network_the_way_to_get_a_model_is_told(hub, monkeypatch):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # It does not listen, so connections are refused.
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", f"http://127.0.0.1:{unused.getsockname()[1]}")
        with pytest.raises(ModelError, match=r"^[^\n]*\(the hub cannot be reached\); run the same command with --out "):
            featcache.fetch(NAME)


def test_the_signature_repeats_the_settings():
    given = inspect.signature(featcache.fetch).parameters
    assert {name: one.default for name, one in given.items() if name != "models"} == {
        one.name: one.default for one in fields(FetchSettings)
    }
