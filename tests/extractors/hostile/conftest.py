"""What the tests of this folder share."""

import shutil
from pathlib import Path

import pytest


@pytest.fixture
def folder(tiny_model, tmp_path):
    return Path(shutil.copytree(tiny_model("wav2vec2"), tmp_path / "models" / "my-model"))


@pytest.fixture
def sprung(tmp_path):
    """The file that a pickle leaves behind when it is loaded; none may be there at the end."""
    path = tmp_path / "sprung"
    yield path
    assert not path.exists()
