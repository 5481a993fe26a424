"""The examples in the docstrings of the main entry points run and show their output."""

import doctest
import shutil

import numpy as np
import pytest

import featcache
from featcache import registry
from featcache.corpora import NamedCorpus
from featcache.corpora.synthetic import make_corpus
from featcache.fitting.ensemble import ensemble
from featcache.fitting.probe import probe_stores
from featcache.fitting.relevance import layer_relevance
from featcache.manifest import Manifest, Utterance
from featcache.protocols import Protocol
from featcache.runs.reader import RunFolder
from tests.transcription.conftest import tiny_whisper  # noqa: F401

EMOTIONS = {"F": "happiness", "W": "anger", "N": "neutral"}
ENTRY_POINTS = {
    "open": featcache.open,
    "FeatureStore": featcache.FeatureStore,
    "Manifest": featcache.Manifest,
    "Utterance": featcache.Utterance,
    "FeatcacheError": featcache.FeatcacheError,
    "name_plugins": featcache.name_plugins,
    "extract": featcache.extract,
    "transcribe": featcache.transcribe,
    "fit": featcache.fit,
    "sweep": featcache.sweep,
    "load_run": featcache.load_run,
    "publish": featcache.publish,
    "RunFolder.head": RunFolder.head,
    "run_pipeline": featcache.run_pipeline,
    "probe_stores": probe_stores,
    "layer_relevance": layer_relevance,
    "ensemble": ensemble,
    "import_features": featcache.import_features,
    "FeatureStore.dataset": featcache.FeatureStore.dataset,
    "NamedCorpus": NamedCorpus,
    "Protocol": Protocol,
}


@pytest.fixture
def project(tmp_path, make_cache, quick_reports, monkeypatch):
    """Return a folder as users have it: audio, a small cache named emodb, and features to import."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(registry, "_named", {})
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
    make_corpus(tmp_path / "path" / "to" / "audio", num_speakers=2, repetitions=1)
    (tmp_path / "path" / "to" / "features").mkdir()
    for utterance in utterances:
        np.save(tmp_path / "path" / "to" / "features" / f"{utterance.utterance_id}.npy", np.ones((3, 5, 4)))
    return tmp_path


@pytest.mark.parametrize("name", ENTRY_POINTS)
def test_examples_do_what_they_say(name, project, request):
    if name in ("load_run", "publish", "RunFolder.head"):
        featcache.fit(features="wav2vec2-base", seeds=[123], max_epochs=1, name="mine")
    if name == "transcribe":  # A folder takes precedence over the short name of a model.
        shutil.copytree(request.getfixturevalue("tiny_whisper")(), project / "whisper-tiny")
    [example] = doctest.DocTestFinder(recurse=False).find(ENTRY_POINTS[name], name, globs={"featcache": featcache})
    assert example.examples
    failures = []
    doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(example, out=failures.append)
    assert failures == []
