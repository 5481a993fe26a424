"""Fixtures of this folder."""

import shutil

import numpy as np
import pytest

import featcache
from featcache.manifest import Manifest, Utterance
from featcache.runs.file_names import METRICS
from featcache.runs.reader import RunFolder
from featcache.runs.writer import write_json, write_yaml
from featcache.workspace import Workspace
from tests.runs.saved import STORES, train


@pytest.fixture
def make_run():
    def make(path, *, config=None, metrics=None):
        path.mkdir(parents=True)
        write_yaml(path / "config.yaml", config or {"head": "dense"})
        write_json(path / METRICS, metrics or {"num_seeds": 1})
        return path

    return make


@pytest.fixture
def workspace(tmp_path):
    return Workspace.at(tmp_path)


@pytest.fixture
def cache(make_cache):
    """Make a cache with four stores of noise, three emotions, two dimensional labels, and a label for groups."""
    rng = np.random.default_rng(1)
    manifest = Manifest(
        [
            Utterance(
                utterance_id=f"{speaker}-{emotion}-{number}",
                path=f"{speaker}-{emotion}-{number}.wav",
                speaker_id=speaker,
                labels={
                    "emotion": emotion,
                    "arousal": f"{rng.uniform(1, 5):.2f}",
                    "valence": f"{rng.uniform(-1, 1):.2f}",
                    "half": f"{speaker}{number}",
                    "sex": "f" if emotion == "anger" else "m",
                },
            )
            for speaker in ("01", "02", "03", "04")
            for emotion in ("anger", "joy", "sadness")
            for number in (1, 2)
        ]
    )
    return featcache.open(make_cache(manifest=manifest, stores=STORES))


@pytest.fixture
def trained_once(request, tmp_path, tmp_path_factory):
    """Return a function that copies a run; the run is trained for the first test that needs it."""

    def make(head, **options):
        kept = tmp_path_factory.getbasetemp() / f"saved-{head}"
        if not kept.exists():
            request.getfixturevalue("cache")
            shutil.copytree(train(head=head, features=["ssl"], **options).path, kept)
        return RunFolder(shutil.copytree(kept, tmp_path / "run"))

    return make


@pytest.fixture
def run(trained_once):
    return trained_once("dense", norm="speaker")
