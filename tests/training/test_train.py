"""The training loop, against a plain one with its own Adam, and against scripted validation losses."""

import math
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from featcache.evaluate.metrics import uar
from featcache.heads import create_head
from featcache.heads.packed import pack
from featcache.protocols import Fold
from featcache.targets.losses import CLASSIFICATION, REGRESSION
from featcache.training.batches import LoadedUtterances
from featcache.training.train import Training, TrainingConfig, train_together

# The same float32 operations in another order, carried through a dozen steps of Adam, whose steps are some 1e-3.
WEIGHTS = 1e-6
LOSSES = 1e-6
# A product's rows may be summed in another order when there are more or fewer of them.
PROBABILITIES = 1e-6

NUM_LAYERS, SIZE, NUM_CLASSES = 3, 4, 3
HEADS = [("dense", 1), ("lstm", 1), ("fusion", 2), ("ffn", 2)]
IDS = [f"u{i}" for i in range(22)]
FOLD = Fold(name="1", train=tuple(IDS[:11]), validation=tuple(IDS[11:17]), test=tuple(IDS[17:]))
TARGETS = {utterance_id: i % NUM_CLASSES for i, utterance_id in enumerate(IDS)}
# Values of two dimensions, some of which never change within a batch of one.
VALUES = {i: list(row) for i, row in zip(IDS, np.random.default_rng(2).normal(size=(len(IDS), 2)), strict=True)}


class InMemory:
    """A source that holds all utterances, and says which parts were asked for and at which epochs."""

    holds_all = True

    def __init__(self, features, dtype=torch.float32):
        self.window = LoadedUtterances(
            utterances={i: tuple(pack(store[i], dtype) for store in features) for i in features[0]}
        )
        self.asked = []

    def windows(self, utterance_ids, *, epoch=None):
        self.asked.append((frozenset(utterance_ids), epoch))
        yield self.window


def make_features(stores=1):
    """One mapping per store from utterance id to a tensor; their frames pair."""
    rng = np.random.default_rng(0)
    features = []
    for _ in range(stores):
        lengths = np.random.default_rng(1).integers(2, 9, len(IDS))
        values = [rng.normal(size=(NUM_LAYERS, length, SIZE)) for length in lengths]
        features.append({i: torch.tensor(value, dtype=torch.float32) for i, value in zip(IDS, values, strict=True)})
    return features


def make_head(name="dense", stores=1, seed=1, num_outputs=NUM_CLASSES):
    sizes = {"num_layers": [NUM_LAYERS] * stores, "hidden_sizes": [SIZE] * stores}
    return create_head(name, **sizes, num_outputs=num_outputs, seed=seed)


def train_head(head, source, seed, config, *, fold=FOLD):
    """Train alone, in this thread's pool of one; gives the training when it has come to its end."""
    [training] = train_together([Training(head, seed, fold, TARGETS, config)], source, workers=1)
    return training


def probabilities_of(head, features, utterance_ids):
    """One utterance at a time."""
    with torch.no_grad():
        return torch.cat([head.eval()([[store[i]] for store in features]).softmax(1) for i in utterance_ids]).numpy()


def plain_training(head, features, seed, config):
    """What the paper and the released configuration say, in as few words as possible; no early stopping."""
    parameters = [parameter for parameter in head.parameters() if parameter.requires_grad]
    first_moments = [torch.zeros_like(parameter) for parameter in parameters]
    second_moments = [torch.zeros_like(parameter) for parameter in parameters]
    shuffling, step, clipped, history = np.random.default_rng(seed), 0, 0, []
    for _ in range(config.max_epochs):
        head.train()
        losses = []
        order = shuffling.permutation(len(FOLD.train)).tolist()
        while order:
            ids = [FOLD.train[i] for i in order[: config.batch_size]]
            order = order[config.batch_size :]
            logits = head([[store[i] for i in ids] for store in features])
            of_utterances = [-logits[row].log_softmax(0)[TARGETS[i]] for row, i in enumerate(ids)]
            gradients = torch.autograd.grad(sum(of_utterances) / len(ids), parameters)
            losses += [float(loss.detach()) for loss in of_utterances]
            step += 1
            with torch.no_grad():
                for parameter, gradient, m, v in zip(parameters, gradients, first_moments, second_moments, strict=True):
                    clipped += int((gradient.abs() > config.clip_value).sum())
                    g = gradient.clamp(-config.clip_value, config.clip_value)
                    m.copy_(0.9 * m + 0.1 * g)
                    v.copy_(0.999 * v + 0.001 * g**2)
                    unbiased = (v / (1 - 0.999**step)).sqrt()
                    parameter.sub_(config.learning_rate * m / (1 - 0.9**step) / (unbiased + config.epsilon))
        head.eval()
        with torch.no_grad():
            logits = torch.cat([head([[store[i]] for store in features]) for i in FOLD.validation])
        targets = [TARGETS[i] for i in FOLD.validation]
        loss = -np.mean([float(row.log_softmax(0)[target]) for row, target in zip(logits, targets, strict=True)])
        history.append((np.mean(losses), loss, uar(targets, logits.argmax(1).tolist())))
    return history, clipped


@pytest.mark.parametrize(("name", "stores"), HEADS)
@pytest.mark.parametrize(
    "config",
    [
        TrainingConfig(max_epochs=5, batch_size=4),  # the last batch of an epoch is smaller
        TrainingConfig(max_epochs=4, batch_size=32, learning_rate=3e-3),
        TrainingConfig(max_epochs=4, batch_size=4, clip_value=0.01, epsilon=0.1, learning_rate=0.01),
    ],
)
def test_training_is_the_plain_loop(name, stores, config):
    features = make_features(stores)
    config = TrainingConfig(**{**vars(config), "patience": config.max_epochs})
    plain, head = make_head(name, stores), make_head(name, stores)
    expected, clipped = plain_training(plain, features, 5, config)
    training = train_head(head, InMemory(features), 5, config)
    history = training.history
    assert clipped > 0 or config.clip_value == 1
    assert [epoch.epoch for epoch in history] == list(range(1, config.max_epochs + 1))
    found = [(epoch.train_loss, epoch.validation_loss, epoch.validation_score) for epoch in history]
    np.testing.assert_allclose(found, expected, rtol=LOSSES, atol=LOSSES)
    best = min(range(len(expected)), key=lambda epoch: expected[epoch][1])
    if best + 1 < config.max_epochs:  # train no further than to the epoch whose weights were restored
        plain = make_head(name, stores)
        plain_training(plain, features, 5, TrainingConfig(**{**vars(config), "max_epochs": best + 1}))
    for (parameter, found), expected in zip(head.state_dict().items(), plain.state_dict().values(), strict=True):
        np.testing.assert_allclose(found, expected, rtol=WEIGHTS, atol=WEIGHTS, err_msg=parameter)
    told = [*FOLD.validation, *FOLD.test]
    assert list(training.predictions) == told
    expected = probabilities_of(plain, features, told)
    np.testing.assert_allclose([training.predictions[i] for i in told], expected, rtol=0, atol=WEIGHTS)


def test_defaults_are_those_of_pepino_2021():
    expected = {"learning_rate": 1e-4, "batch_size": 32, "max_epochs": 100, "patience": 4, "clip_value": 1.0}
    assert vars(TrainingConfig()) == {**expected, "epsilon": 1e-7}


class Scripted(Training):
    """A training whose validation losses are given, and which keeps its weights after each epoch."""

    def __init__(self, losses, config):
        self.states = []
        super().__init__(make_head(), 1, FOLD, TARGETS, config)
        self.states.append({name: values.clone() for name, values in self.head.state_dict().items()})
        self._objective = replace(CLASSIFICATION, loss=self._scripted)
        self._losses = losses

    def _scripted(self, outputs, targets):
        if self.head.training:
            return CLASSIFICATION.loss(outputs, targets)
        self.states.append({name: values.clone() for name, values in self.head.state_dict().items()})
        return torch.tensor(self._losses[len(self.history)])


def follow_script(losses, config):
    training = Scripted(losses, config)
    assert list(train_together([training], InMemory(make_features()), workers=1)) == [training]
    return training.history, training.head, training.states


def same_weights(head, state):
    return all(torch.equal(values, state[name]) for name, values in head.state_dict().items())


@given(losses=st.lists(st.sampled_from([0.5, 0.6, 0.7, 0.8, math.inf, math.nan]), min_size=8, max_size=8))
@pytest.mark.parametrize("patience", [1, 3])
def test_training_ends_after_patience_and_restores_the_best_weights(losses, patience):
    config = TrainingConfig(patience=patience, max_epochs=len(losses), batch_size=32)
    history, head, states = follow_script(losses, config)
    # the first epoch after which none of the next `patience` is better than all before it
    best, last = 0, len(losses)
    for epoch in range(1, len(losses) + 1):
        if losses[epoch - 1] < min([loss for loss in losses[: epoch - 1] if loss < math.inf], default=math.inf):
            best = epoch
        if epoch - best == patience:
            last = epoch
            break
    assert len(history) == last
    assert [epoch.validation_loss for epoch in history] == pytest.approx(losses[:last], nan_ok=True)
    assert same_weights(head, states[best])


def test_an_equal_loss_is_no_improvement():
    history, head, states = follow_script([0.5] * 9, TrainingConfig(patience=4))
    assert len(history) == 5
    assert same_weights(head, states[1])


def test_training_that_overfits_stops_early_with_its_lowest_validation_loss():
    features, head = make_features(), make_head()
    config = TrainingConfig(learning_rate=0.02)
    history = train_head(head, InMemory(features), 1, config).history
    losses = [epoch.validation_loss for epoch in history]
    assert len(history) == 1 + int(np.argmin(losses)) + config.patience < config.max_epochs
    probabilities = probabilities_of(head, features, FOLD.validation)
    right = [row[TARGETS[i]] for row, i in zip(probabilities, FOLD.validation, strict=True)]
    assert -np.log(right).mean() == pytest.approx(min(losses), abs=LOSSES)


def test_each_part_is_asked_for_in_its_turn():
    source = InMemory(make_features())
    training = train_head(make_head(), source, 1, TrainingConfig(max_epochs=2))
    assert len(training.history) == 2
    learn, validate = frozenset(FOLD.train), frozenset(FOLD.validation)
    predict = frozenset(FOLD.validation + FOLD.test)
    assert source.asked == [(learn, 1), (validate, None), (learn, 2), (validate, None), (predict, None)]


@pytest.mark.parametrize("part", ["train", "validation", "test"])
def test_weights_depend_on_the_training_part_and_their_choice_on_the_validation_part(part):
    features = make_features()
    config = TrainingConfig(learning_rate=0.02)  # overfits, so that validation chooses
    altered = [{i: 10 - 7 * values if i in getattr(FOLD, part) else values for i, values in features[0].items()}]
    found, other = (train_head(make_head(), InMemory(some), 1, config) for some in (features, altered))
    assert (found.history == other.history) == (part == "test")
    assert same_weights(found.head, other.head.state_dict()) == (part == "test")
    if part == "test":
        assert all(found.predictions[i] != other.predictions[i] for i in FOLD.test)


@pytest.mark.parametrize(("name", "stores"), HEADS)
def test_a_seed_says_it_all(name, stores):
    source, config = InMemory(make_features(stores)), TrainingConfig(max_epochs=2, batch_size=4, learning_rate=0.01)

    def trained(seed):
        torch.rand(seed)  # moves the global generator, which must not matter
        training = train_head(make_head(name, stores, seed=seed), source, seed, config)
        return training.history, training.head.state_dict()

    (history, weights), (again, same), (other, _) = trained(3), trained(3), trained(4)
    assert history == again
    assert all(torch.equal(weights[name], same[name]) for name in weights)
    assert history != other


# Together and alone


TASKS = {"classification": (CLASSIFICATION, TARGETS, NUM_CLASSES), "regression": (REGRESSION, VALUES, 2)}
# What is promised of weights that were trained together; here they are the same bits.
TOGETHER = 0.0


def fold_without(number):
    """The utterances in three parts, whose roles change from fold to fold."""
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
    config = TrainingConfig(max_epochs=4, patience=4, batch_size=4, learning_rate=0.01)
    alone = {}
    for pair in PAIRS:
        [training] = trainings_of(name, stores, task, config, [pair])
        alone[pair] = next(train_together([training], InMemory(features), workers=1))
        assert len(training.history) == 4
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
    # one batch to learn from and one to validate with in each epoch, and one of predictions
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


# Reduced working copies


# Of utterances whose classes lie many deviations apart, all but the few beside the border.
AGREEMENT = 0.98


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
def test_fewer_bytes_predict_the_same(name, stores, dtype, compute):
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
    config = TrainingConfig(max_epochs=20, learning_rate=0.01)

    def predicted(dtype, compute):
        training = Training(make_head(name, stores), 1, fold, targets, config, compute=compute)
        list(train_together([training], InMemory(features, dtype), workers=1))
        assert all(parameter.dtype == torch.float32 for parameter in training.head.parameters())
        return np.array([np.argmax(training.predictions[i]) for i in fold.test])

    exact = predicted(torch.float32, torch.float32)
    assert (exact == [targets[i] for i in fold.test]).mean() > 0.9  # or agreeing would mean nothing
    assert (predicted(dtype, compute) == exact).mean() >= AGREEMENT
