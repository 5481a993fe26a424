"""Shared fixtures of this folder."""

import pytest

from featcache.extraction import extract
from featcache.extraction import plan as planning
from tests.extraction.text.text_corpus import TEXTS, manifest_of


@pytest.fixture
def corpus(tmp_path):
    """Return a corpus of seven utterances with transcripts and without audio."""
    folder = tmp_path / "data" / "corpora" / "said"
    folder.mkdir(parents=True)
    manifest_of(TEXTS).write(folder / "manifest.csv")
    return folder


@pytest.fixture
def model(tiny_text_model, monkeypatch):
    monkeypatch.setattr(planning, "SHARD_UTTERANCES", 3)
    return tiny_text_model("bert")


@pytest.fixture
def run(model):
    def call(**options):
        return extract(**{"text": model, "name": "words", "workers": 2, **options})

    return call
