"""Comparisons of stores of parts of a corpus."""

import numpy as np

from featcache.cache.reader import FeatureStore

NUM_PARTS = 3


def contents(*folders):
    return {
        path: (path.stat().st_mtime_ns, path.read_bytes())
        for folder in folders
        for path in folder.rglob("*")
        if path.is_file()
    }


def check_equal(folder, expected):
    """Check that features, statistics and the rows of all utterances are bit-identical."""
    store, whole = FeatureStore(folder), FeatureStore(expected)
    assert set(store) == set(whole)
    assert store.metadata["fingerprint"] == whole.metadata["fingerprint"]
    for key in whole:
        np.testing.assert_array_equal(store.view(key), whole.view(key))
    ids = list(whole)
    for kind in ("mean", "std", "max"):
        np.testing.assert_array_equal(store.pooled(kind, ids), whole.pooled(kind, ids))
    assert store.audio_sha256(ids) == whole.audio_sha256(ids)
    return store
