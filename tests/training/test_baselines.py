"""Linear heads, SVMs, pooled features and scalar statistics agree with scikit-learn and plain sums."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from sklearn.metrics import balanced_accuracy_score
from sklearn.svm import LinearSVC

import featcache
from featcache.errors import FeatcacheError
from featcache.heads import create_head
from featcache.heads.base import POOLINGS
from featcache.normalise import fit_normaliser
from featcache.protocols import make_folds
from featcache.training import svm
from featcache.training.store_features import StoreFeatures
from featcache.training.svm import COSTS

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


def expected_svm(cache, norm):
    """Fit one SVM per fold and C with scikit-learn, on means of frames that are normalised here."""
    store, manifest = cache["ssl"], cache.manifest
    labels = manifest.labels("emotion")
    predictions = {}
    for fold in make_folds("loso", manifest, "emotion"):
        normaliser = fit_normaliser(store, norm, manifest, fold.train)
        vectors = {i: normaliser.normalise_(i, store[i])[2].mean(axis=0) for i in store}

        def part(ids, vectors=vectors):
            return np.stack([vectors[i] for i in ids]), [labels[i] for i in ids]

        machines = [LinearSVC(C=cost, random_state=1, max_iter=10_000).fit(*part(fold.train)) for cost in COSTS]
        unseen, expected = part(fold.validation)
        scores = [balanced_accuracy_score(expected, machine.predict(unseen)) for machine in machines]
        best = machines[int(np.argmax(scores))]
        predictions |= dict(zip(fold.test, best.predict(part(fold.test)[0]), strict=True))
    return predictions


@pytest.mark.parametrize("norm", ["speaker", "global"])
def test_a_support_vector_machine_is_scikit_learns_with_c_chosen_on_validation(make_cache, norm):
    cache = featcache.open(make_cache())
    run = featcache.fit(head="svm", layers="last", norm=norm, seeds=[1, 2])
    assert run.config["seeds"] == [1]
    found = dict(run.predictions[["utterance_id", "prediction"]].to_numpy())
    assert found == expected_svm(cache, norm)
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
    monkeypatch.setattr(svm, "MAX_ITERATIONS", limit)
    monkeypatch.setattr("featcache.fitting.convergence.MAX_ITERATIONS", limit)
    run = featcache.fit(head="svm", layers="last", protocol="loso", seeds=[1, 2])
    told = [message for message in caplog.messages if "support vector machines" in message]
    assert len(told) == (limit == 1)
    assert ("did not converge: the solver stopped" in (run.path / "report.html").read_text(encoding="utf-8")) == (
        limit == 1
    )


@pytest.mark.parametrize("kind", [svm.SVCTraining, svm.SVRTraining])
def test_machines_that_do_not_converge_are_the_same_in_any_thread(kind, rng, monkeypatch):
    monkeypatch.setattr(svm, "MAX_ITERATIONS", 300)
    scales = np.logspace(0, 3, 40)
    known, unseen = rng.normal(size=(24, 40)) * scales, rng.normal(size=(8, 40)) * scales
    learned, expected = rng.integers(0, 4, 24), rng.integers(0, 4, 8)
    if kind is svm.SVRTraining:
        learned, expected = learned[:, None] / 1.0, expected[:, None] / 1.0

    def coefficients(_):
        training = object.__new__(kind)
        training.seed, training._num_outputs = 1, 1
        training._fit(known, learned, unseen, expected)
        best = training._best if isinstance(training._best, list) else [training._best]
        return b"".join(machine.coef_.tobytes() for machine in best)

    alone = coefficients(None)
    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(coefficients, range(12))) == {alone}
