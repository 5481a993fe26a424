"""A temporary folder in which the code of a page runs."""

import pytest

from featcache import registry
from tests.docs.prepared import prepare


@pytest.fixture
def working_folder(tmp_path, monkeypatch):
    """Prepare the current folder for a page: ``working_folder(names)``."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FEATCACHE_HOME")  # pages say data/, the default
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(registry, "_named", {})

    def make(names):
        prepare(names)
        return tmp_path

    return make
