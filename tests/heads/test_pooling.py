"""Heads that pool each store separately, against plain loops over utterances."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from featcache.heads import FFN, Fusion, PooledFusion, create_head
from featcache.heads.dropout import Dropout

NUM_OUTPUTS = 3
# The reference computes in float64, the head in float32 with sums of several dozen terms.
TOLERANCE = 1e-5
NAMES = ["ffn", "fusion"]

stores = st.lists(st.tuples(st.integers(1, 3), st.integers(1, 5)), min_size=1, max_size=3)


def create(name, shapes, seed=1, **options):
    num_layers, hidden_sizes = zip(*shapes, strict=True)
    sizes = {"num_layers": num_layers, "hidden_sizes": hidden_sizes, "num_outputs": NUM_OUTPUTS}
    head = create_head(name, **sizes, paired=False, seed=seed, **options)
    # Change scalars and biases from their initial values, as training does.
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for key, value in head.named_parameters():
            if key.endswith(("scalars", "bias")):
                value.add_(0.3 * torch.randn(value.shape, generator=generator))
    return head


def batch_of(shapes, lengths, seed=0):
    """Make a tensor per store and utterance; ``lengths`` is the number of frames of each utterance in each store."""
    generator = torch.Generator().manual_seed(seed)
    return [
        [torch.randn(layers, of_stores[store], size, generator=generator) for of_stores in lengths]
        for store, (layers, size) in enumerate(shapes)
    ]


def plain(name, parameters, utterance):
    """Compute the outputs of one utterance in float64, with gradients of the parameters, without dropout."""
    pooled = []
    for i, layers in enumerate(map(torch.Tensor.double, utterance)):
        scalars = parameters.get(f"averages.{i}.scalars", torch.ones(len(layers), dtype=torch.float64)).abs()
        frames = sum(scalar * layer for scalar, layer in zip(scalars, layers, strict=True)) / scalars.sum()
        if name == "ffn":
            pooled += [frames.mean(dim=0), frames.max(dim=0).values]
        else:
            hidden = [affine(parameters, f"branches.{i}.linear", frame).relu() for frame in frames]
            pooled.append(sum(hidden) / len(hidden))
    vector = torch.cat(pooled)
    if name == "ffn":
        return affine(parameters, "output", affine(parameters, "hidden", vector).tanh())
    return affine(parameters, "output", affine(parameters, "hidden.linear", vector).relu())


def affine(parameters, layer, inputs):
    return parameters[f"{layer}.weight"] @ inputs + parameters[f"{layer}.bias"]


@st.composite
def batches(draw, min_stores=1):
    shapes = draw(stores.filter(lambda shapes: len(shapes) >= min_stores))
    of_stores = st.lists(st.integers(1, 6), min_size=len(shapes), max_size=len(shapes))
    return shapes, draw(st.lists(of_stores, min_size=1, max_size=4))


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=30)
@given(data=st.data())
def test_outputs_and_gradients_are_those_of_a_plain_loop(name, data):
    shapes, lengths = data.draw(batches(min_stores=2 if name == "fusion" else 1))
    head = create(name, shapes).eval()
    assert type(head) is {"ffn": FFN, "fusion": PooledFusion}[name]
    features = batch_of(shapes, lengths)
    parameters = {key: value.detach().double().requires_grad_() for key, value in head.named_parameters()}
    expected = torch.stack([plain(name, parameters, utterance) for utterance in zip(*features, strict=True)])
    found = head(features)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=TOLERANCE)
    found.square().sum().backward()
    expected.square().sum().backward()
    for key, value in head.named_parameters():
        torch.testing.assert_close(value.grad.double(), parameters[key].grad, rtol=TOLERANCE, atol=10 * TOLERANCE)


def statistics(utterance):
    """Return means and maxima over frames: (1, num_frames, size) → (1, 1, 2 × size)."""
    return torch.cat([utterance.mean(dim=1, keepdim=True), utterance.amax(dim=1, keepdim=True)], dim=2)


@settings(max_examples=30)
@given(batch=batches(), training=st.booleans())
def test_ffn_learns_the_same_from_statistics_of_single_layers(batch, training):
    shapes, lengths = [(1, size) for _, size in batch[0]], batch[1]
    features = batch_of(shapes, lengths)
    steps = []
    for pooling, given_out in (
        (None, features),
        ("mean+max", [list(map(statistics, utterances)) for utterances in features]),
    ):
        head = create("ffn", shapes, pooling=pooling).train(training)  # dropout draws the same masks
        outputs = head(given_out)
        outputs.square().sum().backward()
        steps.append([outputs.detach(), *(value.grad for value in head.parameters())])
    torch.testing.assert_close(steps[0], steps[1], rtol=TOLERANCE, atol=TOLERANCE)


def test_ffn_of_means_is_the_head_of_wagner_et_al():
    head = create("ffn", [(1, 6)], pooling="mean").eval()
    assert {key: tuple(value.shape) for key, value in head.state_dict().items()} == {
        "hidden.weight": (6, 6),
        "hidden.bias": (6,),
        "output.weight": (NUM_OUTPUTS, 6),
        "output.bias": (NUM_OUTPUTS,),
    }
    [means] = batch_of([(1, 6)], [[1]] * 4)
    vectors = torch.cat(means, dim=1)[0]
    expected = head.output(torch.tanh(head.hidden(vectors)))
    torch.testing.assert_close(head([means]), expected, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("shapes", [[(3, 8), (2, 5)], [(2, 5), (3, 8)]])
def test_ffn_is_as_wide_as_the_largest_hidden_size(shapes):
    head = create("ffn", shapes)
    scalars, inputs = 3 + 2, 2 * (8 + 5)
    assert head.hidden.weight.shape == (8, inputs)
    expected = scalars + (inputs * 8 + 8) + (8 * NUM_OUTPUTS + NUM_OUTPUTS)
    assert sum(value.numel() for value in head.parameters()) == expected


def test_ffn_drops_a_tenth_before_each_of_its_layers():
    head = create("ffn", [(1, 200)])
    seen = []
    head.dropout.register_forward_hook(lambda _, inputs, output: seen.append((inputs[0], output)))
    head(batch_of([(1, 200)], [[3]] * 300))
    assert [inputs.shape for inputs, _ in seen] == [(300, 400), (300, 200)]
    for inputs, output in seen:
        kept = output != 0
        # The tolerance is five standard errors.
        error = 5 * (0.1 * 0.9 / inputs.numel()) ** 0.5
        assert (~kept).float().mean().item() == pytest.approx(0.1, abs=error)
        torch.testing.assert_close(output[kept], inputs[kept] / 0.9, rtol=1e-6, atol=0)


@pytest.mark.parametrize("rate", [0.05, 0.1, 0.2, 0.5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dropout_of_any_rate_keeps_the_expectation(rate, dtype):
    dropped = Dropout(torch.Generator().manual_seed(0), rate=rate)(torch.ones(500, 400, dtype=dtype))
    assert dropped.dtype == dtype
    assert (dropped == 0).float().mean().item() == pytest.approx(rate, abs=5 * (rate * (1 - rate) / 200_000) ** 0.5)
    assert dropped.max().item() == pytest.approx(1 / (1 - rate), rel=torch.finfo(dtype).eps)


def test_fusion_starts_alike_whether_frames_pair_or_not():
    sizes = {"num_layers": [3, 1], "hidden_sizes": [4, 6], "num_outputs": NUM_OUTPUTS, "seed": 5}
    paired, pooled = create_head("fusion", **sizes), create_head("fusion", paired=False, **sizes)
    assert type(paired) is Fusion
    torch.testing.assert_close(paired.state_dict(), pooled.state_dict(), rtol=0, atol=0)
    # With a single frame per utterance, the position of the mean over frames makes no difference.
    features = batch_of([(3, 4), (1, 6)], [[1, 1]] * 3)
    torch.testing.assert_close(paired.eval()(features), pooled.eval()(features), rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("name", NAMES)
def test_frames_of_one_store_are_no_matter_to_the_other(name):
    """Repeated frames change neither a mean nor a maximum, in either store."""
    shapes = [(2, 4), (3, 5)]
    head = create(name, shapes).eval()
    features = batch_of(shapes, [[4, 2], [1, 3]])
    expected = head(features)
    for store in range(2):
        twice = [[torch.cat([x, x], dim=1) if i == store else x for x in of] for i, of in enumerate(features)]
        torch.testing.assert_close(head(twice), expected, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("name", NAMES)
def test_under_autocast_outputs_are_float32_and_close(name):
    shapes = [(2, 4), (3, 5)]
    head = create(name, shapes).eval()
    features = batch_of(shapes, [[4, 2], [1, 3], [6, 1]])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = head(features)
    assert rounded.dtype == torch.float32
    # The tolerance is for three successive products with eight bits each.
    np.testing.assert_allclose(rounded.detach(), head(features).detach(), atol=0.05)
