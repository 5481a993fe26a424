"""The demo, on a smaller corpus and with shorter trainings, keeps its promises."""

import logging
import re
from functools import partial
from pathlib import Path

import pytest

from featcache import demo
from featcache.cache.reader import open_cache
from featcache.training import fit
from featcache.training.run_folder import Run

CORPUS = {"num_speakers": 3, "emotions": ("anger", "sadness"), "repetitions": 1}
MODEL = {**demo.TINY_WAV2VEC2, "num_hidden_layers": 2, "hidden_size": 16, "intermediate_size": 16, "conv_dim": [8] * 7}


@pytest.fixture
def run_demo(monkeypatch, capsys, quick_reports):
    """Run the reduced demo; returns what it prints."""
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setattr(demo, "make_corpus", lambda folder, **_: make_corpus(folder, **CORPUS))
    monkeypatch.setattr(demo, "TINY_WAV2VEC2", MODEL)
    monkeypatch.setattr(demo, "TRAINING", {"learning_rate": 3e-3, "max_epochs": 1})
    monkeypatch.setattr(demo, "fit", partial(fit.fit, seeds=(1, 2)))
    make_corpus = demo.make_corpus.__globals__["demo"].__dict__["make_corpus"]

    def run(folder):
        demo.run_demo(folder)
        return capsys.readouterr().out

    return run
