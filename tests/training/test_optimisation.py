"""Optimisers, schedules and selection agree with loops that use torch's own optimisers and schedulers."""

import math

import numpy as np
import pytest
import torch

from featcache.evaluate.metrics import uar
from featcache.protocols import Fold
from featcache.settings.training_loop import LoopSettings
from featcache.training.batches import LoadedUtterances
from featcache.training.optimisation import LearningRate, new_optimiser
from featcache.training.selection import Best
from featcache.training.together import train_together
from featcache.training.train import Training, TrainingConfig
from featcache.training.trainable import Epoch
from tests.training.plain_loop import FOLD, TARGETS, InMemory, make_features, make_head, same_weights

# The order of float32 operations differs between fused optimisers and those of the reference.
LOSSES = 1e-6
CONFIG = TrainingConfig(max_epochs=3, patience=3, batch_size=4, learning_rate=0.01)
STEPS_PER_EPOCH = 3  # 11 utterances
STEPS = 9


def trained(config=CONFIG, source=None, fold=FOLD, **options):
    training = Training(make_head(), 5, fold, TARGETS, config, loop=LoopSettings(**options))
    list(train_together([training], source or InMemory(make_features()), workers=1))
    return training


def reference(optimiser_of, scheduler_of=None, every=STEPS_PER_EPOCH):
    """Train with torch only, and return training loss, validation loss and UAR at every few steps."""
    head, [features] = make_head(), make_features()
    optimiser = optimiser_of([one for one in head.parameters() if one.requires_grad])
    scheduler = scheduler_of(optimiser) if scheduler_of else None
    shuffling, history, losses, step = np.random.default_rng(5), [], [], 0
    for _ in range(CONFIG.max_epochs):
        order = shuffling.permutation(len(FOLD.train))
        for ids in ([FOLD.train[i] for i in order[first : first + 4]] for first in range(0, len(order), 4)):
            head.train()
            loss = torch.nn.functional.cross_entropy(
                head([[features[i] for i in ids]]), torch.tensor([TARGETS[i] for i in ids])
            )
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_value_(head.parameters(), 1)
            optimiser.step()
            if scheduler:
                scheduler.step()
            losses += [float(loss.detach())] * len(ids)
            step += 1
            if step % every == 0 or step == STEPS:
                head.eval()
                with torch.no_grad():
                    logits = head([[features[i] for i in FOLD.validation]])
                targets = torch.tensor([TARGETS[i] for i in FOLD.validation])
                loss = float(torch.nn.functional.cross_entropy(logits, targets))
                history.append((np.mean(losses), loss, uar(targets.numpy(), logits.argmax(1).numpy())))
                losses = []
    return history


def adam(parameters):
    return torch.optim.Adam(parameters, lr=0.01, eps=1e-7)


def cosine(warmup):
    def scheduler_of(optimiser):
        rising = torch.optim.lr_scheduler.LinearLR(optimiser, 1 / warmup, total_iters=warmup - 1)
        falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, STEPS - warmup)
        return torch.optim.lr_scheduler.SequentialLR(optimiser, [rising, falling], [warmup])

    return scheduler_of


CASES = {
    "adamw": (
        {"optimizer": "adamw"},
        lambda p: torch.optim.AdamW(p, lr=0.01, eps=1e-7),  # 0.01 is torch's own default of the weight decay
        None,
    ),
    "adam, L2": ({"weight_decay": 0.1}, lambda p: torch.optim.Adam(p, lr=0.01, eps=1e-7, weight_decay=0.1), None),
    "sgd": ({"optimizer": "sgd"}, lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9), None),
    "cosine": ({"schedule": "cosine"}, adam, lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, STEPS)),
    "linear": ({"schedule": "linear"}, adam, lambda o: torch.optim.lr_scheduler.LinearLR(o, 1, 0, STEPS)),
    "warmup": ({"warmup": 4}, adam, lambda o: torch.optim.lr_scheduler.LinearLR(o, 1 / 4, total_iters=3)),
    "cosine after a share": ({"schedule": "cosine", "warmup": 1 / 3}, adam, cosine(3)),
}


@pytest.mark.parametrize("name", CASES)
def test_a_training_with_an_option_is_the_loop_of_torch(name):
    options, optimiser_of, scheduler_of = CASES[name]
    found = trained(**options).history
    expected = reference(optimiser_of, scheduler_of)
    np.testing.assert_allclose(
        [(one.train_loss, one.validation_loss, one.validation_score) for one in found],
        expected,
        rtol=LOSSES,
        atol=LOSSES,
    )


def test_the_default_is_adam_bit_for_bit():
    plain = Training(make_head(), 5, FOLD, TARGETS, CONFIG)
    list(train_together([plain], InMemory(make_features()), workers=1))
    given = trained(warmup=0.0, mixup=0.0, crop=0, feature_noise=0.0, mask_time=None, mask_dims=None)
    assert given.history == plain.history
    assert same_weights(given.head, plain.head.state_dict())
    assert given._optimiser.defaults == torch.optim.Adam(plain.head.parameters(), 0.01, eps=1e-7, fused=True).defaults


def test_a_plateau_follows_torch():
    parameter = [torch.nn.Parameter(torch.ones(1))]
    config = TrainingConfig(learning_rate=1.0, patience=4)
    ours = new_optimiser(parameter, config, LoopSettings(schedule="plateau"))
    rate = LearningRate(ours, config, LoopSettings(schedule="plateau"), 1)
    theirs = torch.optim.SGD(parameter, lr=1.0)
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(theirs, factor=0.5, patience=1, threshold=0)
    best = math.inf
    for step, loss in enumerate([3, 2, 2, 2, 2.5, 1, 3, math.nan, 4, 0.5, math.inf, 0.5, 0.1]):
        rate.evaluated(improved=loss < best)
        best = min(best, loss) if loss < best else best
        plateau.step(loss)
        rate.start(step)
        assert ours.param_groups[0]["lr"] == theirs.param_groups[0]["lr"]
    assert theirs.param_groups[0]["lr"] == 1 / 8


@pytest.mark.parametrize("every", [1, 2, 4, 100])
def test_evaluations_a_number_of_steps_apart(every):
    config = TrainingConfig(**{**vars(CONFIG), "patience": 100})
    found = trained(config, evaluate_every=every).history
    expected = reference(adam, every=every)
    np.testing.assert_allclose(
        [(one.train_loss, one.validation_loss, one.validation_score) for one in found],
        expected,
        rtol=LOSSES,
        atol=LOSSES,
    )
    assert [one.step for one in found] == sorted({*range(every, STEPS + 1, every), STEPS})
    assert [one.epoch for one in found] == [-(-one.step // STEPS_PER_EPOCH) for one in found]


class Apart(InMemory):
    """Source whose training part is never in the same window as the validation part."""

    def windows(self, utterance_ids, *, epoch=None):
        yield LoadedUtterances(utterances={i: self.window.utterances[i] for i in utterance_ids})


@pytest.mark.parametrize("options", [{}, {"stop_on": "uar"}, {"schedule": "cosine", "sampler": "balanced"}])
@pytest.mark.parametrize("patience", [1, 2, 50])
def test_features_in_windows_are_evaluated_at_the_same_steps(options, patience):
    config = TrainingConfig(max_epochs=6, patience=patience, batch_size=4, learning_rate=0.1)
    whole = trained(config, evaluate_every=2, **options)
    apart = trained(config, Apart(make_features()), evaluate_every=2, **options)
    assert apart.history == whole.history
    assert apart.predictions == whole.predictions
    assert same_weights(apart.head, whole.head.state_dict())
    assert len(whole.history) < 9 or patience == 50 or "sampler" in options


def test_the_highest_score_chooses_the_weights():
    config = TrainingConfig(max_epochs=12, patience=12, batch_size=4, learning_rate=0.1)
    training = trained(config, stop_on="uar")
    scores = [one.validation_score for one in training.history]
    losses = [one.validation_loss for one in training.history]
    best = int(np.argmax(scores))
    assert best != int(np.argmin(losses))  # otherwise the criterion would make no difference
    predicted = [np.argmax(training.predictions[i]) for i in FOLD.validation]
    assert uar([TARGETS[i] for i in FOLD.validation], predicted) == max(scores)
    until = trained(TrainingConfig(**{**vars(config), "max_epochs": best + 1}), stop_on="uar")
    assert same_weights(training.head, until.head.state_dict())


def test_an_equal_score_is_no_improvement_and_a_loss_that_is_not_finite_is_never_the_best():
    head = make_head()
    for criterion in ("uar", "ccc"):
        best = Best(criterion, 3, head)
        rows = [(math.nan, 0.9), (1.0, 0.5), (0.1, 0.5), (2.0, 0.6), (math.inf, 1.0), (0.1, 0.6), (0.1, 0.2)]
        improved = [
            best.add(Epoch(epoch=1, train_loss=0, validation_loss=loss, validation_score=score), head.state_dict())
            for loss, score in rows
        ]
        assert improved == [False, True, False, True, False, False, False]
        assert best.place == 4
        assert best.is_over


def test_labels_of_the_test_part_choose_nothing():
    options = {"stop_on": "uar", "sampler": "balanced", "evaluate_every": 2, "mixup": 0.2, "schedule": "plateau"}
    without = Fold(name="1", train=FOLD.train, validation=FOLD.validation, test=())
    found, other = (trained(fold=fold, **options) for fold in (FOLD, without))
    assert found.history == other.history
    assert same_weights(found.head, other.head.state_dict())
