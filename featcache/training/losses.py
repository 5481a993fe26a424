"""What a training minimises, and what its validation is told in."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

# Keeps 0 / 0 away where targets or predictions never change; labels differ by far more.
_TINY = 1e-8


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

    Args:
        predictions: (num_utterances, num_targets).
        targets: The same.

    Returns:
        (num_targets,) in [-1, 1]; 0 where either never changes.

    Source: Lin 1989, A concordance correlation coefficient to evaluate reproducibility, with population moments.
    """
    mean, target_mean = predictions.mean(dim=0), targets.mean(dim=0)
    deviations, target_deviations = predictions - mean, targets - target_mean
    covariance = (deviations * target_deviations).mean(dim=0)
    spread = deviations.square().mean(dim=0) + target_deviations.square().mean(dim=0) + (mean - target_mean).square()
    return 2 * covariance / (spread + _TINY)


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
