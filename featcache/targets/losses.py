"""What a training minimises, and what its validation is told in."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

# Keeps 0 / 0 away where targets or predictions never change.
_TINY = 1e-8
# What is left of it where labels differ by very little: gradients stay finite in float32 even so.
_LEAST = 1e-30
# Labels that lie closer together than this share of their range are counted from the first of them: means of float32
# numbers are rounded to about 3e-8, which would be a part of what such labels differ by.
_NARROW = 1e-4


@dataclass(frozen=True, kw_only=True)
class Objective:
    """One task.

    Attributes:
        loss: Outputs and targets of several utterances → their mean loss, a scalar.
        score: Likewise → what a reader of the history understands, a float.
        predictions: Outputs → what is predicted, in the same shape.
    """

    loss: Callable[[Tensor, Tensor], Tensor]
    score: Callable[[Tensor, Tensor], float]
    predictions: Callable[[Tensor], Tensor]


def ccc(predictions: Tensor, targets: Tensor) -> Tensor:
    """Concordance correlation coefficient of each target.

    A constant in the denominator keeps it from 0 / 0. It is at most 1e-8, and at most the square of the rest of the
    denominator, so that it lowers no score by more than a share of 1e-4, however little the labels differ: a perfect
    prediction of labels that span a thousandth of their range scores 1 - 2e-7.

    Args:
        predictions: (num_utterances, num_targets).
        targets: The same, scaled to [0, 1] by the declared range.

    Returns:
        (num_targets,) in [-1, 1]; 0 where either never changes.

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
    """1 - CCC, averaged over the targets."""
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
