"""Shared fixtures of this folder."""

import shutil

import pytest

from featcache.corpora.synthetic import make_corpus
from featcache.extraction import extract
from featcache.extraction import plan as planning
from tests.extraction.merging.parts import NUM_PARTS


@pytest.fixture(scope="module")
def speech(tmp_path_factory):
    """Return the folder of a corpus of sixteen short utterances."""
    folder = tmp_path_factory.mktemp("corpora") / "speech"
    make_corpus(folder, num_speakers=2, repetitions=2)
    return folder


@pytest.fixture
def corpus(speech, tmp_path):
    """Return a copy of the corpus that a test may change."""
    return shutil.copytree(speech, tmp_path / "speech")


@pytest.fixture
def run(corpus, tmp_path):
    """Return a function that extracts into ``tmp_path / home``, and returns the folder of the store."""

    def run(home, model="spectrogram", **options):
        report = extract(**{"model": model, "data": corpus, "home": tmp_path / home, "egemaps": False, **options})
        return report.cache / report.stores[0]

    return run


@pytest.fixture(scope="module")
def extracted_parts(speech, tmp_path_factory):
    """Return the folder with the three parts of an extraction of spectrograms."""
    home = tmp_path_factory.mktemp("parts")
    options = {"model": "spectrogram", "data": speech, "num_shards": NUM_PARTS}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planning, "SHARD_UTTERANCES", 2)
        for index in range(NUM_PARTS):
            extract(**options, shard_index=index, home=home / f"part-{index}")
    return home


@pytest.fixture
def parts(extracted_parts, tmp_path):
    """Return copies of the parts that a test may merge or damage."""
    shutil.copytree(extracted_parts, tmp_path, dirs_exist_ok=True)
    return [tmp_path / f"part-{index}" / "cache" / "speech" / "spectrogram" for index in range(NUM_PARTS)]


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch):
    monkeypatch.setattr(planning, "SHARD_UTTERANCES", 2)
