"""A store of a pipeline may have views, which are extracted with it."""

import shutil

from featcache.cache.reader import FeatureStore


def test_views_are_made_once_with_their_store(home, run, write_pipeline, counted):
    path = write_pipeline(("egemaps: {model: egemaps}", "egemaps: {model: egemaps, augment: 'noise:10-20'}"))
    quick = {"seeds": 1, "max_epochs": 1}
    run(path, **quick)
    run(path, **quick)
    assert counted["extractions"] == ["egemaps"]
    cache = home / "cache" / "ravdess"
    assert FeatureStore(cache / "egemaps@noise10-20-1").utterance_ids == FeatureStore(cache / "egemaps").utterance_ids
    shutil.rmtree(cache / "egemaps@noise10-20-1")
    run(path, **quick)
    assert counted["extractions"] == ["egemaps", "egemaps"]
