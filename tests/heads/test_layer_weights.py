"""LayerWeights against its formula, limiting cases and finite differences."""

import math
from collections.abc import Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from featcache.errors import ModelError
from featcache.heads import LayerWeights
from featcache.heads.layer_weights import _Average
from featcache.heads.packed import Packed, pack

# Rounding of float32 sums of a few terms of order 1.
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
    features = [layers(5, num_frames, 4) for num_frames in (7, 1, 3)]
    averaged = LayerWeights(5, kind)(features)
    torch.testing.assert_close(averaged, torch.cat(features, dim=1).mean(dim=0), rtol=0, atol=TOLERANCE)


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
        averaged = module([layers_of_one])
        expected = 0.5 * layers_of_one[0] + 0.25 * layers_of_one[1] + 0.25 * layers_of_one[2]
        torch.testing.assert_close(averaged, expected, rtol=0, atol=TOLERANCE)


@given(
    scalars=st.lists(st.floats(-1e6, 1e6, width=32), min_size=2, max_size=25),
    kind=st.sampled_from(["abs", "softmax"]),
)
def test_weights_are_a_distribution(scalars: list[float], kind: str) -> None:
    weights = with_scalars(scalars, kind).weights()
    assert (weights >= 0).all()
    # The tolerance allows for 25 float32 roundings.
    assert weights.sum().item() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("scalars", [[0.0, 1.0, -2.0], [0.0, 0.0, 0.0]])
def test_zero_scalars_have_finite_weights_and_gradients(scalars: list[float]) -> None:
    module = with_scalars(scalars, "abs")
    module([100 * layers(3, 4, 5), 100 * layers(3, 2, 5)]).square().sum().backward()
    assert module.scalars.grad is not None
    assert module.scalars.grad.isfinite().all()
    assert module.weights().sum().item() == pytest.approx(1, abs=TOLERANCE)


def test_one_layer_has_no_parameter_and_passes_unchanged() -> None:
    features = layers(1, 4, 5)
    module = LayerWeights(1)
    assert list(module.parameters()) == []
    assert module.state_dict() == {}
    assert torch.equal(module([features[:, :1], features[:, 1:]]), features[0])


@pytest.mark.parametrize("kind", ["abs", "softmax"])
def test_gradients_of_the_weights_agree_with_finite_differences(kind: str) -> None:
    module = with_scalars([1.5, -0.75, 0.5], kind).double()
    assert torch.autograd.gradcheck(lambda _: module.weights(), module.scalars)


# Averages of n layers and gradients over m values are float32 sums of n and m products. Their rounding errors, 6e-8
# each, add up to at most this share of the sum of magnitudes.
SUMS = 1e-5


def averaged_and_gradient(
    utterances: Sequence[Packed], weights: Tensor, gradient: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return average and gradient as plain sums in float64, each followed by the sum of magnitudes."""
    whole = torch.cat([u.values.double() * (1 if u.step is None else u.step.double()) for u in utterances], dim=1)
    average = torch.einsum("l,lfd->fd", weights.double(), whole)
    of_weights = torch.einsum("fd,lfd->l", gradient.double(), whole)
    return (
        average,
        torch.einsum("l,lfd->fd", weights.double().abs(), whole.abs()),
        of_weights,
        torch.einsum("fd,lfd->l", gradient.double().abs(), whole.abs()),
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.int8])
@pytest.mark.parametrize("kind", ["abs", "softmax"])
@given(
    num_layers=st.integers(1, 5),
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=4),
    size=st.integers(1, 6),
    seed=st.integers(0, 9),
)
def test_averages_and_gradients_are_the_plain_sums_of_what_is_held(
    dtype: torch.dtype, kind: str, num_layers: int, lengths: list[int], size: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    utterances = [pack(torch.randn(num_layers, length, size, generator=generator), dtype) for length in lengths]
    weights = torch.randn(num_layers, generator=generator).requires_grad_()
    gradient = torch.randn(sum(lengths), size, generator=generator)
    found = _Average.apply(weights, utterances, torch.float32)
    found.backward(gradient)
    average, magnitude, of_weights, of_magnitudes = averaged_and_gradient(utterances, weights.detach(), gradient)
    assert found.dtype == torch.float32
    assert ((found.detach() - average).abs() <= SUMS * magnitude).all()
    assert ((weights.grad - of_weights).abs() <= SUMS * of_magnitudes).all()
    # Gradients of the scalars follow from torch's own derivative of the weights.
    module = with_scalars([1.5, -0.75, 0.5, 2.0, -1.0][:num_layers], kind)
    if num_layers > 1:
        module(utterances).backward(gradient)
        plain = with_scalars([1.5, -0.75, 0.5, 2.0, -1.0][:num_layers], kind)
        plain.weights().backward(of_weights.float())
        torch.testing.assert_close(
            module.scalars.grad, plain.scalars.grad, rtol=0, atol=SUMS * float(of_magnitudes.max())
        )


def test_under_autocast_averages_are_rounded_to_bfloat16_once() -> None:
    module, utterances = with_scalars([2.0, -1.0, 1.0], "abs"), [layers(3, 4, 5), layers(3, 1, 5)]
    exact = module(utterances)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = module(utterances)
    assert torch.equal(rounded, exact.bfloat16())


def test_features_get_the_gradient_of_a_plain_average_if_they_need_one() -> None:
    features, module = layers(3, 4, 5).requires_grad_(), with_scalars([2.0, -1.0, 1.0], "abs")
    gradient = layers(4, 5)
    module([features]).backward(gradient)
    expected = module.weights().detach()[:, None, None] * gradient
    torch.testing.assert_close(features.grad, expected, rtol=0, atol=SUMS * float(gradient.abs().max()))


def test_unknown_kind_names_the_known_ones() -> None:
    with pytest.raises(ModelError, match="no layer weighting 'softmx'; did you mean 'softmax'"):
        LayerWeights(3, "softmx")
