"""The interface of a training, for the code that runs many trainings together."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from featcache.extractors.upper import UpperBlocks
from featcache.protocols import Fold
from featcache.training.batches import LoadedUtterances
from featcache.training.status import Stopwatch, TrainingStatus


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """Result of one epoch.

    Attributes:
        epoch: Number of the epoch, from 1 on.
        train_loss: Mean loss over the utterances of the training part.
        validation_loss: Loss of the validation part.
        validation_score: UAR in [0, 1], or CCC, of the validation part.
    """

    epoch: int
    train_loss: float
    validation_loss: float
    validation_score: float


@dataclass(frozen=True, kw_only=True)
class EvaluationAtStep(Epoch):
    """Result of one evaluation, if evaluations are a number of training steps apart.

    ``epoch`` is then the epoch in which it took place, and ``train_loss`` the mean since the previous evaluation.

    Attributes:
        step: Number of training steps before the evaluation.
    """

    step: int


class Trainable(Protocol):
    """Interface that :func:`~featcache.training.together.train_together` needs.

    Attributes:
        seed: Seed of the training.
        fold: Training, validation and test part.
        history: Result of each epoch.
        predictions: Utterance id → probabilities of the classes, or values, for the validation and test parts.
        watch: Time that the training takes.
    """

    seed: int
    fold: Fold
    history: list[Epoch]
    predictions: dict[str, list[float]]
    watch: Stopwatch

    @property
    def num_parameters(self) -> int:
        """Number of trained parameters."""

    @property
    def next_epoch(self) -> int:
        """Number of the next epoch, from 1 on."""

    @property
    def finished(self) -> bool:
        """Whether no further epoch is needed."""

    @property
    def diverged(self) -> bool:
        """Whether no epoch had a finite validation loss."""

    def learn(self, window: LoadedUtterances) -> None:
        """Learn from the utterances of the training part in a window."""

    def validate(self, window: LoadedUtterances) -> None:
        """Evaluate the utterances of the validation part in a window."""

    def end_epoch(self) -> None:
        """Record the epoch in the history."""

    def predict(self, window: LoadedUtterances) -> None:
        """Predict the utterances of the validation and test parts in a window."""

    def state(self) -> dict[str, Tensor]:
        """Return the trained weights by name."""

    def models(self) -> Mapping[str, UpperBlocks]:
        """Return the fine-tuned models by name of the store; empty for heads on frozen features."""

    def layer_weights(self) -> list[Tensor | None]:
        """Return the learned layer weights of each store; None for a store with a single layer."""

    def status(self) -> TrainingStatus:
        """Return the current state; any thread may ask for it."""
