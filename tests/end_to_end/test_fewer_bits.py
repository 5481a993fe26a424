"""Lower precision on disk or in memory gives the same predictions and accuracy, on synthetic and real speech."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from featcache.cache.reader import FeatureCache
from featcache.corpora.synthetic import make_corpus
from featcache.extraction import extract
from featcache.extractors.models import known_models
from featcache.fitting.fit import fit
from featcache.settings.types import first_seeds
from tests.benchmarks.compare import signal_to_noise
from tests.benchmarks.quantised import LEAST, rewrite

CORPORA = Path(os.environ.get("FEATCACHE_TEST_CORPORA", "not-set"))
# Noise at -35 dB changes a logit by about 1/50 of its standard deviation. Only utterances whose two most likely classes
# are that close can change their prediction. A mistake in the restored features would give agreement at chance level.
AGREEING = 0.95
# Many optimiser steps, so that a few hundred utterances are enough for training.
TRAINING = {"learning_rate": 1e-3, "max_epochs": 20, "batch_size": 8}


@pytest.fixture
def stores(monkeypatch, tmp_path):
    """Return a function that makes a cache with the stores ``float16`` and ``int8``, from the same extraction."""
    monkeypatch.setenv("FEATCACHE_HOME", str(tmp_path / "data"))

    def make(model, data):
        report = extract(model=str(model), weights="random", data=data, egemaps=False, name="float16")
        cache = FeatureCache(report.cache)
        rewrite(cache["float16"], report.cache / "int8")
        return cache

    return make


def test_predictions_from_8_bits_are_those_from_float16(stores, tiny_model, quick_reports, tmp_path):
    make_corpus(tmp_path / "synthetic", num_speakers=4, repetitions=2)
    cache = stores(tiny_model("wav2vec2"), tmp_path / "synthetic")
    assert (signal_to_noise(cache["float16"], cache["int8"]) >= LEAST).all()
    training = {"learning_rate": 3e-3, "max_epochs": 10}
    runs = [fit(features=[name], seeds=(1, 2), **training) for name in ("float16", "int8")]
    expected, found = (run.predictions.set_index(["seed", "utterance_id"])["prediction"] for run in runs)
    assert len(expected) == 2 * 32
    assert expected.nunique() > 1  # with a single predicted class, agreement would prove nothing
    assert np.mean(found[expected.index] == expected) >= AGREEING


@pytest.fixture(params=["emodb-2s", "ravdess-4actors"])
def real_stores(request, stores, tmp_path):
    """Make stores from real speech with an untrained wav2vec2-base, cut to three blocks so that it takes minutes."""
    data = CORPORA / request.param
    if not data.is_dir():
        pytest.skip(f"FEATCACHE_TEST_CORPORA names no folder with {data.name}")
    model = tmp_path / "wav2vec2-base-cut"
    model.mkdir()
    config = {**known_models()["wav2vec2-base"]["config"], "model_type": "wav2vec2", "num_hidden_layers": 3}
    (model / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return stores(model, data)


def fit_for_real(**options):
    """Return the UAR of a random split, because an untrained model is near chance level for held-out speakers."""
    same = {"protocol": "random-80-20", "target": "emotion", "seeds": first_seeds(10), **TRAINING}
    return fit(**same, **options).metrics["uar"]


@pytest.mark.corpora
def test_accuracy_from_fewer_bits_is_within_the_seeds(real_stores, quick_reports):
    assert (signal_to_noise(real_stores["float16"], real_stores["int8"]) >= LEAST).all()
    expected = fit_for_real(features=["float16"], memory="float32")
    num_classes = len(set(real_stores.manifest.labels("emotion").values()))
    assert expected["mean"] > 100 / num_classes + expected["std"]  # above chance, so that accuracy can get worse
    found = {"int8 on disk": fit_for_real(features=["int8"], memory="float32")}
    found |= {dtype: fit_for_real(features=["float16"], memory=dtype) for dtype in ("float16", "bfloat16", "int8")}
    print(expected, found)  # results for the documentation
    assert {
        name: score for name, score in found.items() if abs(score["mean"] - expected["mean"]) >= expected["std"]
    } == {}
