"""Fixtures of this folder."""

import pytest

from featcache.fitting import job
from featcache.fitting.fit import fit
from featcache.runs.file_names import METRICS
from featcache.runs.writer import write_json


@pytest.fixture
def train(quick_reports):
    """Return a function that fits, by default with two seeds and two epochs."""

    def run(**options):
        return fit(**{"seeds": (1, 2), "max_epochs": 2, "learning_rate": 0.01, **options})

    return run


@pytest.fixture
def resolve(train, monkeypatch):
    """Return a function that resolves a fit without training."""
    monkeypatch.setattr(job.FitJob, "train", lambda *_: (_ for _ in ()))
    monkeypatch.setattr(job, "write_results", lambda run, setup: write_json(run.folder / METRICS, {}))
    return train
