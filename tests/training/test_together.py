"""Trainings that run together give the same results as alone."""

import threading

import numpy as np
import pytest
import torch

from featcache.heads import create_head
from featcache.protocols import Fold
from featcache.targets.losses import CLASSIFICATION, REGRESSION
from featcache.training.together import train_together
from featcache.training.train import Training, TrainingConfig
from tests.training.plain_loop import (
    FOLD,
    HEADS,
    IDS,
    NUM_CLASSES,
    NUM_LAYERS,
    SIZE,
    TARGETS,
    VALUES,
    InMemory,
    make_features,
    make_head,
    probabilities_of,
    same_weights,
    train_head,
)

# The order of summation in a matrix product may depend on its number of rows.
PROBABILITIES = 1e-6


TASKS = {"classification": (CLASSIFICATION, TARGETS, NUM_CLASSES), "regression": (REGRESSION, VALUES, 2)}


# Guaranteed tolerance of weights that were trained together; here they are identical.
TOGETHER = 0.0


def fold_without(number):
    """Make a fold of three parts of the utterances; the roles of the parts change between folds."""
    parts = [tuple(IDS[:11]), tuple(IDS[11:17]), tuple(IDS[17:])]
    train, validation, test = parts[number:] + parts[:number]
    return Fold(name=str(number), train=train, validation=validation, test=test)


def trainings_of(name, stores, task, config, pairs):
    objective, targets, num_outputs = TASKS[task]
    return [
        Training(
            make_head(name, stores, seed=seed, num_outputs=num_outputs),
            seed,
            fold_without(fold),
            targets,
            config,
            objective=objective,
        )
        for seed, fold in pairs
    ]


PAIRS = [(5, 0), (3, 0), (4, 1), (5, 2), (3, 2)]


@pytest.mark.parametrize(("name", "stores"), HEADS)
@pytest.mark.parametrize("task", TASKS)
def test_seeds_and_folds_train_side_by_side_as_each_alone(name, stores, task):
    features = make_features(stores)
    config = TrainingConfig(max_epochs=2, patience=2, batch_size=4, learning_rate=0.01)
    alone = {}
    for pair in PAIRS:
        [training] = trainings_of(name, stores, task, config, [pair])
        alone[pair] = next(train_together([training], InMemory(features), workers=1))
        assert len(training.history) == 2
    chance = np.random.default_rng(0)
    for workers in (1, 2, 5):
        order = [PAIRS[i] for i in chance.permutation(len(PAIRS))]
        trainings = dict(zip(order, trainings_of(name, stores, task, config, order), strict=True))
        ended = list(train_together(list(trainings.values()), InMemory(features), workers=workers))
        assert {id(training) for training in ended} == {id(training) for training in trainings.values()}
        for pair, training in trainings.items():
            assert training.history == alone[pair].history
            assert training.predictions == alone[pair].predictions
            for parameter, values in training.head.state_dict().items():
                expected = alone[pair].head.state_dict()[parameter]
                torch.testing.assert_close(values, expected, rtol=TOGETHER, atol=TOGETHER, msg=parameter)


def test_who_has_stopped_early_costs_nothing_more(monkeypatch):
    config = TrainingConfig(max_epochs=30, patience=2, learning_rate=0.02)
    calls = []
    forward = Training._outputs

    def counted(training, window, ids):
        calls.append(training.seed)
        return forward(training, window, ids)

    monkeypatch.setattr(Training, "_outputs", counted)
    trainings = [Training(make_head(seed=seed), seed, FOLD, TARGETS, config) for seed in range(4)]
    list(train_together(trainings, InMemory(make_features()), workers=2))
    epochs = [len(training.history) for training in trainings]
    assert len(set(epochs)) > 1
    assert max(epochs) < 30
    # Each epoch has one training batch and one validation batch; predicting takes one batch.
    assert [calls.count(seed) for seed in range(4)] == [2 * number + 1 for number in epochs]


def test_an_error_of_one_training_ends_all(monkeypatch):
    config = TrainingConfig(max_epochs=10_000, patience=10_000)
    trainings = [Training(make_head(seed=seed), seed, FOLD, TARGETS, config) for seed in range(3)]
    learn = Training.learn

    def fails(training, window):
        if training.seed == 1 and training.history:
            raise OSError("broken")
        learn(training, window)

    monkeypatch.setattr(Training, "learn", fails)
    with pytest.raises(OSError, match="broken"):
        list(train_together(trainings, InMemory(make_features()), workers=2))
    assert not any(training.finished for training in trainings)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("fit")]


def test_whoever_goes_before_the_end_stops_all():
    endless = TrainingConfig(max_epochs=10_000, patience=10_000)
    short = TrainingConfig(max_epochs=1)
    trainings = [Training(make_head(seed=i), i, FOLD, TARGETS, short if i == 0 else endless) for i in range(3)]
    ended = train_together(trainings, InMemory(make_features()), workers=3)
    assert next(ended) is trainings[0]
    ended.close()
    assert not any(training.finished for training in trainings[1:])
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("fit")]


@pytest.mark.parametrize(("name", "stores"), HEADS)
@pytest.mark.parametrize("batch_size", [1, 4, 100])
def test_predictions_are_probabilities_in_order_whatever_the_batch(name, stores, batch_size):
    features, head = make_features(stores), make_head(name, stores)
    training = Training(head, 1, FOLD, TARGETS, TrainingConfig(batch_size=batch_size))
    training.predict(InMemory(features).window)
    assert list(training.predictions) == [*FOLD.validation, *FOLD.test]
    found = np.array(list(training.predictions.values()))
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=PROBABILITIES)
    expected = probabilities_of(head, features, training.predictions)
    np.testing.assert_allclose(found, expected, rtol=PROBABILITIES, atol=PROBABILITIES)


def test_a_regression_predicts_values():
    features = make_features()
    [training] = trainings_of("dense", 1, "regression", TrainingConfig(max_epochs=2), [(1, 0)])
    list(train_together([training], InMemory(features), workers=1))
    with torch.no_grad():
        expected = torch.cat([training.head([[features[0][i]]]) for i in training.predictions])
    np.testing.assert_allclose(list(training.predictions.values()), expected, rtol=PROBABILITIES, atol=PROBABILITIES)
    assert all(-1 <= epoch.validation_score <= 1 for epoch in training.history)


def test_a_head_may_take_some_of_the_layers():
    features = make_features()
    config = TrainingConfig(max_epochs=3, batch_size=4)
    sizes = {"num_layers": [2], "hidden_sizes": [SIZE], "num_outputs": NUM_CLASSES, "seed": 1}
    among = Training(create_head("dense", **sizes), 1, FOLD, TARGETS, config, layers=[slice(1, 3)])
    list(train_together([among], InMemory(features), workers=1))
    alone = train_head(
        create_head("dense", **sizes), InMemory([{i: f[1:3] for i, f in features[0].items()}]), 1, config
    )
    assert same_weights(among.head, alone.head.state_dict())
    assert among.predictions == alone.predictions


# Share of equal predictions: classes are far apart, so only utterances near the boundary may differ.
AGREEMENT = 0.98


@pytest.fixture(scope="module")
def predicted_exactly():
    """Return a dictionary: head and number of stores → classes that it predicts from float32."""
    return {}


@pytest.mark.parametrize(
    ("dtype", "compute"),
    [
        (torch.float16, torch.float32),
        (torch.bfloat16, torch.bfloat16),
        (torch.bfloat16, torch.float32),
        (torch.int8, torch.float32),
        (torch.int8, torch.bfloat16),
    ],
)
@pytest.mark.parametrize(("name", "stores"), HEADS)
def test_fewer_bytes_predict_the_same(predicted_exactly, name, stores, dtype, compute):
    rng = np.random.default_rng(0)
    ids = [f"u{i}" for i in range(120)]
    targets = {utterance_id: i % NUM_CLASSES for i, utterance_id in enumerate(ids)}
    centres = 2 * rng.normal(size=(NUM_CLASSES, NUM_LAYERS, 1, SIZE))
    features = [
        {
            i: torch.tensor(rng.normal(size=(NUM_LAYERS, 3, SIZE)) + centres[targets[i]], dtype=torch.float32)
            for i in ids
        }
        for _ in range(stores)
    ]
    fold = Fold(name="1", train=tuple(ids[:40]), validation=tuple(ids[40:60]), test=tuple(ids[60:]))
    config = TrainingConfig(max_epochs=12, learning_rate=0.01)

    def predicted(dtype, compute):
        training = Training(make_head(name, stores), 1, fold, targets, config, compute=compute)
        list(train_together([training], InMemory(features, dtype), workers=1))
        assert all(parameter.dtype == torch.float32 for parameter in training.head.parameters())
        return np.array([np.argmax(training.predictions[i]) for i in fold.test])

    if (name, stores) not in predicted_exactly:
        predicted_exactly[name, stores] = predicted(torch.float32, torch.float32)
    exact = predicted_exactly[name, stores]
    assert (exact == [targets[i] for i in fold.test]).mean() > 0.9  # otherwise, agreement would prove nothing
    assert (predicted(dtype, compute) == exact).mean() >= AGREEMENT
