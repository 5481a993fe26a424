"""Fits on text stores: tokens are frames, which may be pooled, but are not steps in time."""

import os

import numpy as np
import pytest

from featcache.cache.reader import FeatureCache
from featcache.errors import ModelError, StoreError
from featcache.fitting.common_options import options_for
from featcache.fitting.fit import fit
from featcache.fitting.resolve import resolve
from featcache.settings.fits import FitSettings

WORDS = {"kind": "text"}
QUICK = {"seeds": [1], "max_epochs": 2, "learning_rate": 1e-2, "protocol": "group-kfold"}


@pytest.fixture
def cache(make_cache, quick_reports):
    def make(**stores):
        return FeatureCache(make_cache(stores=stores or {"words": WORDS}))

    return make


@pytest.mark.parametrize("head", ["dense", "lstm", "linear", "svm"])
def test_heads_train_on_words_alone(cache, head):
    cache()
    run = fit(head=head, features=["words"], layers="last", **options_for(head, QUICK))
    assert 0 <= run.metrics["uar"]["mean"] <= 100
    assert run.config["pooling"] == ("mean" if head in ("linear", "svm") else None)
    assert run.config["layers"] == "last"


def test_pooled_words_are_the_means_of_their_tokens(cache):
    words = cache()
    [features] = resolve(words, FitSettings(head="linear", features=("words",), seeds=(1,), norm="none")).features
    store = words["words"]
    for utterance_id in store:
        [pooled] = store.pooled("mean", [utterance_id])
        np.testing.assert_allclose(pooled, store[utterance_id].mean(axis=1), rtol=1e-5, atol=1e-6)
        assert features.num_frames(utterance_id) == 1


def test_all_tokens_count(cache):
    """The maximum of 250 frames means frames of 20 ms, that is 5 s; it does not apply to tokens."""
    words = cache()
    assert resolve(words, FitSettings(features=("words",), seeds=(1,))).config["max_frames"] == 0
    setup = resolve(words, FitSettings(features=("words",), seeds=(1,), max_frames=2))
    counts = [setup.features[0].num_frames(utterance_id) for utterance_id in words["words"]]
    assert counts == words["words"].num_frames(list(words["words"])).tolist()
    assert max(counts) > 2
    assert setup.features[0].max_frames is None


def test_words_and_sounds_are_fused_when_pooled(cache):
    cache(ssl={}, words=WORDS)
    run = fit(head="fusion", features=["ssl", "words"], pooling="mean", **QUICK)
    assert run.config["pooling"] == "mean"
    run = fit(head="fusion", features=["words", "ssl"], pooling="max", **QUICK)
    assert run.config["pooling"] == "max"


@pytest.mark.parametrize("stores", [{"ssl": {}, "words": WORDS}, {"words": WORDS, "other": WORDS}])
def test_tokens_are_never_paired_one_by_one(cache, stores):
    setup = resolve(cache(**stores), FitSettings(head="fusion", features=tuple(stores), seeds=(1,)))
    assert setup.config["fused"] == "pooled"


def test_the_model_of_speech_is_the_one_that_is_meant(cache):
    words = cache(ssl={}, words=WORDS, egemaps={"kind": "egemaps"})
    assert list(resolve(words, FitSettings(seeds=(1,))).config["features"]) == ["ssl"]
    assert list(resolve(words, FitSettings(head="fusion", seeds=(1,))).config["features"]) == ["ssl", "egemaps"]


def test_words_are_meant_where_there_is_nothing_else(cache):
    assert list(resolve(cache(), FitSettings(seeds=(1,))).config["features"]) == ["words"]
    os.rename(os.path.join(os.environ["FEATCACHE_HOME"], "cache"), os.path.join(os.environ["FEATCACHE_HOME"], "gone"))
    with pytest.raises(StoreError, match="several models: other, words; choose one with --features"):
        resolve(cache(words=WORDS, other=WORDS), FitSettings(seeds=(1,)))


def test_functionals_still_have_no_frames(cache):
    functionals = cache(functionals={"kind": "functionals"})
    with pytest.raises(ModelError, match="functionals has no frames to pool"):
        resolve(functionals, FitSettings(head="linear", features=("functionals",), seeds=(1,), pooling="mean"))
