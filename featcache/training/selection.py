"""Evaluations of the validation part → the best weights, and the end of the training."""

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from featcache.settings.training_loop import Criterion
from featcache.training.trainable import Epoch, EvaluationAtStep


@dataclass(frozen=True, kw_only=True)
class PendingEvaluation:
    """Weights that are evaluated, and the outputs so far.

    Attributes:
        epoch: Number of the epoch, from 1 on.
        step: Number of training steps.
        train_loss: Mean training loss since the last evaluation.
        state: The trained weights; None if they are the current weights of the head.
        validated: Outputs and targets of the batches of the validation part.
    """

    epoch: int
    step: int
    train_loss: float
    state: Mapping[str, Tensor] | None
    validated: list[tuple[Tensor, Tensor]]

    def result(self, loss: float, score: float, *, every: int | None) -> Epoch:
        """Return the result of the evaluation, with the number of steps if evaluations are a number of steps apart.

        Args:
            loss: Validation loss.
            score: Validation score.
            every: Number of steps between evaluations; None for one evaluation per epoch.
        """
        losses = {"train_loss": self.train_loss, "validation_loss": loss, "validation_score": score}
        if every is None:
            return Epoch(epoch=self.epoch, **losses)
        return EvaluationAtStep(epoch=self.epoch, **losses, step=self.step)


def learned_state(head: nn.Module) -> dict[str, Tensor]:
    """Return the weights that a training changes, and buffers, by name: values that the head uses itself."""
    frozen = {name for name, one in head.named_parameters(remove_duplicate=False) if not one.requires_grad}
    state: dict[str, Tensor] = head.state_dict()
    return {name: values for name, values in state.items() if name not in frozen}


def load_learned(head: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Replace the weights that a training changes.

    Args:
        head: The head.
        state: Values by name, as :func:`learned_state` returns them.
    """
    head.load_state_dict({**head.state_dict(), **state})


class Best:
    """The best evaluation so far; an equal one is no improvement.

    Args:
        criterion: The lowest ``loss``, or the highest score.
        patience: Number of evaluations without improvement after which the training ends.
        head: The untrained head.

    Attributes:
        state: Trained weights of the best evaluation; initially the untrained ones.
        place: Number of the best evaluation, from 1 on; 0 if there is none.
    """

    def __init__(self, criterion: Criterion, patience: int, head: nn.Module) -> None:
        self.state: Mapping[str, Tensor] = copy.deepcopy(learned_state(head))
        self.place = 0
        self._criterion = criterion
        self._patience = patience
        self._lowest, self._number = math.inf, 0

    @property
    def is_over(self) -> bool:
        """Whether the training ends, because the latest evaluations are no improvement."""
        return self._number - self.place >= self._patience

    def add(self, result: Epoch, state: Mapping[str, Tensor]) -> bool:
        """Add an evaluation, and return whether it is the best so far.

        Args:
            result: The result. A loss that is not finite is never the best, whatever the score.
            state: The trained weights, which are copied.
        """
        self._number += 1
        value = result.validation_loss
        if self._criterion != "loss":
            value = -result.validation_score if math.isfinite(value) else math.inf
        improved = value < self._lowest
        if improved:
            self._lowest, self.place = value, self._number
            self.state = copy.deepcopy(dict(state))
        return improved

    def saved(self) -> dict[str, Any]:
        """Return the numbers as plain JSON values; the weights are saved apart."""
        return {"place": self.place, "number": self._number, "lowest": self._lowest}

    def restore(self, saved: Mapping[str, Any]) -> None:
        """Set the result of :meth:`saved`, see :meth:`~featcache.training.seeded.Resumable.restore`."""
        self.place, self._number = int(saved["place"]), int(saved["number"])
        self._lowest = float(saved["lowest"])
