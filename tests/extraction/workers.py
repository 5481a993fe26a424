"""Cluster of two worker processes, and comparisons of the stores that they write."""

import logging
from contextlib import contextmanager

import numpy as np
import pytest

from featcache.cache.reader import FeatureStore
from tests.forked import POSSIBLE, serve_imports

distributed = pytest.importorskip("distributed")


@contextmanager
def cluster(*, allowed_failures=1, n_workers=2):
    """Start worker processes, which are restarted when they die, and yield the address of the scheduler."""
    import dask

    if POSSIBLE:
        serve_imports()
    settings = {
        "distributed.scheduler.allowed-failures": allowed_failures,
        "distributed.worker.multiprocessing-method": "forkserver" if POSSIBLE else "spawn",
        "distributed.worker.profile.enabled": False,
    }
    options = {
        "n_workers": n_workers,
        "threads_per_worker": 1,
        "dashboard_address": ":0",
        "silence_logs": logging.CRITICAL,
    }
    with dask.config.set(settings), distributed.LocalCluster(processes=True, **options) as running:
        yield running.scheduler_address


def stores(home):
    return {folder.name: FeatureStore(folder) for folder in (home / "cache" / "speech").iterdir() if folder.is_dir()}


def check_equal(found, expected):
    """Check that features and statistics of all utterances are bit-identical, and in the same order."""
    assert found.keys() == expected.keys() == {"wav2vec2", "egemaps"}
    for name, store in found.items():
        assert store.utterance_ids == expected[name].utterance_ids
        check_equal_store(store, expected[name])


def check_equal_store(store, whole):
    assert set(store) == set(whole)
    assert store.metadata["fingerprint"] == whole.metadata["fingerprint"]
    for utterance_id in store:
        np.testing.assert_array_equal(store.view(utterance_id), whole.view(utterance_id))
    for kind in ("mean", "std", "max"):
        np.testing.assert_array_equal(store.pooled(kind, whole.utterance_ids), whole.pooled(kind))
