"""Fixtures of this folder."""

import pytest

from featcache.fitting import job
from featcache.fitting.fit import fit
from featcache.runs.file_names import METRICS
from featcache.runs.writer import write_json
from tests.fitting.checks.checked_caches import QUICK


@pytest.fixture
def resolved(monkeypatch):
    """Return a function that resolves a fit without training."""
    monkeypatch.setattr(job.FitJob, "train", lambda *_: (_ for _ in ()))
    monkeypatch.setattr(job, "write_results", lambda run, setup: write_json(run.folder / METRICS, {}))
    return lambda **options: fit(**{**QUICK, **options})


@pytest.fixture(autouse=True)
def _quick(quick_reports, monkeypatch):
    monkeypatch.setenv("COLUMNS", "250")
