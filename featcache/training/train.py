"""Head × fold × seed → trained head: epochs with early stopping on the validation part."""

import copy
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from featcache.heads import Head
from featcache.heads.base import Batch, errors_of
from featcache.protocols import Fold
from featcache.settings.fits import TrainingConfig
from featcache.targets.losses import CLASSIFICATION, Objective
from featcache.targets.targets import Value
from featcache.training.auxiliary import Auxiliary
from featcache.training.batches import LoadedUtterances
from featcache.training.status import Stopwatch, TrainingStatus
from featcache.training.trainable import Epoch


class Training:
    """Training of one head; at the end, the head has the weights of its best epoch.

    Args:
        head: Untrained head.
        seed: Seed of the order of the training utterances in each epoch.
        fold: Training part; validation part, which ends the training; test part, which is predicted.
        targets: Utterance id → class, or the values of a regression.
        config: Learning rate, batch size and other settings of the training.
        layers: Slice of the window's layers that the head uses, per store; by default all.
        objective: Loss to minimise, and validation score.
        compute: Dtype of matrix products; weights and sums are float32.
        device: Device of the head and the features.
        auxiliary: Further targets whose losses are added to that of the training part; None without any. The head must
            work in two steps, see :meth:`~featcache.heads.Head.is_in_two_steps`.

    Attributes:
        history: Result of each epoch.
        predictions: Utterance id → probabilities of the classes, or values, for the validation and test parts.
        watch: Time that the training takes.
    """

    def __init__(
        self,
        head: Head,
        seed: int,
        fold: Fold,
        targets: Mapping[str, Value],
        config: TrainingConfig,
        *,
        layers: Sequence[slice] | None = None,
        objective: Objective = CLASSIFICATION,
        compute: torch.dtype = torch.float32,
        device: str = "cpu",
        auxiliary: Auxiliary | None = None,
    ) -> None:
        self.head = head.to(device)
        self.seed = seed
        self.fold = fold
        self.history: list[Epoch] = []
        self.predictions: dict[str, list[float]] = {}
        self.watch = Stopwatch()
        self._targets = targets
        self._config = config
        self._batch_size = config.batch_size or head.spec.batch_size
        self._layers = layers or [slice(None)] * len(head.averages)
        self._objective = objective
        self._compute = compute
        self._device = device
        self._auxiliary = auxiliary
        self._shuffling = np.random.default_rng(seed)
        learned = [parameter for parameter in head.parameters() if parameter.requires_grad]
        learned += auxiliary.parameters() if auxiliary else []
        self._learned = learned
        self._optimiser = torch.optim.Adam(learned, lr=config.learning_rate, eps=config.epsilon, fused=True)
        self._best = copy.deepcopy(head.state_dict())
        self._best_loss, self._best_epoch = float("inf"), 0
        self._train_loss, self._seen = torch.zeros((), device=device), 0
        self._validated: list[tuple[Tensor, Tensor]] = []

    @property
    def finished(self) -> bool:
        """Whether the largest number of epochs is reached, or the validation loss no longer improves."""
        epoch = len(self.history)
        return epoch >= self._config.max_epochs or epoch - self._best_epoch >= self._config.patience

    @property
    def diverged(self) -> bool:
        """Whether no epoch had a finite validation loss; the head is then untrained."""
        return not any(np.isfinite(epoch.validation_loss) for epoch in self.history)

    @property
    def num_parameters(self) -> int:
        """Number of parameters of the head, with the layer weights."""
        return sum(parameter.numel() for parameter in self.head.parameters())

    def status(self) -> TrainingStatus:
        """Return the current state; nothing in the training waits for it."""
        last = self.history[-1] if self.history else None
        seen = self._seen  # read once: the training sets it to 0 at the end of an epoch
        used = seen + sum(len(outputs) for outputs, _ in list(self._validated))
        share = used / (len(self.fold.train) + len(self.fold.validation))
        train_loss = None if last is None else last.train_loss
        # On another device, reading a value would wait for all its computations.
        if last is None and seen and self._device == "cpu":
            train_loss = float(self._train_loss) / seen
        return TrainingStatus(
            epochs=len(self.history) + min(1.0, share),
            least=min(self._config.max_epochs, self._best_epoch + self._config.patience),
            most=self._config.max_epochs,
            train_loss=train_loss,
            validation_loss=None if last is None else last.validation_loss,
            seconds=self.watch.seconds,
            ended=self.finished,
        )

    def state(self) -> dict[str, Tensor]:
        """Return the weights of the head by name."""
        return dict(self.head.state_dict())

    def layer_weights(self) -> list[Tensor | None]:
        """Return the learned layer weights of each store; None for a store with a single layer."""
        return self.head.layer_weights()

    def learn(self, window: LoadedUtterances) -> None:
        """Do the training steps of one epoch with the utterances of a window."""
        self.head.train()
        present = window.among(self.fold.train)
        order = self._shuffling.permutation(len(present))
        for first in range(0, len(order), self._batch_size):
            ids = [present[i] for i in order[first : first + self._batch_size]]
            outputs, further = self._outputs_and_further_loss(window, ids)
            loss = self._objective.loss(outputs, self._targets_of(ids))
            self._optimiser.zero_grad()
            (loss if further is None else loss + further).backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_value_(self._learned, self._config.clip_value)
            self._optimiser.step()
            self._train_loss += loss.detach() * len(ids)
            self._seen += len(ids)

    def validate(self, window: LoadedUtterances) -> None:
        """Compute the outputs for the utterances of the validation part in a window."""
        self._validated += [
            (outputs, self._targets_of(ids)) for ids, outputs in self._tested(window, self.fold.validation)
        ]

    def end_epoch(self) -> None:
        """Record the epoch and keep the weights if they are the best so far; after the last epoch, restore the best."""
        outputs, targets = (torch.cat(parts) for parts in zip(*self._validated, strict=True))
        loss = float(self._objective.loss(outputs, targets))
        epoch = Epoch(
            epoch=len(self.history) + 1,
            train_loss=float(self._train_loss) / self._seen,
            validation_loss=loss,
            validation_score=self._objective.score(outputs, targets),
        )
        self.history.append(epoch)
        self._train_loss, self._seen, self._validated = torch.zeros((), device=self._device), 0, []
        if loss < self._best_loss:
            self._best_loss, self._best_epoch = loss, epoch.epoch
            self._best = copy.deepcopy(self.head.state_dict())
        if self.finished:
            self.head.load_state_dict(self._best)

    def predict(self, window: LoadedUtterances) -> None:
        """Predict the utterances of the validation and test parts in a window."""
        for ids, outputs in self._tested(window, (*self.fold.validation, *self.fold.test)):
            self.predictions.update(zip(ids, self._objective.predictions(outputs).tolist(), strict=True))

    @torch.no_grad()
    def _tested(self, window: LoadedUtterances, utterance_ids: Sequence[str]) -> Iterator[tuple[list[str], Tensor]]:
        self.head.eval()
        present = window.among(utterance_ids)
        for first in range(0, len(present), self._batch_size):
            ids = present[first : first + self._batch_size]
            yield ids, self._outputs(window, ids)

    def _outputs(self, window: LoadedUtterances, ids: Sequence[str]) -> Tensor:
        batch = self._batch(window, ids)
        with self._autocast():
            outputs: Tensor = self.head(batch)
        return outputs

    def _outputs_and_further_loss(self, window: LoadedUtterances, ids: Sequence[str]) -> tuple[Tensor, Tensor | None]:
        """Return the outputs of a batch, and the loss of the auxiliary targets; None without any."""
        if self._auxiliary is None:
            return self._outputs(window, ids), None
        batch = self._batch(window, ids)
        with self._autocast(), errors_of(self.head.reference):
            pooled = self.head.pooled(batch)
            return self.head.classify(pooled).float(), self._auxiliary.loss(pooled, ids)

    def _batch(self, window: LoadedUtterances, ids: Sequence[str]) -> Batch:
        packed = window.batch(ids, self._layers)
        if self.head.spec.learns_layers:
            return packed
        return [[utterance.copy() for utterance in of_store] for of_store in packed]  # no layer average unpacks them

    def _autocast(self) -> torch.autocast:
        reduced = self._compute != torch.float32
        return torch.autocast(torch.device(self._device).type, dtype=torch.bfloat16, enabled=reduced)

    def _targets_of(self, ids: Sequence[str]) -> Tensor:
        return torch.tensor([self._targets[utterance_id] for utterance_id in ids], device=self._device)
