"""Published folder → hub → another machine; the hub is a fake or a server of the tests."""

import pytest
import torch

import featcache
from featcache.errors import ModelError, StoreError
from featcache.extractors.safetensors_revision import cached_repository
from featcache.publishing.hub_folder import is_hub_reference, local_folder
from featcache.publishing.published_files import published_files
from featcache.runs.reader import RunFolder
from tests.publishing.shared import random_features

SOURCE = "lab/emotion-head"
ONLINE = "huggingface_hub.constants.HF_HUB_OFFLINE"


class FakeApi:
    """Calls of ``HfApi``, in order; ``existing`` is the visibility of a repository that exists."""

    calls, existing, refusing = [], None, None

    def __init__(self, *args, **kwargs):
        assert not args
        assert not kwargs  # the token is the client's own

    def create_repo(self, repo_id, **options):
        if self.refusing:
            raise self.refusing
        self.calls.append(("create_repo", repo_id, options))

    def model_info(self, repo_id):
        private = self.calls[0][2]["private"] if self.existing is None else self.existing == "private"
        return type("Info", (), {"private": private})()

    def upload_folder(self, **options):
        self.calls.append(("upload_folder", options))


@pytest.fixture
def api(monkeypatch):
    monkeypatch.setattr(ONLINE, False)
    monkeypatch.setattr("huggingface_hub.HfApi", FakeApi)
    monkeypatch.setattr("huggingface_hub.get_token", lambda: "hf_x")
    monkeypatch.setattr(FakeApi, "calls", [])
    return FakeApi


def test_only_published_files_are_uploaded_and_are_listed_before(trained, tmp_path, api, told):
    folder = featcache.publish(trained("dense").path, tmp_path / "shared")
    (folder / "secret.txt").touch()
    (folder / "heads" / "mine.pt").touch()
    featcache.publish(trained("dense").path, folder, push=SOURCE)
    (_, name, created), (_, uploaded) = api.calls
    assert (name, created) == (SOURCE, {"repo_type": "model", "private": None, "exist_ok": True})
    assert set(uploaded["allow_patterns"]) == set(published_files(folder))
    assert uploaded["folder_path"] == folder
    assert all(f"{name}: " in told() for name in published_files(folder))
    assert f"to https://huggingface.co/{SOURCE} (public, unless it exists and is private)" in told()
    assert "secret" not in told()


def test_the_model_card_names_the_repository(trained, tmp_path, api):
    folder = featcache.publish(trained("dense").path, tmp_path / "shared", push=SOURCE, private=True)
    assert f"featcache predict hf:{SOURCE} x.wav" in (folder / "README.md").read_text()
    assert api.calls[0][2]["private"] is True


def test_a_public_repository_never_gets_what_must_be_private(trained, tmp_path, api, monkeypatch):
    monkeypatch.setattr(api, "existing", "public")
    with pytest.raises(ModelError, match=r"exists and is public, and nothing was uploaded"):
        featcache.publish(trained("dense").path, tmp_path / "shared", push=SOURCE, private=True)
    assert [call[0] for call in api.calls] == ["create_repo"]


@pytest.mark.parametrize(
    ("status", "message"),
    [(403, r"your login may not write there; check OWNER"), (None, r"the hub cannot be reached"), (500, "server")],
)
def test_errors_of_the_hub_are_told_in_one_line(trained, tmp_path, api, monkeypatch, status, message):
    import httpx2 as httpx
    from huggingface_hub.errors import HfHubHTTPError

    error = ConnectionRefusedError("no")
    if status:
        error = HfHubHTTPError(
            "server\nerror", response=httpx.Response(status, request=httpx.Request("GET", "http://h"))
        )
    monkeypatch.setattr(api, "refusing", error)
    with pytest.raises(ModelError, match=rf"^{SOURCE}: cannot be uploaded \({message}") as raised:
        featcache.publish(trained("dense").path, tmp_path / "shared", push=SOURCE)
    assert "\n" not in str(raised.value)


def test_nothing_is_uploaded_without_a_login_or_a_network(trained, tmp_path, api, monkeypatch):
    folder = tmp_path / "shared"
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    with pytest.raises(ModelError, match=r"you are not logged in to the Hugging Face hub; run 'hf auth login' first"):
        featcache.publish(trained("dense").path, folder, push=SOURCE)
    monkeypatch.setattr(ONLINE, True)
    with pytest.raises(ModelError, match=r"HF_HUB_OFFLINE is set"):
        featcache.publish(trained("dense").path, folder, push=SOURCE)
    assert api.calls == []
    for name in ("lab", "lab/", "../x", "a/b/c", "hf:lab/x", "lab/x--y", "-a/b"):
        with pytest.raises(ModelError, match=r"is no id on the Hugging Face hub"):
            featcache.publish(trained("dense").path, tmp_path / "unwritten", push=name)
    assert not (tmp_path / "unwritten").exists()


@pytest.fixture
def files(trained, tmp_path):
    folder = featcache.publish(trained("dense").path, tmp_path / "shared")
    others = {"pytorch_model.bin": b"x", "heads/x.pt": b"x", "heads/run.py": b"x", "heads/a/b.safetensors": b"x"}
    return {name: (folder / name).read_bytes() for name in published_files(folder)} | others


def test_only_what_is_read_is_downloaded_and_gives_the_same_outputs(trained, hub, files, told, offline, monkeypatch):
    hub.add(SOURCE, "main", files)
    folder = local_folder(f"hf:{SOURCE}")
    got = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    heads = {f"heads/seed-1-fold-{fold}.safetensors" for fold in (1, 2, 3)}
    read = {"config.yaml", "metrics.json", "checksums.sha256", "layer_weights.csv", "normalisation.safetensors"}
    assert got == {*heads, *read}
    assert f"{SOURCE}: " in told()
    run = trained("dense")
    for fold in (1, 2, 3):
        head, same = run.head(seed=1, fold=fold), RunFolder(folder).head(seed=1, fold=fold)
        features, _ = random_features(head)
        assert torch.equal(same(features), head(features))
    offline()
    assert local_folder(f"hf:{SOURCE}") == folder
    assert local_folder(f"hf:{SOURCE}@main") == local_folder(f"hf:{SOURCE}@{folder.name}") == folder
    with pytest.raises(ModelError, match=r"hf:lab/other is not on this machine, .* or copy the published folder here"):
        local_folder("hf:lab/other")


def test_a_revision_is_a_branch_a_tag_or_a_commit(hub, files):
    first = hub.add(SOURCE, "main", files)
    second = hub.add(SOURCE, "v2", {**files, "layer_weights.csv": b"other"})
    assert {local_folder(f"hf:{SOURCE}{at}").name for at in ("", "@main", f"@{first}")} == {first}
    assert {local_folder(f"hf:{SOURCE}{at}").name for at in ("@v2", f"@{second}")} == {second}
    with pytest.raises(ModelError, match=r"cannot be downloaded \(it has no revision 'v3'\)$"):
        local_folder(f"hf:{SOURCE}@v3")
    with pytest.raises(ModelError, match=r"the hub has no model of this name, or it is private"):
        local_folder("hf:lab/other")


def test_the_cache_is_used_if_the_hub_cannot_be_reached(hub, files, told, monkeypatch):
    hub.add(SOURCE, "main", files)
    folder = local_folder(f"hf:{SOURCE}")

    def refuse(*args, **kwargs):
        raise ConnectionRefusedError("no")

    monkeypatch.setattr("huggingface_hub.HfApi.model_info", refuse)
    assert local_folder(f"hf:{SOURCE}") == folder
    assert f"{SOURCE}: the local cache is used (the hub cannot be reached)" in told()
    with pytest.raises(ModelError, match=r"^hf:lab/other: cannot be downloaded \(the hub cannot be reached\)$"):
        local_folder("hf:lab/other")


def test_other_repositories_and_incomplete_downloads_are_refused(hub, files, offline):
    hub.add("lab/model", "main", {"config.json": b"{}", "model.safetensors": b"x"})
    with pytest.raises(StoreError, match=r"that 'featcache publish' wrote: it has no config.yaml, metrics.json, check"):
        local_folder("hf:lab/model")
    assert not cached_repository("lab/model").exists()
    hub.add(SOURCE, "main", files)
    (local_folder(f"hf:{SOURCE}") / "heads" / "seed-1-fold-2.safetensors").unlink()
    offline()
    with pytest.raises(StoreError, match=r"download is incomplete \('heads/seed-1-fold-2.safetensors'\)"):
        local_folder(f"hf:{SOURCE}")


@pytest.mark.parametrize("reference", ["lab/x", "hf:lab", "hf:lab/x@", "hf:", "hf:../x", "hf:a/x@../../y", "hf:a/x@/y"])
def test_a_reference_has_one_form(reference):
    with pytest.raises(ModelError, match=r"expected "):
        local_folder(reference)
    assert is_hub_reference(reference) == reference.startswith("hf:")
