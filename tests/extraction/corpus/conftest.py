"""Shared fixtures of this folder."""

import pytest

from featcache.extraction import plan as planning
from tests.extraction.corpus.made_up import RATE, MadeUpExtractor, use, write_audio, write_manifest


@pytest.fixture
def corpus(tmp_path, rng):
    """Return a corpus of seven utterances of different lengths under ``data/corpora``, with a manifest."""
    folder = tmp_path / "data" / "corpora" / "made-up"
    lengths = [0.5, 1.3, 0.2, 0.9, 2.0, 0.4, 0.7]
    for number, seconds in enumerate(lengths):
        write_audio(folder / f"u{number}.wav", 0.1 * rng.standard_normal(int(seconds * RATE)))
    write_manifest(folder, [f"u{number}.wav" for number in range(len(lengths))])
    return folder


@pytest.fixture
def made_up(monkeypatch):
    """Return the made-up extractor, which replaces every model."""
    extractor = MadeUpExtractor()
    use(monkeypatch, extractor)
    monkeypatch.setattr(planning, "SHARD_UTTERANCES", 2)
    return extractor
