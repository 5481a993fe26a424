"""On real speech: what eGeMAPS measures of an utterance, told from its frames, with every speaker left out once."""

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
    featcache.extract(model="distilhubert", weights="random", pool=True, home=tmp_path)
    featcache.extract(model="egemaps", name="frames", home=tmp_path)
    return tmp_path


@pytest.mark.corpora
def test_loudness_pitch_and_rate_are_told_from_egemaps(home, quick_reports):
    common = {"target": TARGET, "task": "regression", "protocol": "loso", "home": home}
    pooled = featcache.fit(head="svm", pooling="mean", norm="global", features="frames", **common).metrics
    assert min(pooled["ccc_loudness"]["mean"], pooled["ccc_pitch"]["mean"]) > ENOUGH
    training = {"learning_rate": 1e-3, "patience": 12}
    frames = featcache.fit(head="lstm", norm="speaker", features="frames", seeds=[123], training=training, **common)
    assert frames.metrics["ccc"]["mean"] > ENOUGH
    control = featcache.fit(head="svm", layers="last", norm="global", features="distilhubert", **common).metrics
    for name, metrics in {"svm": pooled, "lstm": frames.metrics, "untrained": control}.items():
        print(name, {f"ccc_{label}": round(metrics[f"ccc_{label}"]["mean"], 3) for label in MEASURES})
    assert control["ccc"]["mean"] < pooled["ccc"]["mean"]
