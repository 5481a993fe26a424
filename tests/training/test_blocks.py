"""Blocks of a model before a head are trained as in a plain loop of torch: two rates, accumulation, clipping."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from featcache.heads import create_head
from featcache.heads.tuned import TunedHead
from featcache.settings.finetunings import BlockSettings
from featcache.settings.training_loop import LoopSettings
from featcache.training.together import train_together
from featcache.training.train import Training, TrainingConfig
from tests.training.plain_loop import FOLD, NUM_CLASSES, SIZE, TARGETS, InMemory, make_features
from tests.training.stand_in_blocks import StandInBlocks

# Tolerance of float32 operations in another order, after some steps of Adam of up to 1e-2 each.
WEIGHTS = 1e-5
CONFIG = TrainingConfig(max_epochs=3, patience=3, batch_size=4, learning_rate=0.01)


def first_layers(stores=1):
    return [{i: values[:1] for i, values in store.items()} for store in make_features(stores)]


def make_tuned(name="ffn", *, stores=1, rate=0.0, options=None, pooling=None, paired=False, frozen=False):
    sizes = {"num_layers": [1] * stores, "hidden_sizes": [SIZE] * stores}
    inner = create_head(name, **sizes, num_outputs=NUM_CLASSES, pooling=pooling, seed=1, options=options)
    models = {f"s{number}": StandInBlocks(SIZE, rate=rate, seed=number) for number in range(stores)}
    return TunedHead(inner, models, paired=paired, frozen=frozen)


def trained(head, *, features=None, config=CONFIG, seconds=None, loop=None, **options):
    blocks = BlockSettings(from_layer=(0,), **options)
    source = InMemory(features or first_layers())
    one = Training(head, 5, FOLD, TARGETS, config, loop=loop or LoopSettings(), blocks=blocks, lengths=seconds)
    [finished] = train_together([one], source, workers=1)
    return finished


def plain_loop(head, *, blocks_rate, accumulate=1, clip_norm=None):
    """Train without featcache's loop, and return the weights after each epoch."""
    [features] = first_layers()
    in_blocks = head.tuned_parameters()
    others = [one for one in head.inner.parameters() if one.requires_grad]
    groups = [{"params": others}, {"params": in_blocks, "lr": blocks_rate}]
    optimiser = torch.optim.Adam(groups, lr=CONFIG.learning_rate, eps=CONFIG.epsilon)
    shuffling, states = np.random.default_rng(5), []
    for _ in range(CONFIG.max_epochs):
        head.train()
        order = [FOLD.train[i] for i in shuffling.permutation(len(FOLD.train))]
        for first in range(0, len(order), 4 * accumulate):
            ids = order[first : first + 4 * accumulate]
            loss = torch.nn.functional.cross_entropy(
                head([[features[i] for i in ids]]), torch.tensor([TARGETS[i] for i in ids])
            )
            optimiser.zero_grad()
            loss.backward()
            if clip_norm is None:
                torch.nn.utils.clip_grad_value_([*others, *in_blocks], CONFIG.clip_value)
            else:
                torch.nn.utils.clip_grad_norm_([*others, *in_blocks], clip_norm)
            optimiser.step()
        states.append({name: values.clone() for name, values in head.state_dict().items()})
    return states


@pytest.fixture
def no_dropout():
    """Return options of ``ffn`` without dropout."""
    from featcache.heads.ffn import FFNOptions

    return FFNOptions(dropout=0.0)


@pytest.mark.parametrize("options", [{}, {"accumulate": 2}, {"clip_norm": 0.05}, {"accumulate": 2, "clip_norm": 0.05}])
def test_steps_are_those_of_a_plain_loop_with_large_batches(no_dropout, options):
    expected = plain_loop(make_tuned(options=no_dropout), blocks_rate=0.003, **options)
    found = trained(make_tuned(options=no_dropout), blocks_learning_rate=0.003, **options)
    best = min(range(len(found.history)), key=lambda epoch: found.history[epoch].validation_loss)
    for name, values in found.head.state_dict().items():
        torch.testing.assert_close(values, expected[best][name], rtol=WEIGHTS, atol=WEIGHTS)


def test_a_schedule_keeps_the_ratio_of_both_rates(no_dropout):
    head = make_tuned(options=no_dropout)
    found = trained(head, blocks_learning_rate=0.002, loop=LoopSettings(schedule="cosine", warmup=2))
    rates = [group["lr"] for group in found._optimiser.param_groups]
    assert 0 < rates[0] < 0.01
    assert rates[1] == pytest.approx(rates[0] / 5)


@pytest.mark.parametrize("every", [None, 1, 2, 3])
@pytest.mark.parametrize("max_steps", [1, 4, 5])
def test_a_training_ends_after_the_largest_number_of_steps(every, max_steps):
    config = replace(CONFIG, max_epochs=9, patience=99)
    loop = LoopSettings(evaluate_every=every, schedule="linear")
    found = trained(make_tuned(), config=config, loop=loop, max_steps=max_steps)
    assert found._counts.steps == max_steps
    assert found.finished
    assert set(found.predictions) == {*FOLD.validation, *FOLD.test}
    per_epoch = -(-len(FOLD.train) // 4)
    if every is None:
        assert [one.epoch for one in found.history] == list(range(1, 2 + (max_steps - 1) // per_epoch))
    else:  # the last weights are evaluated too
        steps = list(range(every, max_steps + 1, every))
        assert [one.step for one in found.history] == steps + [max_steps] * (max_steps % every > 0)
    # The rate of the last step is one step above 0.
    assert found._optimiser.param_groups[0]["lr"] == pytest.approx(0.01 / max_steps)


def test_dropout_of_blocks_depends_on_the_seed_and_the_step_only():
    before = torch.get_rng_state()
    alone = trained(make_tuned(rate=0.3))
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(3)  # another place of the global generator
    again = trained(make_tuned(rate=0.3))
    without = trained(make_tuned())
    assert alone.history == again.history
    assert alone.history != without.history


def test_trainings_in_several_threads_draw_the_dropout_of_each_alone():
    def trainings():
        blocks = BlockSettings(from_layer=(0,))
        return [Training(make_tuned(rate=0.3), seed, FOLD, TARGETS, CONFIG, blocks=blocks) for seed in (1, 2, 3)]

    source = InMemory(first_layers())
    alone = [finished.history for one in trainings() for finished in train_together([one], source, workers=1)]
    together = {one.seed: one.history for one in train_together(trainings(), source, workers=3)}
    assert [together[seed] for seed in (1, 2, 3)] == alone


def test_a_rate_of_zero_trains_the_head_only_and_without_dropout():
    before = make_tuned(rate=0.5).blocks.state_dict()
    found = trained(make_tuned(rate=0.5, frozen=True), blocks_learning_rate=0)
    same = trained(make_tuned(frozen=True), blocks_learning_rate=0)
    assert all(torch.equal(values, before[name]) for name, values in found.head.blocks.state_dict().items())
    assert found.history == same.history
    assert found.num_parameters == sum(one.numel() for one in found.head.inner.parameters())


def test_state_has_the_head_and_models_have_the_blocks():
    found = trained(make_tuned(stores=2), features=first_layers(2))
    assert set(found.state()) == set(found.head.inner.state_dict())
    assert list(found.models()) == ["s0", "s1"]
    blocks = sum(one.numel() for model in found.models().values() for one in model.parameters())
    assert found.num_parameters == blocks + sum(one.numel() for one in found.head.inner.parameters())


@pytest.mark.parametrize("pooling", ["mean", "sum", "max", "mean+max"])
def test_outputs_of_blocks_are_pooled_as_asked(pooling):
    head, [features] = make_tuned("dense", pooling=pooling).eval(), first_layers()
    ids = list(features)[:3]
    outputs = [head.models["s0"].linear(features[i][0]).tanh() for i in ids]
    kinds = {
        "mean": lambda one: one.mean(0),
        "sum": lambda one: one.sum(0),
        "max": lambda one: one.max(0).values,
        "mean+max": lambda one: torch.cat([one.mean(0), one.max(0).values]),
    }
    expected = head.inner([[kinds[pooling](one)[None, None] for one in outputs]])
    torch.testing.assert_close(head([[features[i] for i in ids]]), expected)


def test_paired_stores_are_cut_to_the_frames_that_all_have():
    head = make_tuned("fusion", stores=2, paired=True).eval()
    long, short = torch.randn(1, 7, SIZE), torch.randn(1, 5, SIZE)
    torch.testing.assert_close(head([[long], [short]]), head([[long[:, :5]], [short]]))


@pytest.mark.parametrize("num_layers", [1, 3])
def test_gradients_flow_through_the_average_of_layers(num_layers):
    from featcache.heads.layer_weights import LayerWeights

    average = LayerWeights(num_layers)
    if num_layers > 1:
        average.scalars.data = torch.tensor([0.2, -1.0, 0.5])
    features = [torch.randn(num_layers, frames, SIZE, requires_grad=True) for frames in (2, 3)]
    outputs = average(features)
    outputs.square().sum().backward()
    weights = average.scalars.abs() / average.scalars.abs().sum()
    for one in features:
        expected = 2 * (weights[:, None, None] * one).sum(0) * weights[:, None, None]
        torch.testing.assert_close(one.grad, expected.detach())
    torch.testing.assert_close(outputs.detach(), average([one.detach() for one in features]))
