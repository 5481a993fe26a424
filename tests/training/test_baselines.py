"""Linear heads, SVMs, pooled features and scalar statistics agree with scikit-learn and plain sums."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
from sklearn.svm import LinearSVC

import featcache
from featcache.errors import FeatcacheError
from featcache.heads import create_head
from featcache.heads.base import POOLINGS
from featcache.normalise import fit_normaliser
from featcache.protocols import make_folds
from featcache.training import solvers
from featcache.training.solvers import LOGISTIC_COSTS, SVM_COSTS
from featcache.training.store_features import StoreFeatures

# Tolerance of float32 sums over a few frames, from statistics or from the frames.
SUMS = 1e-5
SHORT = {"max_epochs": 3}


def pooled_by_hand(frames, pooling):
    return np.concatenate([getattr(np, kind)(frames, axis=1, keepdims=True) for kind in pooling.split("+")], axis=2)


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("norm", ["speaker", "global", "none"])
def test_pooling_statistics_is_pooling_normalised_frames(make_cache, pooling, norm):
    cache = featcache.open(make_cache())
    store = cache["ssl"]
    fold = make_folds("loso", cache.manifest, "emotion")[0]
    normaliser = fit_normaliser(store, norm, cache.manifest, fold.train)
    whole = StoreFeatures(store, layers="0,2", max_frames=None)
    pooled = StoreFeatures(store, layers="0,2", max_frames=None, pooling=pooling)
    for utterance_id in store:
        assert pooled.num_frames(utterance_id) == 1
        frames = whole.read(utterance_id, whole.num_frames(utterance_id), whole.of_layers(normaliser)).numpy()
        found = pooled.read(utterance_id, 1, pooled.of_layers(normaliser)).numpy()
        assert found.shape == (2, 1, pooled.frame_size)
        np.testing.assert_allclose(found, pooled_by_hand(frames, pooling), rtol=SUMS, atol=10 * SUMS)


def test_a_linear_head_sees_no_difference_between_frames_and_their_mean(rng):
    head = create_head("linear", num_layers=[3], hidden_sizes=[5], num_outputs=4, seed=1)
    frames = [torch.from_numpy(rng.normal(size=(3, length, 5)).astype("f4")) for length in (1, 4, 7)]
    means = [layers.mean(dim=1, keepdim=True) for layers in frames]
    torch.testing.assert_close(head([frames]), head([means]), rtol=SUMS, atol=SUMS)


def test_a_linear_head_is_fitted_alike_on_frames_of_one_and_pooled(make_cache):
    make_cache()
    run = featcache.fit(head="linear", layer_weighting="softmax", seeds=[1, 2], **SHORT)
    assert run.config["pooling"] == "mean"
    assert set(run.layer_weights["layer"]) == {"0", "1", "2"}


def expected_predictions(cache, norm, estimator, costs):
    """Choose C by scikit-learn for each fold, on means of frames that are normalised here: two speakers train."""
    store, manifest = cache["ssl"], cache.manifest
    labels, speakers = manifest.labels("emotion"), {u.utterance_id: u.speaker_id for u in manifest}
    held_out, tested = {}, {}
    for fold in make_folds("loso", manifest, "emotion"):
        normaliser = fit_normaliser(store, norm, manifest, fold.train)
        vectors = {i: normaliser.normalise_(i, store[i])[2].mean(axis=0).astype("f8") for i in store}
        known = [*fold.train, *fold.validation]
        X, y, groups = ([one[i] for i in known] for one in (vectors, labels, speakers))
        split = {"cv": list(StratifiedGroupKFold(len(set(groups))).split(X, y, groups))}
        tried = [cross_val_predict(estimator.set_params(C=cost), X, y, **split) for cost in costs]
        best = int(np.argmax([balanced_accuracy_score(y, one) for one in tried]))
        held_out |= {(fold.name, i): p for i, p in zip(known, tried[best], strict=True) if i in fold.validation}
        predictions = estimator.set_params(C=costs[best]).fit(X, y).predict([vectors[i] for i in fold.test])
        tested |= dict(zip(fold.test, predictions, strict=True))
    return held_out, tested


@pytest.mark.parametrize(
    ("head", "norm", "estimator", "costs"),
    [
        ("svm", "speaker", LinearSVC(dual="auto", random_state=1, max_iter=10_000), SVM_COSTS),
        ("svm", "global", LinearSVC(dual="auto", random_state=1, max_iter=10_000), SVM_COSTS),
        ("logistic", "global", LogisticRegression(tol=1e-6, max_iter=10_000), LOGISTIC_COSTS),
    ],
)
def test_a_solver_is_scikit_learns_with_c_from_a_cross_validation_over_speakers(
    make_cache, quick_reports, head, norm, estimator, costs
):
    cache = featcache.open(make_cache())
    run = featcache.fit(head=head, layers="last", norm=norm, seeds=[1, 2])
    assert run.config["seeds"] == [1]
    held_out, tested = expected_predictions(cache, norm, estimator, costs)
    assert dict(run.predictions[["utterance_id", "prediction"]].to_numpy()) == tested
    names = {fold["fold"]: fold["name"] for fold in run.config["folds"]}
    table = run.validation_predictions
    rows = zip(table["fold"].map(names), table["utterance_id"], table["prediction"], strict=True)
    assert {(fold, i): prediction for fold, i, prediction in rows} == held_out
    shares = run.predictions.filter(like="p_").to_numpy()
    np.testing.assert_allclose(shares.sum(axis=1), 1, atol=SUMS)


def test_a_support_vector_machine_takes_functionals_as_they_are(make_cache):
    make_cache(stores={"functionals": {"kind": "functionals"}})
    run = featcache.fit(head="svm", features=["functionals"], seeds=[1])
    assert run.config["pooling"] is None


def test_scalar_statistics_are_those_of_all_dimensions_together(make_cache):
    cache = featcache.open(make_cache())
    normaliser = fit_normaliser(cache["ssl"], "speaker", cache.manifest, (), scalar=True)
    for speaker in cache.manifest.speaker_ids:
        ids = [u.utterance_id for u in cache.manifest if u.speaker_id == speaker]
        frames = np.concatenate([cache["ssl"][i].astype("f8") for i in ids], axis=1)
        for found, expected in (
            (normaliser.mean_[speaker], frames.mean(axis=(1, 2))),
            (normaliser.std_[speaker], frames.std(axis=(1, 2))),
        ):
            np.testing.assert_allclose(found, np.broadcast_to(expected[:, None], found.shape), rtol=SUMS, atol=SUMS)
    run = featcache.fit(scalar_norm=True, seeds=[1], **SHORT)
    assert run.config["scalar_norm"] is True


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"head": "svm"}, "svm needs a single layer: add --layers last"),
        (
            {"head": "linear", "pooling": "median"},
            "^--pooling takes mean, sum, max or mean\\+max, got 'median'; did you mean 'mean'",
        ),
        ({"features": ["functionals"], "pooling": "mean"}, "functionals has no frames to pool"),
        (
            {"features": ["ssl", "egemaps"], "head": "linear"},
            "takes one feature store, found 2; use 'fusion', ",
        ),
    ],
)
def test_what_cannot_be_is_said_in_one_line(make_cache, options, message):
    make_cache(stores={"ssl": {}, "egemaps": {"kind": "egemaps"}, "functionals": {"kind": "functionals"}})
    with pytest.raises(FeatcacheError, match=message):
        featcache.fit(**{"features": ["ssl"], **options})


@pytest.mark.parametrize("limit", [1, 10_000])
def test_machines_that_do_not_converge_are_told_once(make_cache, quick_reports, monkeypatch, caplog, limit):
    make_cache()
    monkeypatch.setattr(solvers, "MAX_ITERATIONS", limit)
    monkeypatch.setattr("featcache.fitting.convergence.MAX_ITERATIONS", limit)
    run = featcache.fit(head="svm", layers="last", protocol="loso", seeds=[1, 2])
    told = [message for message in caplog.messages if "heads have not converged" in message]
    assert len(told) == (limit == 1)
    assert ("have not converged: the solver stopped" in (run.path / "report.html").read_text(encoding="utf-8")) == (
        limit == 1
    )
