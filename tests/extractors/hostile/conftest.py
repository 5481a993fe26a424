"""Fixtures for the tests in this folder."""

import shutil
from pathlib import Path

import pytest


@pytest.fixture
def folder(tiny_model, tmp_path):
    return Path(shutil.copytree(tiny_model("wav2vec2"), tmp_path / "models" / "my-model"))


@pytest.fixture
def sprung(tmp_path):
    """Yield the path of the file that a loaded pickle creates, and check at the end that it does not exist."""
    path = tmp_path / "sprung"
    yield path
    assert not path.exists()
