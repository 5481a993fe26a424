"""Regression on real speech: loudness, pitch and rate are predicted from eGeMAPS, with leave-one-speaker-out folds."""

import os
from pathlib import Path

import pytest

import featcache
from tests.measured import MEASURES, write_measured

CORPORA = Path(os.environ.get("FEATCACHE_TEST_CORPORA", "not-set"))
ENOUGH = 0.8
TARGET = ",".join(MEASURES)


@pytest.fixture(params=["emodb-2s", "ravdess-4actors"])
def home(request, tmp_path):
    if not (CORPORA / request.param).is_dir():
        pytest.skip(f"FEATCACHE_TEST_CORPORA names no folder with {request.param}")
    write_measured(CORPORA / request.param, tmp_path / "corpora" / "measured")
    featcache.extract(model="egemaps-functionals", home=tmp_path)
    featcache.extract(model="distilhubert", weights="random", pool=True, home=tmp_path)
    return tmp_path


@pytest.mark.corpora
def test_loudness_pitch_and_rate_are_told_from_egemaps(home, quick_reports):
    settings = {
        "functionals": {"features": "egemaps-functionals"},  # contain the three targets
        "frames": {"features": "egemaps", "pooling": "mean"},
        "untrained": {"features": "distilhubert", "layers": "last"},
    }
    scores = {}
    for name, options in settings.items():
        run = featcache.fit(
            head="svm", norm="global", target=TARGET, task="regression", protocol="loso", home=home, **options
        )
        scores[name] = [run.metrics[f"ccc_{label}"]["mean"] for label in MEASURES]
    print(scores)  # results for the documentation
    # One of the two feature sets is enough for each target. Mean pooling discards the order of frames, and therefore
    # the rate. With functionals of only four speakers, an SVM on 88 dimensions overfits for the pitch.
    assert all(max(pair) > ENOUGH for pair in zip(scores["functionals"], scores["frames"], strict=True))
    assert sum(scores["untrained"]) < sum(scores["functionals"])
