"""Fixtures for the tests in this folder."""

import functools
import json
import shutil
from pathlib import Path

import pytest

from featcache.audio import Signal
from featcache.extractors.models import known_models
from featcache.extractors.ssl import SSLExtractor
from featcache.settings.extractor_configs import SSLConfig
from tests.extractors.speech import (
    LENGTHS,
)


@pytest.fixture
def folder(tiny_model, tmp_path):
    """Return a private copy of a model folder, which the test may damage."""
    return shutil.copytree(tiny_model("wav2vec2"), tmp_path / "my-model")


@pytest.fixture
def tiny_entry(tiny_model, monkeypatch):
    """Add a short name ``tiny`` for a model whose architecture is quick to build."""
    config = json.loads((Path(tiny_model("wav2vec2")) / "config.json").read_text())
    names = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "conv_dim")
    entry = {
        "model_id": "nobody/tiny-model",
        "family": "wav2vec2",
        "do_normalize": False,
        "config": {name: config[name] for name in names},
    }
    monkeypatch.setitem(known_models(), "tiny", entry)
    return entry


@pytest.fixture(scope="session")
def extractor():
    """Return a function that creates an extractor; equal calls return the same one."""
    return functools.cache(lambda model, **config: SSLExtractor(SSLConfig(model=model, **config)))


@pytest.fixture(scope="session")
def signal(speech_like):
    def make(num_samples, seed=0):
        return Signal(samples=speech_like(num_samples, pitch=100 + 10 * seed, seed=seed), sampling_rate=16000)

    return make


@pytest.fixture(scope="session")
def signals(signal):
    return [signal(length, seed) for seed, length in enumerate(LENGTHS)]
