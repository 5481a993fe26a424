"""Fixtures for the tests in this folder."""

import logging

import pytest

from tests.hub_server import Hub, serving

SOURCE = "microsoft/wavlm-base-plus"


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """Return a hub on this machine, which is the only one that this test sees, with an empty local cache."""
    from huggingface_hub.utils import _http

    forget = getattr(_http, "close_session", None) or _http.reset_sessions
    monkeypatch.setenv("FEATCACHE_HOME", str(tmp_path / "data"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    hub = Hub()
    with serving(hub) as address:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)
        template = address + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr("huggingface_hub.file_download.HUGGINGFACE_CO_URL_TEMPLATE", template, raising=False)
        forget()  # An open session keeps the old settings.
        yield hub
    forget()


@pytest.fixture
def files(tiny_model):
    """Return file name → content of a tiny WavLM, and of a file that featcache does not read."""
    from pathlib import Path

    folder = Path(tiny_model("wavlm"))
    return {path.name: path.read_bytes() for path in folder.iterdir()} | {"README.md": b"x" * 1000}


@pytest.fixture
def pickled(files, tmp_path):
    """Return the same files with a pickle instead of the safetensors file."""
    import torch
    from safetensors.torch import load

    torch.save(load(files["model.safetensors"]), tmp_path / "pytorch_model.bin")
    others = {name: content for name, content in files.items() if name != "model.safetensors"}
    return {**others, "pytorch_model.bin": (tmp_path / "pytorch_model.bin").read_bytes()}


@pytest.fixture
def offline(monkeypatch):
    """Return a function that forbids all further requests to the hub."""
    return lambda: monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


@pytest.fixture
def told(caplog):
    """Return a function that returns the log of featcache."""
    caplog.set_level(logging.INFO, logger="featcache")
    return lambda: "\n".join(caplog.messages)
