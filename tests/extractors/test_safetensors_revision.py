"""Weights that the hub has as a pickle only are read from another commit that contains them as safetensors."""

import shutil

import pytest
import torch
from safetensors.torch import load_file

from featcache.errors import ModelError
from featcache.extractors.models import is_local, load, local_folder
from featcache.extractors.ssl import SSLExtractor
from featcache.settings.extractor_configs import SSLConfig

MAIN, PULL, OTHER = "a" * 40, "b" * 40, "c" * 40
NAME, SOURCE = "wavlm-base-plus", "microsoft/wavlm-base-plus"


@pytest.fixture
def wavlm(tiny_model):
    return tiny_model("wavlm")


@pytest.fixture
def repository(wavlm, tmp_path, monkeypatch):
    """Return the hub's local cache of a model: a pickle in main, safetensors in pull request 1; without network."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("FEATCACHE_HOME", str(tmp_path / "data"))
    folder = tmp_path / "hub" / "models--microsoft--wavlm-base-plus"
    for commit in (MAIN, PULL):
        (folder / "snapshots" / commit).mkdir(parents=True)
        for name in ("config.json", "preprocessor_config.json"):
            shutil.copy(f"{wavlm}/{name}", folder / "snapshots" / commit / name)
    torch.save(load_file(f"{wavlm}/model.safetensors"), folder / "snapshots" / MAIN / "pytorch_model.bin")
    shutil.copy(f"{wavlm}/model.safetensors", folder / "snapshots" / PULL)
    refer(folder, "main", MAIN)
    refer(folder, "refs/pr/1", PULL)
    return folder


def refer(folder, ref, commit):
    (folder / "refs" / ref).parent.mkdir(parents=True, exist_ok=True)
    (folder / "refs" / ref).write_text(commit)


@pytest.mark.parametrize("revision", [None, "main", MAIN])
def test_the_weights_of_a_cached_pull_request_are_used_and_its_commit_is_told(repository, wavlm, revision):
    loaded = load(NAME, revision=revision)
    assert (loaded.revision, loaded.weights_revision) == (MAIN, PULL)
    assert loaded.weights_sha256 == load(wavlm).weights_sha256
    assert is_local(NAME)
    assert local_folder(SOURCE).name == MAIN


def test_a_pull_request_can_be_named_as_revision(repository):
    for revision in ("refs/pr/1", PULL):
        loaded = load(NAME, revision=revision)
        assert (loaded.revision, loaded.weights_revision) == (PULL, PULL)


def test_a_store_records_both_commits_and_they_do_not_change_its_identity(repository, wavlm):
    pinned, of_folder = (SSLExtractor(SSLConfig(model=model)).description for model in (NAME, wavlm))
    assert pinned.provenance["revision"] == MAIN
    assert pinned.provenance["weights_revision"] == PULL
    assert of_folder.provenance["weights_revision"] == ""
    assert not {"revision", "weights_revision"} & pinned.settings.keys()
    assert {**pinned.settings, "model_id": ""} == {**of_folder.settings, "model_id": ""}


def test_a_reference_may_be_at_either_place(repository):
    (repository / "refs" / "refs" / "pr" / "1").unlink()
    refer(repository, "pr/1", PULL)
    assert load(NAME).weights_revision == PULL


@pytest.mark.parametrize("name", ["config.json", "pytorch_model.bin"])
def test_weights_of_another_pickle_or_configuration_are_not_used(repository, name):
    content = (repository / "snapshots" / MAIN / name).read_bytes()
    (repository / "snapshots" / PULL / name).write_bytes(content + b" ")
    assert not is_local(NAME)
    with pytest.raises(ModelError, match=r"contains pickled weights \(pytorch_model.bin\)"):
        load(NAME)


def test_the_newest_pull_request_comes_first_and_main_before_all(repository, wavlm):
    for number, commit in ((9, OTHER), (10, "d" * 40)):
        shutil.copytree(repository / "snapshots" / PULL, repository / "snapshots" / commit)
        refer(repository, f"refs/pr/{number}", commit)
    assert load(NAME).weights_revision == "d" * 40
    refer(repository, "main", OTHER)
    assert load(NAME, revision=MAIN).weights_revision == OTHER


@pytest.mark.parametrize("text", ["", "../../etc", "..", "f" * 40, "f" * 100])
def test_a_reference_without_a_commit_is_passed_over(repository, text):
    refer(repository, "refs/pr/2", text)
    assert load(NAME).weights_revision == PULL


def test_a_pickle_alone_is_never_loaded_and_every_way_is_named(repository, monkeypatch):
    (repository / "refs" / "refs" / "pr" / "1").unlink()
    monkeypatch.setattr("torch.load", None)
    with pytest.raises(ModelError) as caught:
        load(NAME)
    assert str(caught.value) == (
        f"{SOURCE} contains pickled weights (pytorch_model.bin), which are never loaded; 'featcache fetch {SOURCE} "
        f"--convert' converts them in a separate process; run 'featcache fetch {NAME} --out FOLDER' where there is a "
        f"network and copy FOLDER into {repository.parents[1] / 'data' / 'models'} here, or use --weights random "
        "(untrained)"
    )


def test_a_lost_connection_is_not_taken_for_missing_weights(repository, monkeypatch):
    from huggingface_hub.errors import LocalEntryNotFoundError

    from featcache.extractors.download import download

    def lost(source, name, revision):
        if "safetensors" in name:
            raise LocalEntryNotFoundError("no connection")
        return download(source, name, revision)

    (repository / "refs" / "refs" / "pr" / "1").unlink()
    monkeypatch.setattr("featcache.extractors.hub.download", lost)
    monkeypatch.setattr("featcache.extractors.hub.is_offline", lambda: False)
    monkeypatch.setattr("featcache.extractors.hub.find_conversion", lambda source, commit: None)
    with pytest.raises(ModelError, match=r"could not be downloaded .* \(the hub cannot be reached\); run"):
        load(NAME)
