"""Options of the built-in heads against plain torch modules with the same weights."""

import itertools

import pytest
import torch
from torch import nn

from featcache.errors import ModelError
from featcache.heads import HEADS, create_head, head_spec, head_weights
from featcache.heads.dropout import Dropout
from featcache.settings.checked import configured
from featcache.settings.field import settings_of, values_of

NUM_FRAMES = [6, 1, 4]
STORES = {name: [(3, 10), (1, 4)] for name in ("fusion", "ffn", "attentive", "mlp")}
ONE = [(3, 10)]
# Rounding of float32 sums of several hundred terms in different order.
TOLERANCE = 1e-5


def options_of(name, **given):
    return configured(head_spec(name).options, given, f"head {name!r}")


def create(name, *, paired=True, seed=1, **given):
    num_layers, hidden_sizes = zip(*STORES.get(name, ONE), strict=True)
    return create_head(
        name,
        num_layers=num_layers,
        hidden_sizes=hidden_sizes,
        num_outputs=5,
        paired=paired,
        options=options_of(name, **given),
        seed=seed,
    )


def batch(name):
    generator = torch.Generator().manual_seed(0)
    return [
        [torch.randn(layers, frames, size, generator=generator) for frames in NUM_FRAMES]
        for layers, size in STORES.get(name, ONE)
    ]


def plain_of(layer):
    """Return a torch module with the weights of a hidden layer, and whether it is recurrent."""
    state = dict(layer.named_parameters())
    if "linear.weight" in state:
        made = nn.Linear(*state["linear.weight"].shape[::-1])
        made.load_state_dict({"weight": state["linear.weight"], "bias": state["linear.bias"]})
        return made, False
    [cell] = {name.split(".")[0] for name in state}
    weights = {name.partition(".")[2]: values for name, values in state.items()}
    kind = {"lstm": nn.LSTM, "gru": nn.GRU}[cell]
    made = kind(
        weights["weight_ih_l0"].shape[1],
        weights["weight_hh_l0"].shape[1],
        bidirectional="weight_ih_l0_reverse" in weights,
        batch_first=True,
    )
    made.load_state_dict(weights)
    return made, True


def expected(head, features):
    """Return the logits of each utterance separately; layer weights are equal, so the first average is a mean."""
    rows = []
    for i in range(len(NUM_FRAMES)):
        first = [
            plain_of(branch)[0](store[i].mean(dim=0)).relu()
            for store, branch in zip(features, head.branches, strict=True)
        ]
        frames = torch.cat(first, dim=1)
        for layer in [head.hidden, *head.further] if head.hidden is not None else []:
            made, recurrent = plain_of(layer)
            frames = (made(frames[None])[0][0] if recurrent else made(frames)).relu()
        rows.append(head.output(frames.mean(dim=0)))
    return torch.stack(rows)


FRAMED = [
    *(("dense", {"num_hidden": n, "hidden_units": u}) for n, u in [(1, 7), (2, 7), (3, 5), (4, 1)]),
    *(("fusion", {"num_hidden": n, "hidden_units": u}) for n, u in [(1, 7), (2, 7), (3, 5)]),
    *(
        ("lstm", {"num_hidden": n, "hidden_units": 6, "cell": cell, "bidirectional": both})
        for n, cell, both in itertools.product((2, 3), ("lstm", "gru"), (False, True))
    ),
]


@pytest.mark.parametrize(("name", "given"), FRAMED, ids=str)
def test_hidden_layers_are_what_plain_torch_computes(name, given):
    head = create(name, **given).eval()
    torch.testing.assert_close(head(batch(name)), expected(head, batch(name)), rtol=0, atol=TOLERANCE)
    count = sum(1 for _ in head.branches) // len(STORES.get(name, ONE)) + (head.hidden is not None) + len(head.further)
    assert count == given["num_hidden"]


def test_fusion_of_unpaired_stores_has_as_many_layers():
    head = create("fusion", paired=False, num_hidden=3, hidden_units=6).eval()
    rows = []
    for i in range(len(NUM_FRAMES)):
        means = [
            plain_of(branch)[0](store[i].mean(dim=0)).relu().mean(dim=0)
            for store, branch in zip(batch("fusion"), head.branches, strict=True)
        ]
        vector = torch.cat(means)
        for layer in (head.hidden, *head.further):
            vector = plain_of(layer)[0](vector).relu()
        rows.append(head.output(vector))
    torch.testing.assert_close(head(batch("fusion")), torch.stack(rows), rtol=0, atol=TOLERANCE)


def test_linear_projects_to_as_many_dimensions():
    head = create("linear", projection=9).eval()
    means = torch.stack([values.mean(dim=(0, 1)) for values in batch("linear")[0]])
    assert head.projection.weight.shape == (9, 10)
    torch.testing.assert_close(head(batch("linear")), head.output(head.projection(means)), rtol=0, atol=TOLERANCE)


def test_ffn_is_as_wide_as_asked_or_as_the_largest_store():
    head = create("ffn", hidden_units=7).eval()
    rows = []
    for i in range(len(NUM_FRAMES)):
        frames = [store[i].mean(dim=0) for store in batch("ffn")]
        vector = torch.cat([part for one in frames for part in (one.mean(dim=0), one.amax(dim=0))])
        rows.append(head.output(head.hidden(vector).tanh()))
    assert head.hidden.weight.shape == (7, 28)
    torch.testing.assert_close(head(batch("ffn")), torch.stack(rows), rtol=0, atol=TOLERANCE)
    assert create("ffn").hidden.weight.shape == (10, 28)


def test_mlp_has_as_many_layers():
    head = create("mlp", num_hidden=3, hidden_units=6).eval()
    vector = torch.stack([torch.cat([store[i].mean(dim=(0, 1)) for store in batch("mlp")]) for i in range(3)])
    for layer in head.layers:
        vector = plain_of(layer)[0](vector).relu()
    assert len(head.layers) == 3
    torch.testing.assert_close(head(batch("mlp")), head.output(vector), rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("name", ["dense", "lstm", "fusion", "ffn", "attentive", "mlp"])
def test_without_dropout_training_computes_what_evaluation_does_and_draws_nothing(name):
    head = create(name, dropout=0)
    before = head.generator.get_state()
    assert torch.equal(head.train()(batch(name)), head.eval()(batch(name)))
    assert torch.equal(head.generator.get_state(), before)


@pytest.mark.parametrize("name", ["dense", "lstm", "fusion", "ffn", "attentive", "mlp"])
@pytest.mark.parametrize("rate", [0.05, 0.5, 0.9])
def test_each_dropout_has_the_rate_that_was_asked_for(name, rate):
    rates = [module.rate for module in create(name, dropout=rate).modules() if isinstance(module, Dropout)]
    assert rates
    assert set(rates) == {rate}


@pytest.mark.parametrize("rate", [1e-6, 0.01, 0.3, 0.7, 0.99])
def test_dropout_of_any_rate_keeps_the_expectation(rate):
    number = 400_000
    dropped = Dropout(torch.Generator().manual_seed(0), rate=rate)(torch.ones(number))
    share = (dropped == 0).double().mean().item()
    # The tolerance is five standard errors, and the resolution of 15 bits.
    assert share == pytest.approx(rate, abs=5 * (rate * (1 - rate) / number) ** 0.5 + 2**-15)
    kept = dropped[dropped != 0]
    torch.testing.assert_close(kept, torch.full_like(kept, 1 / (1 - rate)), rtol=1e-5, atol=0)


@pytest.mark.parametrize("rate", [1.0, -0.1, float("nan")])
def test_a_rate_that_leaves_nothing_is_refused(rate):
    with pytest.raises(ValueError, match=r"dropout rate .*: expected at least 0 and below 1"):
        Dropout(torch.Generator(), rate=rate)


@pytest.mark.parametrize("name", HEADS)
def test_the_default_options_are_the_published_head(name):
    one, other = (
        create(name),
        create_head(
            name,
            num_layers=[layers for layers, _ in STORES.get(name, ONE)],
            hidden_sizes=[size for _, size in STORES.get(name, ONE)],
            num_outputs=5,
            seed=1,
        ),
    )
    assert list(one.state_dict()) == list(other.state_dict())
    assert all(torch.equal(values, other.state_dict()[key]) for key, values in one.state_dict().items())
    assert values_of(one.options) == values_of(other.options)
    assert not [key for key in one.state_dict() if key.startswith("further")]


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_recurrent_weights_start_orthogonal_in_both_directions(cell):
    state = create("lstm", cell=cell, bidirectional=True, hidden_units=8).state_dict()
    for direction in ("", "_reverse"):
        recurrent = state[f"hidden.{cell}.weight_hh_l0{direction}"]
        torch.testing.assert_close(recurrent.T @ recurrent, torch.eye(8), rtol=0, atol=TOLERANCE)
        gates = state[f"hidden.{cell}.bias_ih_l0{direction}"].reshape(-1, 8)
        assert gates.sum() == (8 if cell == "lstm" else 0)  # biases of the forget gate
        assert not state[f"hidden.{cell}.bias_hh_l0{direction}"].any()


REFUSED = [
    ("dense", {"hidden_unit": 3}, "no option 'hidden_unit'; did you mean 'hidden_units'"),
    ("dense", {"hidden_units": 0}, "hidden_units takes a number of at least 1, got 0"),
    ("dense", {"num_hidden": 10**9}, "num_hidden takes a number of at most 16"),
    ("dense", {"num_hidden": 0}, "num_hidden takes a number of at least 1"),
    ("lstm", {"num_hidden": 1}, "num_hidden takes a number of at least 2"),
    ("lstm", {"cell": "rnn"}, "cell takes lstm or gru, got 'rnn'"),
    ("lstm", {"bidirectional": "perhaps"}, "bidirectional takes true or false"),
    ("dense", {"dropout": 1}, "dropout takes a number of at most 0.99"),
    ("linear", {"projection": 10**9}, "projection takes a number of at most 16384"),
    ("linear", {"dropout": 0.1}, "no option 'dropout'"),
    ("ffn", {"hidden_units": -1}, "hidden_units takes a number of at least 1"),
    ("svm", {"dropout": 0.1}, "head 'svm': no option 'dropout'; it has no options"),
]


@pytest.mark.parametrize(("name", "given", "message"), REFUSED)
def test_options_that_cannot_be_are_told_in_one_line(name, given, message):
    with pytest.raises(ModelError, match=message) as error:
        options_of(name, **given)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", HEADS)
def test_every_option_has_a_help_text_and_numbers_have_bounds(name):
    for option, (field, about) in settings_of(head_spec(name).options).items():
        assert about.help.endswith("."), option
        if not isinstance(field.default, bool | str):
            assert {"ge", "le"} == set(about.bounds()), option


@pytest.mark.parametrize(("name", "given"), FRAMED, ids=str)
def test_shapes_without_memory_are_those_of_the_head(name, given):
    made = create(name, **given).state_dict()
    num_layers, hidden_sizes = zip(*STORES.get(name, ONE), strict=True)
    found = head_weights(
        name, num_layers=num_layers, hidden_sizes=hidden_sizes, num_outputs=5, options=options_of(name, **given)
    )
    assert {key: one.device.type for key, one in found.items()} == dict.fromkeys(made, "meta")
    assert {key: (one.shape, one.dtype) for key, one in found.items()} == {
        key: (one.shape, one.dtype) for key, one in made.items()
    }
