"""Tests on real corpora, if ``FEATCACHE_TEST_CORPORA`` is the folder that contains them."""

import os
from collections import Counter
from pathlib import Path

import pytest

from featcache import audio
from featcache.corpora import read_corpus

FOLDER = Path(os.environ.get("FEATCACHE_TEST_CORPORA", "not-set"))
# Folder → corpus, number of utterances, of speakers, and of files with several channels.
REAL = {"emodb-2s": ("emodb", 535, 10, 0), "ravdess-4actors": ("ravdess", 240, 4, 5)}


@pytest.mark.corpora
@pytest.mark.parametrize("name", REAL)
def test_real_corpora_are_read_whole(name):
    if not (FOLDER / name).is_dir():
        pytest.skip(f"FEATCACHE_TEST_CORPORA names no folder with {name}")
    corpus, num_utterances, num_speakers, num_stereo = REAL[name]
    files = read_corpus(FOLDER / name)
    assert files.corpus.name == corpus
    assert not files.ignored
    assert len(files.manifest) == num_utterances
    assert len(files.manifest.speaker_ids) == num_speakers
    assert set(files.manifest.labels("emotion").values()) == set(files.corpus.classes)
    channels = Counter(len(audio.read(files.root, utterance).channels) for utterance in files.manifest)
    assert num_utterances - channels[1] == num_stereo
