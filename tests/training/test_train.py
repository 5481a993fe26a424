"""The training loop agrees with a plain loop with its own Adam, and follows given validation losses."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from featcache.evaluate.metrics import uar
from featcache.heads import head_spec
from featcache.targets.losses import CLASSIFICATION
from featcache.training.together import train_together
from featcache.training.train import Training, TrainingConfig
from tests.training.plain_loop import (
    FOLD,
    HEADS,
    TARGETS,
    InMemory,
    make_features,
    make_head,
    probabilities_of,
    same_weights,
    train_head,
)

# Tolerance of float32 operations in another order, after a dozen steps of Adam of about 1e-3 each.
WEIGHTS = 1e-6


LOSSES = 1e-6


def plain_training(head, features, seed, config):
    """Train as the paper and its configuration describe, with minimal code and without early stopping."""
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
        TrainingConfig(max_epochs=3, batch_size=4),  # the last batch of an epoch is smaller
        TrainingConfig(max_epochs=3, batch_size=32, learning_rate=3e-3),
        TrainingConfig(max_epochs=2, batch_size=4, clip_value=0.01, epsilon=0.1, learning_rate=0.01),
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
    if best + 1 < config.max_epochs:  # train up to the epoch whose weights were restored
        plain = make_head(name, stores)
        plain_training(plain, features, 5, TrainingConfig(**{**vars(config), "max_epochs": best + 1}))
    for (parameter, found), expected in zip(head.state_dict().items(), plain.state_dict().values(), strict=True):
        np.testing.assert_allclose(found, expected, rtol=WEIGHTS, atol=WEIGHTS, err_msg=parameter)
    told = [*FOLD.validation, *FOLD.test]
    assert list(training.predictions) == told
    expected = probabilities_of(plain, features, told)
    np.testing.assert_allclose([training.predictions[i] for i in told], expected, rtol=0, atol=WEIGHTS)


def test_defaults_are_those_of_pepino_2021():
    expected = {"learning_rate": 1e-4, "batch_size": None, "max_epochs": 100, "patience": 4, "clip_value": 1.0}
    assert vars(TrainingConfig()) == {**expected, "epsilon": 1e-7}
    assert (head_spec("dense").batch_size, head_spec("lstm").batch_size) == (32, 16)


class Scripted(Training):
    """Training with given validation losses, which records its weights after each epoch."""

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


@settings(max_examples=30)
@example(losses=[math.nan] * 8)  # no epoch is the best
@example(losses=[0.8, 0.7, 0.7, 0.6, 0.5, 0.5, 0.5, 0.5])  # equal losses
@example(losses=[math.inf, 0.8, math.nan, 0.7, 0.8, 0.8, 0.6, 0.5])
@given(losses=st.lists(st.sampled_from([0.5, 0.6, 0.7, 0.8, math.inf, math.nan]), min_size=8, max_size=8))
@pytest.mark.parametrize("patience", [1, 3])
def test_training_ends_after_patience_and_restores_the_best_weights(losses, patience):
    config = TrainingConfig(patience=patience, max_epochs=len(losses), batch_size=32)
    history, head, states = follow_script(losses, config)
    # The first epoch after which none of the next `patience` epochs is the best so far.
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
    config = TrainingConfig(learning_rate=0.02)  # overfits, so that validation chooses an earlier epoch
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
        torch.rand(seed)  # changes the state of the global generator, which must have no effect
        training = train_head(make_head(name, stores, seed=seed), source, seed, config)
        return training.history, training.head.state_dict()

    (history, weights), (again, same), (other, _) = trained(3), trained(3), trained(4)
    assert history == again
    assert all(torch.equal(weights[name], same[name]) for name in weights)
    assert history != other
