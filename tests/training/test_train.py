"""The training loop, against a plain one with its own Adam, and against scripted validation losses."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from featcache.evaluate.metrics import uar
from featcache.heads import create_head
from featcache.protocols import Fold
from featcache.training import train
from featcache.training.train import TrainingConfig, predict, train_head, train_seeds

# The same float32 operations in another order, carried through a dozen steps of Adam, whose steps are some 1e-3.
WEIGHTS = 1e-6
LOSSES = 1e-6
# A product's rows may be summed in another order when there are more or fewer of them.
PROBABILITIES = 1e-6

NUM_LAYERS, SIZE, NUM_CLASSES = 3, 4, 3
IDS = [f"u{i}" for i in range(22)]
FOLD = Fold(name="1", train=tuple(IDS[:11]), validation=tuple(IDS[11:17]), test=tuple(IDS[17:]))
TARGETS = {utterance_id: i % NUM_CLASSES for i, utterance_id in enumerate(IDS)}


def make_features(stores=1):
    """One mapping per store from utterance id to a tensor, as train_head uses them; their frames pair."""
    rng = np.random.default_rng(0)
    features = []
    for _ in range(stores):
        lengths = np.random.default_rng(1).integers(2, 9, len(IDS))
        values = [rng.normal(size=(NUM_LAYERS, length, SIZE)) for length in lengths]
        features.append({i: torch.tensor(value, dtype=torch.float32) for i, value in zip(IDS, values, strict=True)})
    return features


def make_head(name="dense", stores=1, seed=1):
    sizes = {"num_layers": [NUM_LAYERS] * stores, "hidden_sizes": [SIZE] * stores}
    return create_head(name, **sizes, num_outputs=NUM_CLASSES, seed=seed)


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


@pytest.mark.parametrize(("name", "stores"), [("dense", 1), ("lstm", 1), ("fusion", 2)])
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
    history = train_head(head, features, TARGETS, FOLD, 5, config)
    assert clipped > 0 or config.clip_value == 1
    assert [epoch.epoch for epoch in history] == list(range(1, config.max_epochs + 1))
    found = [(epoch.train_loss, epoch.validation_loss, epoch.validation_uar) for epoch in history]
    np.testing.assert_allclose(found, expected, rtol=LOSSES, atol=LOSSES)
    best = min(range(len(expected)), key=lambda epoch: expected[epoch][1])
    if best + 1 < config.max_epochs:  # train no further than to the epoch whose weights were restored
        plain = make_head(name, stores)
        plain_training(plain, features, 5, TrainingConfig(**{**vars(config), "max_epochs": best + 1}))
    for (parameter, found), expected in zip(head.state_dict().items(), plain.state_dict().values(), strict=True):
        np.testing.assert_allclose(found, expected, rtol=WEIGHTS, atol=WEIGHTS, err_msg=parameter)


def test_defaults_are_those_of_pepino_2021():
    expected = {"learning_rate": 1e-4, "batch_size": 32, "max_epochs": 100, "patience": 4, "clip_value": 1.0}
    assert vars(TrainingConfig()) == {**expected, "epsilon": 1e-7}


def follow_script(monkeypatch, losses, config, fold=FOLD):
    """Train while validation losses are given; returns the epochs, the head and its weights after each epoch."""
    states = []

    def scripted(head, *_):
        states.append({name: values.clone() for name, values in head.state_dict().items()})
        return losses[len(states) - 1], 0.5

    with monkeypatch.context() as patch:
        patch.setattr(train, "_validate", scripted)
        head = make_head()
        start = {name: values.clone() for name, values in head.state_dict().items()}
        return train_head(head, make_features(), TARGETS, fold, 1, config), head, [start, *states]


def same_weights(head, state):
    return all(torch.equal(values, state[name]) for name, values in head.state_dict().items())


@given(losses=st.lists(st.sampled_from([0.5, 0.6, 0.7, 0.8, math.inf, math.nan]), min_size=8, max_size=8))
@pytest.mark.parametrize("patience", [1, 3])
def test_training_ends_after_patience_and_restores_the_best_weights(losses, patience):
    config = TrainingConfig(patience=patience, max_epochs=len(losses), batch_size=32)
    history, head, states = follow_script(pytest.MonkeyPatch(), losses, config)
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


def test_an_equal_loss_is_no_improvement(monkeypatch):
    history, head, states = follow_script(monkeypatch, [0.5] * 9, TrainingConfig(patience=4))
    assert len(history) == 5
    assert same_weights(head, states[1])


def test_training_that_overfits_stops_early_with_its_lowest_validation_loss():
    features, head = make_features(), make_head()
    config = TrainingConfig(learning_rate=0.02)
    history = train_head(head, features, TARGETS, FOLD, 1, config)
    losses = [epoch.validation_loss for epoch in history]
    assert len(history) == 1 + int(np.argmin(losses)) + config.patience < config.max_epochs
    probabilities = predict(head, features, FOLD.validation, 32)
    right = [row[TARGETS[i]] for row, i in zip(probabilities, FOLD.validation, strict=True)]
    assert -np.log(right).mean() == pytest.approx(min(losses), abs=LOSSES)


class Watched(dict):
    """Features that note which utterances were asked for."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.touched = set()

    def __getitem__(self, utterance_id):
        self.touched.add(utterance_id)
        return super().__getitem__(utterance_id)


def test_test_utterances_are_not_touched():
    features = Watched(make_features()[0])
    train_head(make_head(), [features], TARGETS, FOLD, 1, TrainingConfig(max_epochs=3))
    assert features.touched == {*FOLD.train, *FOLD.validation}


@pytest.mark.parametrize(("name", "stores"), [("dense", 1), ("lstm", 1), ("fusion", 2)])
def test_a_seed_says_it_all(name, stores):
    features, config = make_features(stores), TrainingConfig(max_epochs=2, batch_size=4, learning_rate=0.01)

    def trained(seed):
        torch.rand(seed)  # moves the global generator, which must not matter
        head = make_head(name, stores, seed=seed)
        return train_head(head, features, TARGETS, FOLD, seed, config), head.state_dict()

    (history, weights), (again, same), (other, _) = trained(3), trained(3), trained(4)
    assert history == again
    assert all(torch.equal(weights[name], same[name]) for name in weights)
    assert history != other


@pytest.mark.parametrize(("name", "stores"), [("dense", 1), ("lstm", 1), ("fusion", 2)])
@pytest.mark.parametrize("workers", [1, 3])
def test_seeds_train_side_by_side_as_each_alone(name, stores, workers):
    features, config = make_features(stores), TrainingConfig(max_epochs=2, batch_size=4, learning_rate=0.01)
    heads = {seed: make_head(name, stores, seed=seed) for seed in (5, 3, 4, 1)}
    trained = list(train_seeds(heads, features, TARGETS, FOLD, config, workers=workers))
    assert [seed for seed, _ in trained] == [5, 3, 4, 1]
    for seed, history in trained:
        alone = make_head(name, stores, seed=seed)
        assert train_head(alone, features, TARGETS, FOLD, seed, config) == history
        assert same_weights(heads[seed], alone.state_dict())


@pytest.mark.parametrize(("name", "stores"), [("dense", 1), ("lstm", 1), ("fusion", 2)])
@pytest.mark.parametrize("batch_size", [1, 4, 100])
def test_predictions_are_probabilities_in_order_whatever_the_batch(name, stores, batch_size):
    features, head = make_features(stores), make_head(name, stores)
    probabilities = predict(head, features, IDS, batch_size)
    assert probabilities.shape == (len(IDS), NUM_CLASSES)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=PROBABILITIES)
    alone = [predict(head, features, [utterance_id], 1)[0] for utterance_id in reversed(IDS)]
    np.testing.assert_allclose(probabilities[::-1], alone, rtol=PROBABILITIES, atol=PROBABILITIES)
