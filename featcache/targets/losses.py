"""Outputs and targets → the loss that training minimises, and the validation score."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

# Added to the denominator, to avoid 0 / 0 if targets or predictions are constant.
_TINY = 1e-8
# Smallest value of this constant, for labels that differ very little. It keeps float32 gradients finite.
_LEAST = 1e-30
# If the labels span less than this share of their range, the first label is subtracted from all of them. The mean of
# float32 values is rounded to about 3e-8, which would not be negligible for such small differences.
_NARROW = 1e-4


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
