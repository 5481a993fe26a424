"""Fetched models work without a network, from the cache of the hub's client or from a copied folder."""

import inspect
import json
import os
import socket
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace

import pytest

import featcache
from featcache.errors import ModelError
from featcache.extractors.download import download
from featcache.extractors.hub import Repository
from featcache.extractors.models import is_local, load, resolve
from featcache.extractors.origin import FolderOrigin, find_fetched, write_origin
from featcache.settings.fetches import FetchSettings
from tests import hub_server
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


def test_changed_weights_are_not_those_of_the_model(hub, files, offline, tmp_path, told):
    """The new weights have the same size; the hub's local cache keeps the old ones."""
    hub.add(SOURCE, "main", files)
    folder = tmp_path / "data" / "models" / "any-name"
    featcache.fetch(NAME, out=folder)
    offline()
    load(NAME)
    assert f"{SOURCE}: the files of {folder} are used" in told()
    weights = bytearray(files["model.safetensors"])
    weights[-1] ^= 1
    (folder / "model.safetensors").write_bytes(weights)
    with pytest.raises(
        ModelError, match=r"any-name are not those that its featcache-origin\.json lists; pass the folder"
    ):
        load(NAME)
    assert load(str(folder)).revision is None
    folder.rename(tmp_path / "elsewhere")
    assert load(NAME).weights_sha256 != load(str(tmp_path / "elsewhere")).weights_sha256


@pytest.mark.parametrize(
    "changes",
    [{"sizes": {"x" * 5000: 1}}, {"sizes": {"\ud800": 1}}, {"sizes": {"../x": 1}}, {"revision": "a\nb"}, {"sha256": 3}],
    ids=str,
)
def test_a_damaged_description_of_a_folder_stops_nothing(tmp_path, monkeypatch, changes):
    monkeypatch.setenv("FEATCACHE_HOME", str(tmp_path))
    folder = tmp_path / "models" / "any-name"
    folder.mkdir(parents=True)
    write_origin(folder, FolderOrigin(model_id=SOURCE))
    assert find_fetched(SOURCE, None) is None  # It contains no model.
    (folder / "config.json").write_text("{}")
    assert find_fetched(SOURCE, None) == folder
    found = json.loads((folder / "featcache-origin.json").read_text())
    (folder / "featcache-origin.json").write_text(json.dumps({**found, **changes}))
    assert find_fetched(SOURCE, None) is None


def test_a_folder_in_place_of_a_named_model_is_told(tiny_model, tmp_path, monkeypatch, told):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "microsoft").mkdir()
    for place in (NAME, SOURCE):
        (tmp_path / place).symlink_to(tiny_model("wavlm"))
        assert resolve(NAME)[0] == place
        (tmp_path / place).unlink()
    assert told().splitlines() == [
        f"{NAME}: the folder of this name is used, not the model",
        f"{NAME}: the folder {SOURCE} is used, not the model of the hub",
    ]


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


@pytest.mark.parametrize(
    ("place", "told"), [("{hub}/x", True), ("http://127.0.0.1:1/x", False), ("{other_scheme}/x", False)]
)
def test_a_token_is_sent_to_the_hub_only(hub, monkeypatch, place, told):
    """A file may be in another place; an address without encryption counts as one."""
    from huggingface_hub import constants

    location = place.format(hub=constants.ENDPOINT, other_scheme=constants.ENDPOINT.replace("http:", "ftp:"))
    found = SimpleNamespace(etag="0" * 64, size=1, location=location)
    sent = {}

    def get(url, _file, *, headers, **_options):
        sent[url] = headers
        raise KeyboardInterrupt

    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setattr("huggingface_hub.get_hf_file_metadata", lambda _url: found)
    monkeypatch.setattr("huggingface_hub.file_download.http_get", get)
    with pytest.raises(KeyboardInterrupt):
        download(SOURCE, "model.safetensors", None)
    assert ("hf_secret" in str(sent[location])) == told


def test_without_hashes_no_other_commit_is_trusted(hub, files, pickled, monkeypatch):
    hub.add(SOURCE, "main", pickled)
    other = {"config.json": files["config.json"] + b" ", "model.safetensors": files["model.safetensors"]}
    hub.add(SOURCE, "refs/pr/1", {**pickled, **other})
    hub.add_pull(SOURCE, 1)
    monkeypatch.setattr("tests.hub_server.HASHES", False)
    with pytest.raises(ModelError, match="as a pickle only"):
        featcache.fetch(NAME)


def test_a_deleted_pull_request_does_not_hide_the_others(hub, files, pickled):
    hub.add(SOURCE, "main", pickled)
    commit = hub.add(SOURCE, "refs/pr/1", {**pickled, "model.safetensors": files["model.safetensors"]})
    for number in (1, 2):
        hub.add_pull(SOURCE, number)
    assert featcache.fetch(NAME).folders[NAME].name == commit


@pytest.mark.parametrize(
    "answer", [{"siblings": [{"rfilename": "config.json", "size": "x"}]}, {"cardData": "x"}, {"siblings": "x"}], ids=str
)
def test_strange_answers_of_the_hub_are_told_in_one_line(hub, files, monkeypatch, answer):
    hub.add(SOURCE, "main", files)
    usual = hub_server._info
    monkeypatch.setattr(hub_server, "_info", lambda *given: {**usual(*given), **answer})
    with pytest.raises(ModelError, match="cannot be downloaded") as caught:
        featcache.fetch(NAME)
    assert "\n" not in str(caught.value)


def test_what_a_killed_fetch_left_is_removed(hub, files, tmp_path):
    hub.add(SOURCE, "main", files)
    left, other = (tmp_path / f".out.{name}.tmp" for name in ("0" * 32, "notes"))
    for folder in (left, other):
        (folder / "inside").mkdir(parents=True)
    featcache.fetch(NAME, out=tmp_path / "out")
    assert (left.exists(), other.exists()) == (False, True)


def test_two_fetches_into_one_folder_take_turns(hub, files, tmp_path):
    hub.add(SOURCE, "main", files)
    with ThreadPoolExecutor(2) as threads:
        reports = list(threads.map(lambda _: featcache.fetch(NAME, out=tmp_path / "out"), range(2)))
    assert [report.folders for report in reports] == [{NAME: tmp_path / "out"}] * 2


def test_the_current_folder_is_not_replaced(hub, files, tmp_path, monkeypatch):
    hub.add(SOURCE, "main", files)
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    for out in (".", "", tmp_path / "empty"):
        with pytest.raises(ModelError, match="--out is the current folder"):
            featcache.fetch(NAME, out=out)


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
        ({"names": "wavlm-huge"}, "no model 'wavlm-huge'; did you mean"),
        ({"names": NAME, "revision": "v9"}, r"it has no revision 'v9'\)$"),
        ({"names": "egemaps"}, "needs no download"),
        ({"names": str(Path(__file__).parent)}, "has no weights that featcache knows"),
    ],
)
def test_what_cannot_be_fetched_is_told_in_one_line(hub, files, options, message):
    hub.add(SOURCE, "main", files)
    with pytest.raises(ModelError, match=message):
        featcache.fetch(**options)


@pytest.fixture
def no_hub(hub, monkeypatch):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # It does not listen, so connections are refused.
        address = f"http://127.0.0.1:{unused.getsockname()[1]}"
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)
        template = f"{address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
        yield


def test_without_a_network_the_way_to_get_a_model_is_told(no_hub):
    with pytest.raises(ModelError, match=r"^[^\n]*\(the hub cannot be reached\); run the same command with --out "):
        featcache.fetch(NAME)


def test_a_hub_that_refuses_connections_is_not_asked_again_and_again(no_hub, monkeypatch):
    monkeypatch.setattr("time.sleep", None)  # The hub's client waits half a minute between its requests.
    with pytest.raises(OSError, match="the hub cannot be reached"):
        Repository(SOURCE, None)


def test_the_signature_repeats_the_settings():
    given = inspect.signature(featcache.fetch).parameters
    assert {name: one.default for name, one in given.items() if name != "names"} == {
        one.name: one.default for one in fields(FetchSettings)
    }
