"""The examples of the main entry points, run as they are in their docstrings.

An example runs in a prepared folder, and ``$FEATCACHE_HOME`` is its ``data``. ``featcache`` is imported. Write ``...``
for numbers that depend on the machine (doctest's ELLIPSIS); spaces and line breaks do not count (NORMALIZE_WHITESPACE).
The folder is one of two.

If the example mentions ``corpus`` as a folder or a corpus (``"corpus"``, ``cache/corpus``, ``runs/corpus``) or the
store ``toy``::

    corpus/                     16 synthetic utterances with manifest.csv: four speakers (s01 to s04), the emotions
                                anger, happiness, sadness and neutral; ids such as s01-anger-1
    features/                   one .npy per utterance: (3 layers, 6 frames, 4 values) float32
    data/cache/corpus/toy       the same features, imported with a frame shift of 0.02 s
    data/runs/corpus/first      a finished run of the head dense on toy, with the seeds 123 and 1234
    whisper-tiny/               an untrained Whisper

Otherwise::

    path/to/audio/              8 synthetic utterances of two speakers, with manifest.csv
    path/to/features/           one .npy per utterance of the cache emodb
    data/cache/emodb            the stores wav2vec2-base (3 layers) and egemaps; the speakers 03, 08 and 09; the
                                emotions happiness, anger and neutral; ids such as 03a01Fa
    data/runs/emodb/mine        a finished run of the head dense on wav2vec2-base, with the seed 123
    whisper-tiny/               an untrained Whisper
"""

import doctest
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

import featcache
from featcache.corpora import NamedCorpus
from featcache.corpora.synthetic import make_corpus
from featcache.manifest import Manifest, Utterance
from featcache.protocols import Protocol
from featcache.runs.reader import RunFolder
from tests.transcription.conftest import tiny_whisper  # noqa: F401

EMOTIONS = {"F": "happiness", "W": "anger", "N": "neutral"}
ENTRY_POINTS = {
    "open": featcache.open,
    "FeatureStore": featcache.FeatureStore,
    "Manifest": featcache.Manifest,
    "extract": featcache.extract,
    "transcribe": featcache.transcribe,
    "fit": featcache.fit,
    "sweep": featcache.sweep,
    "load_run": featcache.load_run,
    "RunFolder.head": RunFolder.head,
    "run_pipeline": featcache.run_pipeline,
    "import_features": featcache.import_features,
    "FeatureStore.dataset": featcache.FeatureStore.dataset,
    "NamedCorpus": NamedCorpus,
    "Protocol": Protocol,
}
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
OF_CORPUS = re.compile(r"[\"'/]corpus[\"'/]|\btoy\b")
NEEDS_RUN = re.compile(r"load_run\(|RunFolder\(")


def prepare_corpus(needs_run):
    """Make the folder of examples that mention ``corpus``."""
    rng = np.random.default_rng(0)
    Path("features").mkdir()
    for utterance in make_corpus(Path("corpus"), num_speakers=4, repetitions=1):
        np.save(f"features/{utterance.utterance_id}.npy", rng.normal(size=(3, 6, 4)).astype(np.float32))
    featcache.import_features(folder="features", name="toy", frame_shift=0.02, data="corpus")
    if needs_run:
        featcache.fit(features="toy", seeds=2, max_epochs=1, name="first")


def prepare_emodb(needs_run, make_cache):
    """Make the folder of all other examples."""
    utterances = [
        Utterance(
            utterance_id=f"{speaker}a01{letter}{take}",
            path=f"{speaker}a01{letter}{take}.wav",
            speaker_id=speaker,
            labels={"emotion": emotion},
        )
        for speaker in ("03", "08", "09")
        for letter, emotion in EMOTIONS.items()
        for take in "ab"
    ]
    make_cache("emodb", manifest=Manifest(utterances), stores={"wav2vec2-base": {}, "egemaps": {"kind": "egemaps"}})
    make_corpus(Path("path/to/audio"), num_speakers=2, repetitions=1)
    Path("path/to/features").mkdir()
    for utterance in utterances:
        np.save(f"path/to/features/{utterance.utterance_id}.npy", np.ones((3, 5, 4)))
    if needs_run:
        featcache.fit(features="wav2vec2-base", seeds=[123], max_epochs=1, name="mine")


def example_of(name):
    [example] = doctest.DocTestFinder(recurse=False).find(ENTRY_POINTS[name], name, globs={"featcache": featcache})
    return example


def test_the_main_entry_points_have_an_example():
    assert len(ENTRY_POINTS) >= 10
    assert [name for name in ENTRY_POINTS if not example_of(name).examples] == []


@pytest.mark.parametrize("name", ENTRY_POINTS)
def test_an_example_gives_what_it_shows(name, tmp_path, make_cache, quick_reports, monkeypatch, request):
    monkeypatch.chdir(tmp_path)
    example = example_of(name)
    source = "".join(one.source for one in example.examples)
    if OF_CORPUS.search(source):
        monkeypatch.delenv("FEATCACHE_HOME")
        prepare_corpus(NEEDS_RUN.search(source))
    else:
        prepare_emodb(NEEDS_RUN.search(source), make_cache)
    if "whisper-tiny" in source:  # a folder takes precedence over a short name
        shutil.copytree(request.getfixturevalue("tiny_whisper")(), "whisper-tiny")
    failures = []
    doctest.DocTestRunner(optionflags=FLAGS).run(example, out=failures.append)
    assert failures == []
