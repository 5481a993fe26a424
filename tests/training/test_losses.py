"""Objectives against NumPy's formulas and finite differences, and where nothing ever changes."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from featcache.training.losses import CLASSIFICATION, REGRESSION, ccc, ccc_loss

# float64 on both sides; 1e-8 in the denominator moves a CCC of values that vary by 0.01 by as much as this.
FORMULA = 1e-3

shapes = st.tuples(st.integers(2, 9), st.integers(1, 3))


def values(shape):
    return arrays(np.float64, shape, elements=st.floats(-3, 3).map(lambda value: round(value, 2)))


def plain_ccc(predictions, targets):
    """Lin 1989: 2 ρ σ σ' / (σ² + σ'² + (μ - μ')²), one target after another."""
    found = []
    for one, other in zip(predictions.T, targets.T, strict=True):
        covariance = np.cov(one, other, bias=True)
        spread = covariance[0, 0] + covariance[1, 1] + (one.mean() - other.mean()) ** 2
        found.append(2 * covariance[0, 1] / spread if spread else 0)
    return np.array(found)


@given(pair=shapes.flatmap(lambda shape: st.tuples(values(shape), values(shape))))
def test_ccc_is_the_formula(pair):
    predictions, targets = pair
    found = ccc(*map(torch.from_numpy, pair)).numpy()
    np.testing.assert_allclose(found, plain_ccc(predictions, targets), atol=FORMULA)
    assert float(ccc_loss(*map(torch.from_numpy, pair))) == pytest.approx(1 - found.mean())
    assert REGRESSION.score(*map(torch.from_numpy, pair)) == pytest.approx(found.mean())


def test_ccc_of_what_agrees_is_1_and_of_its_opposite_minus_1(rng):
    targets = torch.from_numpy(rng.normal(size=(20, 2)))
    centred = targets - targets.mean(dim=0)
    np.testing.assert_allclose(ccc(targets, targets), 1)
    np.testing.assert_allclose(ccc(-centred, centred), -1)
    assert (ccc(targets + 1, targets) < 0.9).all()  # unlike correlation, it minds an offset
    assert (ccc(3 * targets, targets) < 0.9).all()  # and a scale


@pytest.mark.parametrize("number", [2, 5])
def test_gradients_agree_with_finite_differences(rng, number):
    predictions, targets = (torch.from_numpy(rng.normal(size=(number, 2))) for _ in range(2))
    assert torch.autograd.gradcheck(lambda given: ccc_loss(given, targets), predictions.requires_grad_())


@pytest.mark.parametrize(
    ("predictions", "targets"),
    [
        ([[0.3]], [[0.7]]),  # a batch of one
        ([[0.3]], [[0.3]]),
        ([[0.0], [0.0]], [[0.0], [0.0]]),
        ([[0.5], [0.5]], [[0.1], [0.9]]),
        ([[0.1], [0.9]], [[0.5], [0.5]]),
        ([[0.5], [0.5]], [[0.2], [0.2]]),
        ([[1e-6], [-1e-6]], [[1e-6], [-1e-6]]),
    ],
)
def test_where_nothing_changes_the_loss_and_its_gradient_are_finite(predictions, targets):
    predictions = torch.tensor(predictions, requires_grad=True)
    loss = ccc_loss(predictions, torch.tensor(targets))
    loss.backward()
    assert float(loss.detach()) == pytest.approx(1, abs=1e-3)
    assert predictions.grad.isfinite().all()


def test_classification_is_the_mean_cross_entropy_and_is_told_in_uar():
    logits = torch.tensor([[2.0, 0.0], [0.0, 1.0], [3.0, 0.0]])
    targets = torch.tensor([0, 1, 1])
    plain = [-np.log(np.exp(row[t]) / np.exp(row).sum()) for row, t in zip(logits.numpy(), targets, strict=True)]
    assert float(CLASSIFICATION.loss(logits, targets)) == pytest.approx(np.mean(plain))
    assert CLASSIFICATION.score(logits, targets) == pytest.approx((1 + 0.5) / 2)
    np.testing.assert_allclose(CLASSIFICATION.predictions(logits).sum(dim=1), 1, rtol=1e-6)


def test_a_regression_predicts_what_comes_out():
    outputs = torch.tensor([[0.3, -2.0]])
    assert REGRESSION.predictions(outputs).tolist() == outputs.tolist()
