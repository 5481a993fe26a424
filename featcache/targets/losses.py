"""Outputs and targets → the loss that training minimises, and the validation score."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from featcache.settings.loss_choice import SOFT, loss_parts

# Added to the denominator, to avoid 0 / 0 if targets or predictions are constant.
_TINY = 1e-8
# Smallest value of this constant, for labels that differ very little. It keeps float32 gradients finite.
_LEAST = 1e-30
# If the labels span less than this share of their range, the first label is subtracted from all of them. The mean of
# float32 values is rounded to about 3e-8, which would not be negligible for such small differences.
_NARROW = 1e-4
# Smallest value of 1 - p in the focal loss.
_SURE = 1e-12
# Task → losses that can train it, and the default.
LOSSES_OF: Mapping[str, tuple[str, ...]] = {
    "classification": ("cross-entropy", "focal", SOFT, "label-smoothing"),
    "regression": ("ccc", "mse", "mae"),
}
DEFAULT_LOSSES: Mapping[str, str] = {task: losses[0] for task, losses in LOSSES_OF.items()}


@dataclass(frozen=True, kw_only=True)
class Objective:
    """Loss, score and predictions of a classification or a regression.

    Attributes:
        loss: Outputs and targets of several utterances → their mean loss, a scalar.
        score: Outputs and targets of several utterances → UAR in [0, 1], or mean CCC, a float.
        predictions: Outputs → probabilities of the classes, or values, in the same shape.
    """

    loss: Callable[[Tensor, Tensor], Tensor]
    score: Callable[[Tensor, Tensor], float]
    predictions: Callable[[Tensor], Tensor]


def ccc(predictions: Tensor, targets: Tensor) -> Tensor:
    """Compute the concordance correlation coefficient of each target.

    A small constant in the denominator avoids 0 / 0. It is at most 1e-8, and at most the square of the rest of the
    denominator. It therefore lowers a score by at most a factor of 1 - 1e-4, even if the labels differ very little: a
    perfect prediction of labels that span a thousandth of their range scores 1 - 2e-7.

    Args:
        predictions: (num_utterances, num_targets) predicted values.
        targets: (num_utterances, num_targets) labels, scaled to [0, 1] by the declared range.

    Returns:
        (num_targets,) values in [-1, 1]; 0 if predictions or targets are constant.

    Source: Lin 1989, A concordance correlation coefficient to evaluate reproducibility, with population moments.
    """
    span = targets.amax(dim=0) - targets.amin(dim=0)
    origin = torch.where((span > 0) & (span < _NARROW), targets[0], 0)
    predictions, targets = predictions - origin, targets - origin
    mean, target_mean = predictions.mean(dim=0), targets.mean(dim=0)
    deviations, target_deviations = predictions - mean, targets - target_mean
    covariance = (deviations * target_deviations).mean(dim=0)
    spread = deviations.square().mean(dim=0) + target_deviations.square().mean(dim=0) + (mean - target_mean).square()
    tiny = torch.where(span > 0, spread.detach().square().clamp(_LEAST, _TINY), _TINY)
    return 2 * covariance / (spread + tiny)


def ccc_loss(predictions: Tensor, targets: Tensor) -> Tensor:
    """Return 1 - CCC, averaged over the targets."""
    return 1 - ccc(predictions, targets).mean()


def _uar(outputs: Tensor, targets: Tensor) -> float:
    from featcache.evaluate.metrics import uar

    return uar(targets.cpu().numpy(), outputs.argmax(dim=1).cpu().numpy())


CLASSIFICATION = Objective(
    loss=nn.functional.cross_entropy,
    score=_uar,
    predictions=lambda outputs: outputs.softmax(dim=1),
)
REGRESSION = Objective(
    loss=ccc_loss,
    score=lambda outputs, targets: float(ccc(outputs, targets).mean()),
    predictions=torch.clone,
)
SOFT_CLASSIFICATION = replace(
    CLASSIFICATION,
    loss=lambda outputs, targets: nn.functional.cross_entropy(outputs, _soft_and_hard(targets)[0]),
    score=lambda outputs, targets: _uar(outputs, _soft_and_hard(targets)[1].argmax(dim=1)),
)


def classification(loss: str, weights: Sequence[float] | None = None) -> Objective:
    """Return the objective of a classification.

    Args:
        loss: ``cross-entropy``, ``focal:GAMMA``, ``label-smoothing:SHARE`` or ``soft``.
        weights: Weight of each class, above 0; None if all are 1. Each utterance counts with the weight of its (hard)
            class, and the sum is divided by the sum of these weights. A weight of 2 therefore has the same effect as
            two copies of each utterance of the class.

    Returns:
        The objective. Targets are class positions, (batch,) int64; for ``soft`` they are rows (batch, 2 × num_classes)
        float32: the shares of the votes, followed by 1 for the hard class and 0 for the others.

    Source: cross-entropy with weights as in ``torch.nn.CrossEntropyLoss``; focal loss: Lin et al. 2017, eq. 4;
        label smoothing: Szegedy et al. 2016, section 7, as in ``torch.nn.CrossEntropyLoss``.
    """
    name, number = loss_parts(loss)
    base = SOFT_CLASSIFICATION if name == SOFT else CLASSIFICATION
    if weights is None and name in ("cross-entropy", SOFT):
        return base

    def weighted_mean(outputs: Tensor, targets: Tensor) -> Tensor:
        soft, hard = _soft_and_hard(targets) if name == SOFT else (targets, targets)
        if name == "focal":
            losses = _focal(outputs, targets, number)
        else:
            smoothing = number if name == "label-smoothing" else 0.0
            losses = nn.functional.cross_entropy(outputs, soft, label_smoothing=smoothing, reduction="none")
        if weights is None:
            return losses.mean()
        of_classes = torch.tensor(weights, dtype=losses.dtype, device=losses.device)
        of_utterances = hard @ of_classes if name == SOFT else of_classes[hard]
        return (losses * of_utterances).sum() / of_utterances.sum()

    return replace(base, loss=weighted_mean)


def regression(loss: str) -> Objective:
    """Return the objective of a regression with the loss ``ccc``, ``mse`` or ``mae``, averaged over the targets."""
    losses: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
        "ccc": ccc_loss,
        "mse": nn.functional.mse_loss,
        "mae": nn.functional.l1_loss,
    }
    return replace(REGRESSION, loss=losses[loss])


def _focal(outputs: Tensor, targets: Tensor, gamma: float) -> Tensor:
    """Return -(1 - p)^γ log p of each utterance, where p is the probability of its class: (batch,)."""
    log_p = outputs.log_softmax(dim=1).gather(1, targets[:, None])[:, 0]
    # A probability of 1 gives 0 to a power below 0 in the gradient, if γ is below 1.
    rest = (-torch.expm1(log_p)).clamp_min(_SURE)
    return -(rest**gamma) * log_p


def _soft_and_hard(targets: Tensor) -> tuple[Tensor, Tensor]:
    """Split rows of soft labels: shares of the votes, and the hard class as 0 and 1, (batch, num_classes) each."""
    soft, hard = targets.chunk(2, dim=1)
    return soft, hard
