"""LayerWeights against its formula, its limits and finite differences."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from featcache.errors import ModelError
from featcache.heads import LayerWeights

# float32 sums of a few terms of order 1
TOLERANCE = 1e-6


def layers(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def with_scalars(scalars: list[float], kind: str) -> LayerWeights:
    module = LayerWeights(len(scalars), kind)
    with torch.no_grad():
        module.scalars.copy_(torch.tensor(scalars))
    return module


@pytest.mark.parametrize("kind", ["abs", "softmax"])
def test_equal_weights_give_the_mean_of_the_layers(kind: str) -> None:
    features = layers(3, 5, 7, 4)
    averaged = torch.stack(LayerWeights(5, kind)(features))
    torch.testing.assert_close(averaged, features.mean(dim=1), rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize(("kind", "start"), [("abs", 1.0), ("softmax", 0.0)])
def test_scalars_start_as_published(kind: str, start: float) -> None:
    assert LayerWeights(4, kind).scalars.tolist() == [start] * 4


def test_weights_follow_their_formulas() -> None:
    scalars = [1.0, -3.0, 0.5]
    expected = {"abs": [1 / 4.5, 3 / 4.5, 0.5 / 4.5], "softmax": [math.exp(a) for a in scalars]}
    expected["softmax"] = [w / sum(expected["softmax"]) for w in expected["softmax"]]
    for kind, weights in expected.items():
        assert with_scalars(scalars, kind).weights().tolist() == pytest.approx(weights, abs=TOLERANCE)


def test_utterances_of_any_length_are_averaged_with_the_same_weights() -> None:
    module = with_scalars([2.0, -1.0, 1.0], "abs")
    for layers_of_one in (layers(3, 1, 6), layers(3, 8, 6), layers(3, 8, 6)[:, :5]):
        (averaged,) = module([layers_of_one])
        expected = 0.5 * layers_of_one[0] + 0.25 * layers_of_one[1] + 0.25 * layers_of_one[2]
        torch.testing.assert_close(averaged, expected, rtol=0, atol=TOLERANCE)


@given(
    scalars=st.lists(st.floats(-1e6, 1e6, width=32), min_size=2, max_size=25),
    kind=st.sampled_from(["abs", "softmax"]),
)
def test_weights_are_a_distribution(scalars: list[float], kind: str) -> None:
    weights = with_scalars(scalars, kind).weights()
    assert (weights >= 0).all()
    # 25 float32 roundings
    assert weights.sum().item() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("scalars", [[0.0, 1.0, -2.0], [0.0, 0.0, 0.0]])
def test_zero_scalars_have_finite_weights_and_gradients(scalars: list[float]) -> None:
    module = with_scalars(scalars, "abs")
    torch.stack(module(100 * layers(2, 3, 4, 5))).square().sum().backward()
    assert module.scalars.grad is not None
    assert module.scalars.grad.isfinite().all()
    assert module.weights().sum().item() == pytest.approx(1, abs=TOLERANCE)


def test_one_layer_has_no_parameter_and_passes_unchanged() -> None:
    features = layers(2, 1, 4, 5)
    module = LayerWeights(1)
    assert list(module.parameters()) == []
    assert module.state_dict() == {}
    assert torch.equal(torch.stack(module(features)), features[:, 0])


@pytest.mark.parametrize("kind", ["abs", "softmax"])
def test_gradients_agree_with_finite_differences(kind: str) -> None:
    module = with_scalars([1.5, -0.75, 0.5], kind).double()
    features = layers(2, 3, 4, 5).double().requires_grad_()

    def averaged(scalars: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        return torch.stack(torch.func.functional_call(module, {"scalars": scalars}, (features,)))

    scalars = module.scalars.detach().requires_grad_()
    assert torch.autograd.gradcheck(averaged, (scalars, features))


def test_unknown_kind_names_the_known_ones() -> None:
    with pytest.raises(ModelError, match="unknown layer weighting 'softmx'; nearest: softmax"):
        LayerWeights(3, "softmx")
