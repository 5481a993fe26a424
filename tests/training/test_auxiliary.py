"""Auxiliary targets: their loss, a plain loop with two targets, and weight 0."""

import numpy as np
import pytest
import torch

from featcache.heads.base import linear
from featcache.targets.losses import REGRESSION
from featcache.training.auxiliary import _SEED, Auxiliary, AuxiliaryTask
from featcache.training.mixup import Mixture
from featcache.training.together import train_together
from featcache.training.train import Training, TrainingConfig
from tests.training.plain_loop import FOLD, HEADS, IDS, TARGETS, InMemory, make_features, make_head, same_weights

# float32 operations in another order, after a dozen steps.
WEIGHTS = 1e-6
CONFIG = TrainingConfig(max_epochs=3, batch_size=4, learning_rate=0.01)
GENDER = {utterance_id: i % 2 for i, utterance_id in enumerate(IDS) if i % 3}  # every third has no label
AROUSAL = {i: [float(value)] for i, value in zip(IDS, np.random.default_rng(4).random(len(IDS)), strict=True)}


def tasks(weight=0.3):
    gender = AuxiliaryTask(weight=weight, num_outputs=2, loss=torch.nn.functional.cross_entropy, targets=GENDER)
    return [gender, AuxiliaryTask(weight=2 * weight, num_outputs=1, loss=REGRESSION.loss, targets=AROUSAL)]


def pooled_size_of(head, features):
    with torch.no_grad():
        return head.eval().pooled([[store[IDS[0]]] for store in features]).shape[1]


def train(name, stores, auxiliary=None, others=()):
    features, head = make_features(stores), make_head(name, stores)
    training = Training(head, 1, FOLD, TARGETS, CONFIG, auxiliary=auxiliary)
    list(train_together([training, *others], InMemory(features), workers=2))
    return training


def auxiliary_for(name, stores, weight, seed=1):
    return Auxiliary(tasks(weight), pooled_size_of(make_head(name, stores), make_features(stores)), seed)


@pytest.mark.parametrize(("name", "stores"), HEADS)
def test_weight_0_gives_the_single_task_bit_for_bit(name, stores):
    alone, with_zero = train(name, stores), train(name, stores, auxiliary_for(name, stores, 0.0))
    assert same_weights(with_zero.head, alone.state())
    assert with_zero.history == alone.history
    assert with_zero.predictions == alone.predictions
    learned = train(name, stores, auxiliary_for(name, stores, 1.0))
    assert not same_weights(learned.head, alone.state())
    assert learned.state().keys() == alone.state().keys()  # the layers are not saved


def test_a_training_is_the_same_alone_and_together_with_others():
    alone = train("dense", 1, auxiliary_for("dense", 1, 0.5))
    other = Training(make_head(seed=2), 2, FOLD, TARGETS, CONFIG, auxiliary=auxiliary_for("dense", 1, 0.5, seed=2))
    together = train("dense", 1, auxiliary_for("dense", 1, 0.5), [other])
    assert same_weights(together.head, alone.state())
    assert not same_weights(other.head, alone.state())


def test_training_is_a_plain_loop_with_two_losses():
    features, head = make_features(1), make_head()
    size = pooled_size_of(head, features)
    generator = torch.Generator().manual_seed(_SEED + 1)
    layers = [linear(size, 2, generator), linear(size, 1, generator)]
    parameters = [*head.parameters(), *(one for layer in layers for one in layer.parameters())]
    optimiser = torch.optim.Adam(parameters, lr=CONFIG.learning_rate, eps=CONFIG.epsilon)
    shuffling = np.random.default_rng(1)
    head.train()
    for _ in range(CONFIG.max_epochs):
        order = shuffling.permutation(len(FOLD.train)).tolist()
        while order:
            ids, order = [FOLD.train[i] for i in order[:4]], order[4:]
            pooled = head.pooled([[features[0][i] for i in ids]])
            loss = -sum(
                row.log_softmax(0)[TARGETS[i]] for row, i in zip(head.classify(pooled), ids, strict=True)
            ) / len(ids)
            logits = layers[0](pooled)
            known = [-row.log_softmax(0)[GENDER[i]] for row, i in zip(logits, ids, strict=True) if i in GENDER]
            loss = loss + 0.3 * sum(known) / max(1, len(known))
            # Adam also moves weights without a gradient in this batch, by the gradients of earlier ones.
            loss = loss + 0 * (logits.sum() + layers[1](pooled).sum())
            x, y = layers[1](pooled)[:, 0], torch.tensor([AROUSAL[i][0] for i in ids])
            if len(ids) > 1:
                spread = x.var(correction=0) + y.var(correction=0) + (x.mean() - y.mean()) ** 2
                agreement = 2 * ((x - x.mean()) * (y - y.mean())).mean() / spread
                loss = loss + 0.6 * (1 - agreement)
            optimiser.zero_grad()
            loss.backward()
            for parameter in parameters:
                parameter.grad.clamp_(-1, 1)
            optimiser.step()
    auxiliary = Auxiliary(tasks(), size, 1)
    training = Training(make_head(), 1, FOLD, TARGETS, CONFIG, auxiliary=auxiliary)
    source = InMemory(features)
    for epoch in range(CONFIG.max_epochs):
        if epoch:
            training.end_epoch()
        training.learn(source.window)
    for (name, found), expected in zip(training.head.state_dict().items(), head.state_dict().values(), strict=True):
        np.testing.assert_allclose(found, expected, atol=WEIGHTS * 10, err_msg=name)
    for found, layer in zip(auxiliary.layers, layers, strict=True):
        np.testing.assert_allclose(found.weight.detach(), layer.weight.detach(), atol=WEIGHTS * 10)


def test_utterances_without_the_label_have_no_loss():
    pooled = torch.randn(4, 5, generator=torch.Generator().manual_seed(3))
    [gender, _] = tasks(1.0)
    auxiliary = Auxiliary([gender], 5, 1)
    labelled = [i for i in IDS if i in GENDER][:2]
    missing = [i for i in IDS if i not in GENDER][:2]
    together = auxiliary.loss(pooled, [labelled[0], missing[0], labelled[1], missing[1]])
    torch.testing.assert_close(together, auxiliary.loss(pooled[[0, 2]], labelled))
    none = auxiliary.loss(pooled.requires_grad_(), [*missing, *missing])
    none.backward()
    assert none == 0
    assert not pooled.grad.any()


def test_mixtures_have_the_losses_of_both_utterances():
    pooled = torch.randn(3, 5, generator=torch.Generator().manual_seed(3))
    auxiliary = Auxiliary(tasks(), 5, 1)
    ids, mixture = IDS[1:4], Mixture(share=0.3, partners=torch.tensor([1, 2, 0]))
    expected = 0.3 * auxiliary.loss(pooled, ids) + 0.7 * auxiliary.loss(pooled, [*ids[1:], ids[0]])
    torch.testing.assert_close(auxiliary.loss(pooled, ids, mixture), expected)


def test_the_layers_change_no_draw_of_the_head():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    Auxiliary(tasks(), 5, 1)
    assert torch.equal(torch.get_rng_state(), before)
