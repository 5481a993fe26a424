"""The state of a training while it runs."""

import time

import pytest
import torch

from featcache.training.status import Stopwatch
from featcache.training.together import train_together
from featcache.training.train import Training, TrainingConfig
from tests.training.plain_loop import FOLD, TARGETS, InMemory, make_features, make_head

CONFIG = TrainingConfig(max_epochs=3, patience=2, batch_size=4, learning_rate=0.01)


def test_the_current_epoch_counts_in_part():
    training, source = Training(make_head(seed=1), 1, FOLD, TARGETS, CONFIG), InMemory(make_features())
    [window] = source.windows(FOLD.train)
    before = training.status()
    assert (before.epochs, before.least, before.most, before.ended) == (0, 2, 3, False)
    assert before.train_loss is before.validation_loss is None
    training.learn(window)
    learned = training.status()
    assert learned.epochs == pytest.approx(len(FOLD.train) / (len(FOLD.train) + len(FOLD.validation)))
    training.validate(window)
    training.end_epoch()
    ended = training.status()
    assert (ended.epochs, ended.least) == (1, 3)
    assert ended.train_loss == learned.train_loss == training.history[0].train_loss
    assert ended.validation_loss == training.history[0].validation_loss


def test_looking_at_a_training_changes_nothing():
    watched, alone = (Training(make_head(seed=1), 1, FOLD, TARGETS, CONFIG) for _ in range(2))
    learn = watched._targets_of
    watched._targets_of = lambda ids: (watched.status(), learn(ids))[1]
    for training in (watched, alone):
        list(train_together([training], InMemory(make_features()), workers=1))
    assert watched.history == alone.history
    for name, values in watched.head.state_dict().items():
        assert torch.equal(values, alone.head.state_dict()[name])
    assert watched.status().ended
    assert watched.status().seconds == watched.watch.seconds > 0


def test_a_stopwatch_runs_in_its_blocks_only():
    watch = Stopwatch()
    assert watch.seconds == 0
    with watch:
        time.sleep(0.01)
        during = watch.seconds
    assert 0.01 <= during <= watch.seconds
    after = watch.seconds
    time.sleep(0.01)
    assert watch.seconds == after
