"""Heads that a solver fits: C, out-of-fold predictions and final models agree with plain scikit-learn."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import GridSearchCV, GroupKFold, StratifiedGroupKFold, cross_val_predict
from sklearn.svm import LinearSVC, LinearSVR

from featcache.heads.packed import pack
from featcache.protocols import Fold
from featcache.training import solvers
from featcache.training.batches import LoadedUtterances
from featcache.training.solvers import (
    LOGISTIC_COSTS,
    SVM_COSTS,
    LogisticTraining,
    SVCTraining,
    SVRTraining,
)
from featcache.training.splits import NUM_SPLITS, speaker_splits

# Both solvers of the logistic regression stop before the exact minimum, at gradients of at most 1e-6 and 1e-10.
PROBABILITIES = 1e-5
# The solver of the SVM stops where the gradient is 1e-4 of the first one: probabilities differ in the fourth digit.
MARGINS = 1e-3
# Tolerance of float64 sums in another order: predictions of one utterance, and of all together.
SUMS = 1e-10

CLASSIFIERS = [
    (SVCTraining, LinearSVC(dual="auto", random_state=1, max_iter=10_000), SVM_COSTS),
    (LogisticTraining, LogisticRegression(solver="newton-cholesky", tol=1e-10), LOGISTIC_COSTS),
]


@pytest.fixture
def corpus(rng):
    """Six speakers with eight utterances of four classes each: features, classes and speakers."""
    y = np.tile(np.arange(4), 12)
    speakers = np.repeat(list("abcdef"), 8)
    centres = rng.normal(size=(4, 7))
    X = (centres[y] + rng.normal(size=(6, 7))[np.repeat(range(6), 8)] + rng.normal(size=(48, 7))).astype("f4")
    return X, y, speakers


def trained(kind, X, y, speakers, *, validation="d", test="ef", seed=1, **options):
    """Train a head: some speakers validate and test, all others train; utterance ids are positions."""
    ids = [str(i) for i in range(len(y))]
    part = {
        name: tuple(i for i in ids if wanted(speakers[int(i)]))
        for name, wanted in {
            "train": lambda one: one not in validation + test,
            "validation": lambda one: one in validation,
            "test": lambda one: one in test,
        }.items()
    }
    targets = {i: y[int(i)].tolist() for i in ids}
    number = int(y.max()) + 1 if y.ndim == 1 else y.shape[1]
    of = dict(zip(ids, speakers.tolist(), strict=True))
    training = kind(seed, Fold(name="1", **part), targets, number, [slice(0, 1)], speakers=of, **options)
    window = LoadedUtterances(
        utterances={i: (pack(torch.from_numpy(X[int(i)])[None, None], torch.float32),) for i in ids}
    )
    for step in (training.learn, training.validate):
        step(window)
    training.end_epoch()
    training.predict(window)
    assert training.finished
    return training, {name: np.array([int(i) for i in ids], int) for name, ids in part.items()}


def predicted(training, positions):
    return np.array([training.predictions[str(i)] for i in positions])


@pytest.mark.parametrize(("kind", "estimator", "costs"), CLASSIFIERS, ids=["svm", "logistic"])
def test_a_plain_grid_search_gives_the_same_c_and_the_same_predictions(corpus, kind, estimator, costs):
    X, y, speakers = corpus
    training, parts = trained(kind, X, y, speakers, validation="de", test="f")
    known = np.concatenate([parts["train"], parts["validation"]])
    splits = list(StratifiedGroupKFold(NUM_SPLITS).split(X[known], y[known], speakers[known]))
    # All speakers have the same classes, so that the mean of the UARs of the splits is the UAR of all utterances.
    search = GridSearchCV(estimator, {"C": costs}, scoring="balanced_accuracy", cv=splits)
    search.fit(X[known].astype("f8"), y[known])
    assert training.costs == [search.best_params_["C"]]
    assert training.history[0].validation_score == pytest.approx(search.best_score_)
    out_of_fold = cross_val_predict(search.best_estimator_, X[known].astype("f8"), y[known], cv=splits)
    found = predicted(training, parts["validation"])
    assert (found.argmax(axis=1) == out_of_fold[len(parts["train"]) :]).all()
    of_test = predicted(training, parts["test"])
    assert (of_test.argmax(axis=1) == search.predict(X[parts["test"]])).all()
    if kind is LogisticTraining:
        np.testing.assert_allclose(of_test, search.predict_proba(X[parts["test"]]), atol=PROBABILITIES)
        shares = cross_val_predict(
            search.best_estimator_, X[known].astype("f8"), y[known], cv=splits, method="predict_proba"
        )
        np.testing.assert_allclose(found, shares[len(parts["train"]) :], atol=PROBABILITIES)


def test_each_dimension_of_a_regression_has_its_own_c(corpus, rng):
    X, _, speakers = corpus
    y = np.stack([X[:, 0] + rng.normal(size=48), rng.normal(size=48)], axis=1)
    training, parts = trained(SVRTraining, X, y, speakers)
    known = np.concatenate([parts["train"], parts["validation"]])
    splits = list(GroupKFold(4).split(known, groups=speakers[known]))
    for dimension in range(2):
        machine = LinearSVR(loss="squared_epsilon_insensitive", dual="auto", random_state=1, max_iter=10_000)
        data = X[known].astype("f8"), y[known, dimension]
        tried = [cross_val_predict(machine.set_params(C=cost), *data, cv=splits) for cost in SVM_COSTS]
        best = int(np.argmax([plain_ccc(one, data[1]) for one in tried]))
        assert training.costs[dimension] == SVM_COSTS[best]
        held_out = predicted(training, parts["validation"])[:, dimension]
        np.testing.assert_allclose(held_out, tried[best][len(parts["train"]) :], rtol=SUMS)
        expected = machine.set_params(C=SVM_COSTS[best]).fit(*data).predict(X[parts["test"]].astype("f8"))
        np.testing.assert_allclose(predicted(training, parts["test"])[:, dimension], expected, rtol=SUMS)


def plain_ccc(x, y):
    return 2 * np.cov(x, y, bias=True)[0, 1] / (x.var() + y.var() + (x.mean() - y.mean()) ** 2)


@pytest.mark.parametrize("kind", [SVCTraining, LogisticTraining])
def test_a_class_of_weight_2_is_the_same_as_each_of_its_utterances_twice(corpus, kind, monkeypatch):
    monkeypatch.setattr(kind, "grid", (0.1,))
    X, y, speakers = corpus
    weighted, parts = trained(kind, X, y, speakers, class_weights=[1, 2, 1, 1])
    more = np.concatenate([np.arange(48), np.flatnonzero(y == 1)])
    twice, _ = trained(kind, X[more], y[more], speakers[more])
    plain, _ = trained(kind, X, y, speakers)
    for part in ("validation", "test"):
        found, expected = predicted(weighted, parts[part]), predicted(twice, parts[part])
        np.testing.assert_allclose(found, expected, atol=PROBABILITIES if kind is LogisticTraining else MARGINS)
        assert abs(found - predicted(plain, parts[part])).max() > 10 * MARGINS


def test_class_weights_of_the_logistic_regression_are_those_of_scikit_learn(corpus):
    X, y, speakers = corpus
    training, parts = trained(LogisticTraining, X, y, speakers, class_weights=[1, 1, 2, 0.5])
    known = np.concatenate([parts["train"], parts["validation"]])
    estimator = LogisticRegression(
        C=training.costs[0], solver="newton-cholesky", tol=1e-10, class_weight={0: 1, 1: 1, 2: 2, 3: 0.5}
    )
    expected = estimator.fit(X[known].astype("f8"), y[known]).predict_proba(X[parts["test"]])
    np.testing.assert_allclose(predicted(training, parts["test"]), expected, atol=PROBABILITIES)


@pytest.mark.parametrize("kind", [SVCTraining, LogisticTraining])
@pytest.mark.parametrize(
    ("speakers", "classes"),
    [
        ("aaaabbbbcc", [0, 1, 2, 0, 0, 1, 2, 0, 1, 2]),  # two speakers train and validate
        ("aaaabbbbcc", [0, 0, 0, 0, 1, 1, 1, 1, 1, 2]),  # each of them has one class, and a third is tested only
        ("aaaabbbbcc", [0, 1, 0, 1, 2, 1, 0, 1, 1, 2]),  # a class with one utterance
        ("aa  bbbbcc", [0, 1, 2, 0, 0, 1, 2, 0, 1, 2]),  # some unknown speakers
    ],
)
def test_few_speakers_and_classes_that_a_speaker_lacks_are_predicted(rng, kind, speakers, classes):
    X, y = rng.normal(size=(10, 3)).astype("f4"), np.array(classes)
    training, parts = trained(kind, X, y, np.array(list(speakers)), validation="b", test="c")
    assert len(training.costs) == 1
    for part in ("validation", "test"):
        np.testing.assert_allclose(predicted(training, parts[part]).sum(axis=1), 1, atol=SUMS)
    seen = {*y[parts["train"]], *y[parts["validation"]]}
    for one in set(range(3)) - seen:
        assert (predicted(training, parts["test"])[:, one] == 0).all()


def test_splits_keep_speakers_apart_and_hold_out_each_utterance_once(rng):
    classes = rng.integers(0, 3, 60)
    for number in (2, 3, 5, 9):
        speakers = [str(one) for one in np.r_[np.arange(number), rng.integers(0, number, 60 - number)]]
        for labels in (classes, None):
            splits = speaker_splits(speakers, labels)
            assert len(splits) == min(number, NUM_SPLITS)
            assert sorted(np.concatenate([held_out for _, held_out in splits])) == list(range(60))
            for train, held_out in splits:
                assert len(train) + len(held_out) == 60
                assert not {speakers[i] for i in train} & {speakers[i] for i in held_out}


@pytest.mark.parametrize("speaker", ["", "a"])
@pytest.mark.parametrize("number", [2, 3, 40])
def test_utterances_of_a_single_speaker_are_split_on_their_own(speaker, number):
    for labels in (np.arange(number) % 3, None):
        splits = speaker_splits([speaker] * number, labels)
        assert len(splits) == min(number, NUM_SPLITS)
        assert sorted(np.concatenate([held_out for _, held_out in splits])) == list(range(number))


def test_utterances_that_only_train_do_not_count_for_the_choice(corpus):
    X, y, speakers = corpus
    views = np.flatnonzero(speakers < "d")
    X, y, speakers = (np.concatenate([values, values[views]]) for values in (X, y, speakers))
    X[48:] *= 100
    extra = [str(i) for i in range(48, len(y))]
    training, parts = trained(SVCTraining, X, y, speakers, only_trained=extra)
    known = np.concatenate([parts["train"], parts["validation"]])
    splits = list(StratifiedGroupKFold(4).split(X[known], y[known], speakers[known]))
    machine = LinearSVC(dual="auto", random_state=1, max_iter=10_000)
    scores = []
    for cost in SVM_COSTS:
        out_of_fold = cross_val_predict(machine.set_params(C=cost), X[known].astype("f8"), y[known], cv=splits)
        scores.append(balanced_accuracy_score(y[known][known < 48], out_of_fold[known < 48]))
    assert training.costs == [SVM_COSTS[int(np.argmax(scores))]]
    assert training.history[0].validation_score == pytest.approx(max(scores))


@pytest.mark.parametrize("kind", [SVCTraining, SVRTraining])
def test_solvers_that_do_not_converge_are_the_same_in_any_thread(kind, rng, monkeypatch):
    monkeypatch.setattr(solvers, "MAX_ITERATIONS", 300)
    monkeypatch.setattr(kind, "grid", (0.1, 1.0))
    X = (rng.normal(size=(32, 40)) * np.logspace(0, 3, 40)).astype("f4")
    y = rng.integers(0, 4, 32)
    speakers = np.repeat(list("abcd"), 8)

    def coefficients(_):
        training, _ = trained(kind, X, y if kind is SVCTraining else y[:, None] / 1.0, speakers, test="c")
        assert training.unconverged
        return training.state()["coef"].numpy().tobytes()

    alone = coefficients(None)
    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(coefficients, range(8))) == {alone}
