"""Properties of every head: utterances are independent, a seed fixes all random draws, wrong requests fail."""

import random

import numpy as np
import pytest
import torch

from featcache.errors import ModelError
from featcache.heads import HEADS, Dense, create_head
from featcache.heads.dense import Dropout

STORES = {
    "dense": [(3, 10)],
    "lstm": [(3, 10)],
    "fusion": [(3, 10), (1, 4)],
    "linear": [(3, 10)],
    "ffn": [(3, 10), (1, 4)],
    "attentive": [(3, 10), (1, 4)],
    "mlp": [(3, 10), (1, 4)],
}
NUM_FRAMES = [6, 1, 4]

# Rounding of float32 sums, possibly in different order.
TOLERANCE = 1e-6


@pytest.fixture(params=sorted(HEADS))
def name(request: pytest.FixtureRequest) -> str:
    return request.param


def create(name: str, seed: int = 123) -> Dense:
    num_layers, hidden_sizes = zip(*STORES[name], strict=True)
    return create_head(name, num_layers=num_layers, hidden_sizes=hidden_sizes, num_outputs=5, seed=seed)


def batch(name: str, seed: int = 0) -> list[list[torch.Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    return [
        [torch.randn(layers, frames, size, generator=generator) for frames in NUM_FRAMES]
        for layers, size in STORES[name]
    ]


def step(head: Dense, features: list[list[torch.Tensor]]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Return logits and gradients in training mode, with dropout."""
    head.zero_grad()
    logits = head(features)
    logits.square().sum().backward()
    return logits.detach(), {key: p.grad.clone() for key, p in head.named_parameters() if p.grad is not None}


def test_logits_have_one_row_per_utterance(name: str) -> None:
    logits = create(name)(batch(name))
    assert logits.shape == (3, 5)
    assert logits.dtype == torch.float32


@pytest.mark.parametrize("changed", range(3))
def test_an_utterance_reaches_its_own_row_alone(name: str, changed: int) -> None:
    head = create(name).eval()
    before = head(batch(name))
    for store in range(len(STORES[name])):
        features = batch(name)
        features[store][changed] += 1
        reached = (head(features) != before).any(dim=1)
        assert reached.tolist() == [position == changed for position in range(3)]


def test_an_utterance_alone_gives_its_row_of_the_batch(name: str) -> None:
    head = create(name).eval()
    features = batch(name)
    together = head(features)
    for i in range(len(NUM_FRAMES)):
        alone = head([store[i : i + 1] for store in features])
        torch.testing.assert_close(alone[0], together[i], rtol=0, atol=TOLERANCE)


def test_features_stay_as_they_were(name: str) -> None:
    features = batch(name)
    step(create(name), features)
    for store, fresh in zip(features, batch(name), strict=True):
        assert all(torch.equal(utterance, same) for utterance, same in zip(store, fresh, strict=True))


def test_layer_weights_are_given_for_stores_of_several_layers(name: str) -> None:
    found = create(name).layer_weights()
    assert len(found) == len(STORES[name])
    for weights, (layers, _) in zip(found, STORES[name], strict=True):
        if layers == 1:
            assert weights is None
        else:
            assert weights is not None
            assert not weights.requires_grad
            torch.testing.assert_close(weights, torch.full((layers,), 1 / layers), rtol=0, atol=TOLERANCE)


def train(heads: list[Dense], name: str, num_steps: int = 3) -> list[dict[str, torch.Tensor]]:
    """Train heads with dropout, alternately on each batch, and return the state of each head."""
    optimisers = [torch.optim.Adam(head.parameters(), lr=0.01) for head in heads]
    for number in range(num_steps):
        for head, optimiser in zip(heads, optimisers, strict=True):
            step(head, batch(name, seed=number))
            optimiser.step()
    return [head.state_dict() for head in heads]


def test_heads_that_take_turns_train_as_each_would_alone(name: str) -> None:
    together = train([create(name, seed=1), create(name, seed=2)], name)
    alone = [train([create(name, seed=seed)], name)[0] for seed in (1, 2)]
    torch.testing.assert_close(together, alone, rtol=0, atol=0)


def test_seeds_fix_weights_and_dropout(name: str) -> None:
    first, again, other = (train([create(name, seed=seed)], name, num_steps=0)[0] for seed in (1, 1, 2))
    torch.testing.assert_close(first, again, rtol=0, atol=0)
    # Weights are drawn; scalars, biases and the vector of attention scores have fixed initial values.
    drawn = [key for key in first if "weight" in key and "vector" not in key]
    assert drawn
    assert all(not torch.equal(first[key], other[key]) for key in drawn)
    head, same = create(name, seed=1), create(name, seed=1)
    logits = [head(batch(name)) for _ in range(2)]
    assert torch.equal(logits[0], logits[1]) == (name == "linear")  # linear has no dropout
    assert torch.equal(logits[0], same(batch(name)))


def test_initial_weights_do_not_depend_on_threads(name: str) -> None:
    before = torch.get_num_threads()
    found = []
    try:
        for threads in (1, 4):
            torch.set_num_threads(threads)
            found.append(create(name).state_dict())
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=0)


def test_global_random_state_is_neither_used_nor_changed(name: str) -> None:
    features = batch(name)
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    logits, _ = step(create(name), features)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert (random.getstate(), np.random.get_state()[1].tolist()) == states[1:]
    with torch.random.fork_rng():
        torch.manual_seed(99)
        assert torch.equal(step(create(name), features)[0], logits)


def test_dropout_drops_a_fifth_and_keeps_the_expectation() -> None:
    dropped = Dropout(torch.Generator().manual_seed(0))(torch.ones(500, 400))
    assert torch.unique(dropped).tolist() == pytest.approx([0, 1.25])
    # The tolerance is five standard errors of 200 000 draws.
    assert (dropped == 0).float().mean().item() == pytest.approx(0.2, abs=5 * (0.2 * 0.8 / 200_000) ** 0.5)


def test_dropout_passes_unchanged_outside_training() -> None:
    generator = torch.Generator().manual_seed(0)
    before = generator.get_state()
    inputs = torch.ones(3, 4)
    assert torch.equal(Dropout(generator).eval()(inputs), inputs)
    assert torch.equal(generator.get_state(), before)


def kept(head: Dense, name: str) -> torch.Tensor:
    """Return which inputs of the second layer its dropout keeps."""
    seen = []
    head.hidden.dropout.register_forward_hook(lambda _, inputs, output: seen.append(output != 0))
    head.branches[0].linear.bias.data.fill_(10.0)  # so that no output of the first ReLU is 0
    head(batch(name))
    return seen[0]


def test_lstm_shares_one_dropout_mask_over_the_frames_of_an_utterance() -> None:
    masks = kept(create("lstm"), "lstm")  # (batch, frames, units)
    longest, _, other = masks
    assert 0 < longest[0].float().mean() < 1
    assert (longest == longest[0]).all()
    assert (other[:4] == other[0]).all()
    assert not torch.equal(longest[0], other[0])


def test_dense_draws_a_dropout_mask_for_each_frame() -> None:
    masks = kept(create("dense"), "dense")  # (total_frames, units)
    assert not torch.equal(masks[0], masks[1])


def test_unknown_head_names_the_nearest() -> None:
    with pytest.raises(ModelError, match="no head 'dens'; did you mean 'dense'"):
        create_head("dens", num_layers=[13], hidden_sizes=[768], num_outputs=7, seed=1)


@pytest.mark.parametrize("single", ["dense", "lstm", "linear"])
def test_two_stores_ask_for_a_head_of_several(single: str) -> None:
    with pytest.raises(
        ModelError, match=f"head '{single}' takes one feature store, found 2; use 'fusion', .* or 'mlp'"
    ):
        create_head(single, num_layers=[13, 1], hidden_sizes=[768, 25], num_outputs=7, seed=1)


def test_fusion_of_one_store_asks_for_two() -> None:
    with pytest.raises(ModelError, match="'fusion' takes two or more feature stores, found 1; name two with --feat"):
        create_head("fusion", num_layers=[13], hidden_sizes=[768], num_outputs=7, seed=1)
