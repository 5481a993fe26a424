"""Views in a fit: training parts only, unless a view is requested as a test condition."""

import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import yaml

import featcache
from featcache.cache.reader import FeatureCache, FeatureStore
from featcache.errors import FeatcacheError
from featcache.fitting import job, trainings
from featcache.fitting.fit import fit
from featcache.fitting.resolve import resolve
from featcache.normalise import fit_normaliser
from featcache.settings.checked import configured
from featcache.settings.fits import FitSettings
from featcache.training.batches import FeatureWindows
from featcache.training.solvers import SolverTraining

SSL = {"extractor": "ssl", "weights": "pretrained"}
EGEMAPS = {"extractor": "egemaps"}
QUICK = {"seeds": (1,), "max_epochs": 2, "learning_rate": 0.01}


def augmented(settings, text, number=1):
    return {**settings, "augment": [text], "view": number}


@pytest.fixture
def cache(make_cache, write_store, quick_reports):
    """Return a cache with two stores, a view with the clean values, and a view of other values and lengths."""
    folder, rng = make_cache(stores={"ssl": {}, "egemaps": {"kind": "egemaps"}}), np.random.default_rng(3)
    for name, kind, settings in (("ssl", "ssl", SSL), ("egemaps", "egemaps", EGEMAPS)):
        clean = FeatureStore(folder / name)
        same = {i: clean[i] for i in clean}
        other = {i: np.tile(clean[i], (1, 2, 1)) + rng.normal(2, 1, (1, 1, 4)).astype(np.float32) for i in clean}
        write_store(folder / f"{name}@same-1", same, kind=kind, settings=augmented(settings, "noise:inf"))
        write_store(folder / f"{name}@loud-1", other, kind=kind, settings=augmented(settings, "noise:0"))
    return folder


def resolved(cache, **options):
    return resolve(FeatureCache(cache), configured(FitSettings, {"features": "ssl", **QUICK, **options}))


def tables(run):
    return [run.predictions.drop(columns="view", errors="ignore"), run.validation_predictions, run.history]


def assert_same_results(one, other):
    for mine, theirs in zip(tables(one), tables(other), strict=True):
        pd.testing.assert_frame_equal(mine, theirs)


@pytest.mark.parametrize("norm", ["speaker", "global"])
def test_views_are_in_training_parts_only(cache, norm):
    setup = resolved(cache, train_views="all", norm=norm)
    clean = resolved(cache, norm=norm)
    assert setup.views.train == ("loud-1", "same-1")
    assert setup.folds == clean.folds
    assert setup.manifest.utterance_ids == clean.manifest.utterance_ids
    for number, fold in enumerate(clean.folds, start=1):
        seen = setup.seen_fold(number)
        assert (seen.validation, seen.test) == (fold.validation, fold.test)
        assert seen.train[: len(fold.train)] == fold.train
        assert sorted(map(setup.views.original, seen.train)) == sorted(3 * fold.train)
        held_out = {*fold.validation, *fold.test}
        assert not held_out & set(map(setup.views.original, seen.train))
    for fold in (1, None) if norm == "speaker" else (1, 2):  # the statistics are those of the clean speech
        with_views, without = (job.fit_normalisers(one, one.features, fold)[0] for one in (setup, clean))
        assert with_views.group_of == without.group_of
        for group, mean in without.mean_.items():
            np.testing.assert_array_equal(with_views.mean_[group], mean)
            np.testing.assert_array_equal(with_views.std_[group], without.std_[group])


def test_a_view_is_normalised_with_the_statistics_of_the_clean_speech(cache):
    setup = resolved(cache, train_views="loud-1")
    [normaliser] = job.fit_normalisers(setup, setup.features, None)
    id_of = {original: i for i, (_, original) in setup.views.originals.items()}
    features, store = setup.features[0], FeatureStore(cache / "ssl@loud-1")
    utterance_id = store.utterance_ids[0]
    number = features.num_frames(id_of[utterance_id])
    assert number == len(store[utterance_id][0])
    found = features.read(id_of[utterance_id], number, features.of_layers(normaliser)).numpy()
    group = normaliser.group_of[utterance_id]
    expected = (store[utterance_id] - normaliser.mean_[group][:, None]) / normaliser.std_[group][:, None]
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("head", ["dense", "linear"])
def test_zero_strength_is_the_same_as_giving_each_utterance_twice(cache, monkeypatch, head):
    with_view = fit(features="ssl", head=head, train_views="same-1", **QUICK)
    plain = trainings.new_training

    def twice(*arguments):
        one = plain(*arguments)
        one.fold = replace(one.fold, train=(*one.fold.train, *one.fold.train))
        return one

    monkeypatch.setattr(trainings, "new_training", twice)
    assert_same_results(with_view, fit(features="ssl", head=head, name="twice", **QUICK))


def test_solvers_learn_from_views(cache, monkeypatch):
    learned = {}
    plain = SolverTraining.end_epoch

    def watched(training):
        learned[training.fold.name] = set(training._vectors) & set(training.fold.train)
        plain(training)

    monkeypatch.setattr(SolverTraining, "end_epoch", watched)
    run = fit(features="ssl", head="svm", layers="last", train_views="loud-1", test_view="same-1")
    for fold in resolved(cache).folds:
        assert len(learned[fold.name]) == 2 * len(fold.train)
    assert len(run.predictions) == 16


def test_a_view_as_test_condition_with_the_clean_values_gives_the_clean_results(cache):
    for options in ({"norm": "speaker"}, {"norm": "global", "head": "linear"}):
        clean = fit(features="ssl", **QUICK, **options)
        tested = fit(features="ssl", test_view="same-1", **QUICK, **options)
        assert_same_results(clean, tested)
        assert clean.path != tested.path
        assert "view" not in clean.predictions
        assert "test_view" not in clean.metrics
        assert set(tested.predictions["view"]) == {"same-1"}
        assert "view" not in tested.validation_predictions
        assert tested.metrics["test_view"] == tested.config["test_view"] == "same-1"
        assert "are from the view same-1" in (tested.path / "report.html").read_text()


def test_only_test_utterances_are_read_from_the_test_view(cache):
    clean, noisy = fit(features="ssl", **QUICK), fit(features="ssl", test_view="loud-1", **QUICK)
    for mine, theirs in zip(tables(clean)[1:], tables(noisy)[1:], strict=True):
        pd.testing.assert_frame_equal(mine, theirs)
    assert not np.allclose(clean.predictions["p_joy"], noisy.predictions["p_joy"])
    assert list(clean.predictions["utterance_id"]) == list(noisy.predictions["utterance_id"])
    setup = resolved(cache, test_view="loud-1")
    store, manifest = FeatureStore(cache / "ssl@loud-1"), FeatureCache(cache).manifest
    own = fit_normaliser(store, "speaker", manifest, ())
    seen = setup.seen_fold(1).test[0]
    utterance_id = setup.views.original(seen)
    features = setup.features[0]
    number = features.num_frames(seen)
    clean_statistics = job.fit_normalisers(setup, setup.features, None)[0]
    found = features.read(seen, number, features.of_layers(clean_statistics)).numpy()
    np.testing.assert_array_equal(found, own.normalise_(utterance_id, store[utterance_id].copy()))


@pytest.mark.parametrize("options", [{"train_views": "all"}, {"train_views": "loud-1", "test_view": "loud-1"}])
def test_windows_read_each_utterance_of_a_view_once_and_fusion_takes_the_same_view(cache, options):
    setup = resolved(cache, features="ssl,egemaps", head="fusion", **options)
    [whole] = job.plan_copies([setup], job.Memory(), 1, 1, "cpu")
    normalisers = job.fit_normalisers(setup, setup.features, None)
    read = {}
    for room in (None, 2.0**12):
        windows = FeatureWindows(setup.features, normalisers, replace(whole, room=room), workers=2)
        windows.load(setup.loaded_ids)
        found = {}
        for window in windows.windows(setup.loaded_ids, epoch=1):
            assert not found.keys() & window.utterances.keys()
            found |= window.utterances
        assert sorted(found) == sorted(setup.loaded_ids)
        read[room] = found
    for utterance_id, of_stores in read[None].items():
        ssl, egemaps = (one.unpack() for one in of_stores)
        assert ssl.shape[1] == egemaps.shape[1]
        for one, other in zip(of_stores, read[2.0**12][utterance_id], strict=True):
            np.testing.assert_array_equal(one.unpack(), other.unpack())


def test_a_training_with_views_is_the_same_alone_together_and_in_other_processes(cache):
    alone = fit(features="ssl", train_views="all", **{**QUICK, "seeds": (2,)})
    together = fit(features="ssl", train_views="all", **{**QUICK, "seeds": (1, 2)})
    mine = together.predictions.query("seed == 2").reset_index(drop=True)
    pd.testing.assert_frame_equal(mine, alone.predictions)


def test_other_processes_find_the_same_views(cache):
    setup = resolved(cache, train_views="all", test_view="loud-1")
    [elsewhere] = job.FitJob(
        cache=cache, requests=[setup.request], paths=[cache], device="cpu", parts=({},)
    ).resolved_elsewhere()
    assert elsewhere.config == setup.config
    assert [elsewhere.seen_fold(number) for number in (1, 2)] == [setup.seen_fold(number) for number in (1, 2)]


def test_views_identify_a_run_and_are_used_again_by_config(cache):
    run = fit(features="ssl", train_views=["ssl@same-1"], test_view="loud-1", **QUICK)
    config = yaml.safe_load((run.path / "config.yaml").read_text())
    assert config["train_views"] == ["same-1"]
    stores = featcache.open(cache)
    views = ("ssl@same-1", "ssl@loud-1")
    assert config["view_stores_sha256"] == {name: stores[name].identity.fingerprint for name in views}
    assert list(config["features"]) == list(config["store_settings"]) == ["ssl"]
    assert fit(config=run.path).path == run.path
    assert fit(features="ssl", train_views="same-1", test_view="loud-1", **QUICK).path == run.path
    plain = fit(features="ssl", **QUICK)
    assert not {"train_views", "test_view", "views_sha256", "view_stores_sha256"} & plain.config.keys()
    head = run.head(seed=1, fold=1)  # heads take clean features of the same store
    assert head.inputs[0].store == "ssl"


def test_missing_utterances_of_a_view_are_told(cache, write_store):
    clean = FeatureStore(cache / "ssl")
    some = {i: clean[i] for i in clean.utterance_ids[2:]}
    write_store(cache / "ssl@part-1", some, settings=augmented(SSL, "noise:3"))
    setup = resolved(cache, train_views="part-1")
    assert any("view part-1 has 14 of 16 training utterances" in warning for warning in setup.warnings)
    assert len(setup.views.originals) == 14
    with pytest.raises(FeatcacheError, match="lacks 2 of 16 test utterances"):
        resolved(cache, test_view="part-1")


def test_views_are_never_the_default_features(cache):
    shutil.rmtree(cache / "egemaps")
    assert [one.store.name for one in resolved(cache, features=()).features] == ["ssl"]


def other_model(cache, write_store):
    clean = FeatureStore(cache / "ssl")
    settings = {**augmented(SSL, "noise:3"), "model_id": "another"}
    write_store(cache / "ssl@other-1", {i: clean[i] for i in clean}, settings=settings)


def no_view(cache, write_store):
    shutil.copytree(cache / "ssl", cache / "ssl@other-1")


def unfinished(cache, write_store):
    clean = FeatureStore(cache / "ssl")
    features = {i: clean[i] for i in clean}
    write_store(cache / "ssl@other-1", features, settings=augmented(SSL, "noise:3"), complete=False)


def other_audio(cache, write_store):
    clean = FeatureStore(cache / "ssl")
    recordings = {i: {"audio_sha256": "f" * 64} for i in clean}
    settings = augmented(SSL, "noise:3")
    write_store(cache / "ssl@other-1", {i: clean[i] for i in clean}, settings=settings, recordings=recordings)


def other_augmentation(cache, write_store):
    for name, kind, settings, text in (("ssl", "ssl", SSL, "noise:3"), ("egemaps", "egemaps", EGEMAPS, "noise:4")):
        clean = FeatureStore(cache / name)
        features = {i: clean[i] for i in clean}
        write_store(cache / f"{name}@other-1", features, kind=kind, settings=augmented(settings, text))


@pytest.mark.parametrize(
    ("prepare", "options", "message"),
    [
        (None, {"train_views": "lout-1"}, "no view of ssl 'lout-1'; did you mean 'loud-1'"),
        (None, {"test_view": "x"}, "no view of ssl 'x'; available: loud-1, same-1"),
        (None, {"test_view": "loud-1", "final": True}, "--test-view loud-1: --final has no test part"),
        (None, {"features": "ssl@same-1", "train_views": "ssl@same-1"}, "no view of ssl@same-1"),
        (other_model, {"train_views": "other-1"}, "other settings than ssl .model_id differ"),
        (no_view, {"train_views": "other-1"}, "contains no augmented speech"),
        (unfinished, {"train_views": "other-1"}, "is not finished"),
        (other_audio, {"train_views": "other-1"}, "made from other audio than ssl in 16 of 16"),
        (no_view, {"features": "egemaps,ssl", "head": "fusion", "train_views": "other-1"}, "no view of egemaps"),
        (
            other_augmentation,
            {"features": "ssl,egemaps", "head": "fusion", "train_views": "other-1"},
            "ssl@other-1 and egemaps@other-1 have other augmentations",
        ),
    ],
)
def test_views_that_do_not_fit_are_refused_before_training(cache, write_store, prepare, options, message):
    if prepare:
        prepare(cache, write_store)
    with pytest.raises(FeatcacheError, match=message) as error:
        resolved(cache, **options)
    assert "\n" not in str(error.value)
