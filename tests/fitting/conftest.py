"""Fixtures of this folder."""

import pytest

from tests.outside_heads import install, named  # noqa: F401


@pytest.fixture
def elsewhere(monkeypatch, tmp_path):
    """Return a function that changes to another home with the same caches, and returns the folder of the caches."""

    def move():
        other = tmp_path / "elsewhere"
        other.mkdir()
        (other / "cache").symlink_to(tmp_path / "data" / "cache")
        monkeypatch.setenv("FEATCACHE_HOME", str(other))
        return other / "cache"

    return move
