"""What the tests of this folder share."""

import pytest

from featcache import registry
from featcache.registry import name_plugins
from tests.heads.outside import ATTENTIVE


@pytest.fixture
def named(monkeypatch, tmp_path):
    """Write a file with heads and name it: ``named(text)`` gives the path. What is named is forgotten afterwards."""
    monkeypatch.setattr(registry, "_named", {})

    def write(text=ATTENTIVE, name="head.py"):
        path = tmp_path / name
        path.write_text(text)
        name_plugins([str(path)])
        return path

    return write
