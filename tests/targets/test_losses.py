"""Losses and scores agree with NumPy formulas and finite differences, and stay finite for constant labels."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from featcache.targets.losses import CLASSIFICATION, REGRESSION, ccc, ccc_loss, classification, regression

# Both sides are float64; the constant in the denominator changes the CCC by at most this much.
FORMULA = 1e-4
# The formula is computed in float64, the CCC with sums that are rounded to float32.
FLOAT32 = 1e-5

shapes = st.tuples(st.integers(2, 9), st.integers(1, 3))


def values(shape):
    return arrays(np.float64, shape, elements=st.floats(-3, 3).map(lambda value: round(value, 2)))


def plain_ccc(predictions, targets):
    """Compute 2 ρ σ σ' / (σ² + σ'² + (μ - μ')²) of each target (Lin 1989)."""
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
    assert (ccc(targets + 1, targets) < 0.9).all()  # unlike correlation, an offset lowers it
    assert (ccc(3 * targets, targets) < 0.9).all()  # a scale lowers it too


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
    ],
)
def test_where_nothing_changes_the_loss_and_its_gradient_are_finite(predictions, targets):
    predictions = torch.tensor(predictions, requires_grad=True)
    loss = ccc_loss(predictions, torch.tensor(targets))
    loss.backward()
    assert float(loss.detach()) == pytest.approx(1, abs=1e-3)
    assert predictions.grad.isfinite().all()


SPANS = [1e-2, 1e-3, 1e-4, 1e-5, 1e-6]


def narrow(rng, span, base):
    """Return float32 labels in a small part of the declared range [0, 1]."""
    return torch.tensor(base + span * rng.random((200, 1)), dtype=torch.float32)


@pytest.mark.parametrize("base", [0.0, 0.5, 0.99])
@pytest.mark.parametrize("span", SPANS)
def test_labels_in_a_small_part_of_their_range_are_scored_by_the_formula(rng, span, base):
    targets = narrow(rng, span, base)
    assert float(ccc(targets, targets)) == pytest.approx(1, abs=FORMULA)
    for predictions in (
        targets + 0.3 * span * torch.from_numpy(rng.normal(size=(200, 1))).float(),
        targets.roll(1, dims=0),
        targets + span,
        torch.full_like(targets, 0.5),
    ):
        expected = plain_ccc(predictions.double().numpy(), targets.double().numpy())
        np.testing.assert_allclose(ccc(predictions, targets), expected, atol=FORMULA + FLOAT32)
        assert REGRESSION.score(predictions, targets) == pytest.approx(float(expected[0]), abs=FORMULA + FLOAT32)


@pytest.mark.parametrize("base", [0.0, 0.5])
@pytest.mark.parametrize("span", [*SPANS, 0.0])
def test_gradients_are_finite_however_little_labels_differ(rng, span, base):
    targets = narrow(rng, span, base)
    for start in (torch.full_like(targets, base), torch.full_like(targets, 3.0), targets.clone()):
        predictions = start.requires_grad_()
        ccc_loss(predictions, targets).backward()
        assert predictions.grad.isfinite().all()


def test_the_worse_of_two_predictions_scores_less_however_little_labels_differ(rng):
    for span in SPANS:
        targets = narrow(rng, span, 0.5)
        noise = torch.from_numpy(rng.normal(size=(200, 1))).float()
        scores = [float(ccc(targets + share * span * noise, targets)) for share in (0.0, 0.1, 0.3, 1.0)]
        assert scores == sorted(scores, reverse=True), span


def unscaled_ccc(predictions, targets):
    """Compute the CCC with the constant 1e-8 of earlier versions, which did not depend on the labels."""
    mean, target_mean = predictions.mean(dim=0), targets.mean(dim=0)
    deviations, target_deviations = predictions - mean, targets - target_mean
    covariance = (deviations * target_deviations).mean(dim=0)
    spread = deviations.square().mean(dim=0) + target_deviations.square().mean(dim=0) + (mean - target_mean).square()
    return 2 * covariance / (spread + 1e-8)


@pytest.mark.parametrize(
    "labels",
    [
        lambda rng, shape: rng.random(shape),
        lambda rng, shape: rng.integers(0, 7, shape) / 6,
        lambda rng, shape: np.round(rng.normal(3, 0.6, shape).clip(0, 6) * 5) / 30,  # means of five annotators
    ],
)
def test_ordinary_labels_are_trained_on_bit_for_bit_as_ever(rng, labels):
    for _ in range(200):
        shape = (int(rng.integers(1, 33)), int(rng.integers(1, 4)))
        targets = torch.from_numpy(labels(rng, shape)).float()
        outputs = torch.from_numpy(rng.normal(0.5, 10 ** rng.uniform(-3, 0), shape)).float()
        found = []
        for function in (ccc, unscaled_ccc):
            predictions = outputs.clone().requires_grad_()
            loss = 1 - function(predictions, targets).mean()
            loss.backward()
            found.append((loss.detach(), predictions.grad))
        assert torch.equal(found[0][0], found[1][0])
        assert torch.equal(found[0][1], found[1][1])


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


LOSSES = ["cross-entropy", "focal:2", "focal:0.5", "label-smoothing:0.1", "soft"]
# Rounding of float32 sums of a few terms in another order.
ROUNDING = 1e-5


def targets_of(loss, classes, num_classes=3):
    """Return class positions, or rows of soft and hard labels whose soft part depends on the class only."""
    positions = torch.tensor(classes)
    if loss != "soft":
        return positions
    hard = torch.nn.functional.one_hot(positions, num_classes).float()
    return torch.cat([0.7 * hard + 0.1, hard], dim=1)


@pytest.mark.parametrize("loss", LOSSES)
def test_a_weight_of_2_equals_giving_each_utterance_of_the_class_twice(loss):
    classes = [0, 1, 2, 1, 0, 2, 2]
    twice = [row for row, one in enumerate(classes) for _ in range(2 if one == 1 else 1)]
    outputs = torch.randn(len(classes), 3, generator=torch.Generator().manual_seed(0)).requires_grad_()
    weighted = classification(loss, [1, 2, 1]).loss(outputs, targets_of(loss, classes))
    plain = classification(loss).loss(outputs[twice], targets_of(loss, [classes[row] for row in twice]))
    torch.testing.assert_close(weighted, plain, rtol=ROUNDING, atol=0)
    gradients = [torch.autograd.grad(one, outputs, retain_graph=True)[0] for one in (weighted, plain)]
    torch.testing.assert_close(*gradients, rtol=ROUNDING, atol=ROUNDING)
    doubled = classification(loss, [2, 4, 2]).loss(outputs, targets_of(loss, classes))
    torch.testing.assert_close(doubled, weighted, rtol=ROUNDING, atol=0)  # only the ratios matter


def test_losses_are_those_of_torch_and_of_lin_et_al():
    generator = torch.Generator().manual_seed(0)
    outputs = torch.randn(9, 3, generator=generator)
    classes = torch.tensor([0, 1, 2] * 3)
    soft = torch.rand(9, 3, generator=generator).softmax(dim=1)
    weights = [0.5, 2.0, 1.0]
    entropy = torch.nn.functional.cross_entropy
    probability = outputs.softmax(dim=1)[range(9), classes]
    rows = torch.cat([soft, torch.nn.functional.one_hot(classes, 3)], dim=1)
    expected = {
        "label-smoothing:0.1": entropy(outputs, classes, label_smoothing=0.1),
        "focal:2": (-((1 - probability) ** 2) * probability.log()).mean(),
        "focal:0": entropy(outputs, classes),
        "soft": entropy(outputs, soft),
    }
    for loss, value in expected.items():
        found = classification(loss).loss(outputs, rows if loss == "soft" else classes)
        torch.testing.assert_close(found, value, rtol=ROUNDING, atol=0)
    found = classification("cross-entropy", weights).loss(outputs, classes)
    torch.testing.assert_close(found, entropy(outputs, classes, weight=torch.tensor(weights)), rtol=ROUNDING, atol=0)
    values, wanted = torch.rand(9, 2, generator=generator), torch.rand(9, 2, generator=generator)
    torch.testing.assert_close(regression("mse").loss(values, wanted), (values - wanted).square().mean())
    torch.testing.assert_close(regression("mae").loss(values, wanted), (values - wanted).abs().mean())


def test_without_a_loss_and_weights_training_is_what_it_was():
    assert classification("cross-entropy") is CLASSIFICATION
    outputs, classes = torch.randn(4, 3), torch.tensor([0, 1, 2, 0])
    assert torch.equal(CLASSIFICATION.loss(outputs, classes), torch.nn.functional.cross_entropy(outputs, classes))
    assert regression("ccc").loss is REGRESSION.loss


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("weights", [None, [1.0, 3.0, 1e-6]])
def test_a_batch_that_lacks_a_class_and_sure_outputs_give_finite_losses(loss, weights):
    outputs = torch.tensor([[200.0, -200.0, 0.0], [0.0, 0.0, 0.0]], requires_grad=True)
    value = classification(loss, weights).loss(outputs, targets_of(loss, [0, 0]))
    value.backward()
    assert value.isfinite()
    assert outputs.grad.isfinite().all()


def test_soft_labels_are_scored_with_the_hard_label():
    rows = torch.tensor([[0.9, 0.1, 0.0, 1.0], [0.9, 0.1, 1.0, 0.0]])  # the votes are for the first class both times
    outputs = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    assert classification("soft").score(outputs, rows) == 1
    assert classification("soft", [1.0, 2.0]).score(outputs.flip(1), rows) == 0
