"""Head × fold × seed → trained head: epochs with early stopping on the validation part, of many trainings together.

Trainings that read the same features share one working copy. Each is carried out by one thread with its own draws,
so that it becomes, bit for bit, what it would become alone.
"""

import copy
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from itertools import count
from threading import Event
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from featcache.heads import Head
from featcache.heads.base import Batch
from featcache.protocols import Fold
from featcache.settings.fits import TrainingConfig
from featcache.targets.losses import CLASSIFICATION, Objective
from featcache.targets.targets import Value
from featcache.terminal.interrupts import Pool
from featcache.threads import one_thread_each
from featcache.training.batches import FeatureWindows, LoadedUtterances


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """Losses are means over utterances; the score is UAR in [0, 1] or CCC."""

    epoch: int
    train_loss: float
    validation_loss: float
    validation_score: float


class Trainable(Protocol):
    """What :func:`train_together` carries out; :class:`Training` says what each of these is."""

    seed: int
    fold: Fold
    history: list[Epoch]
    predictions: dict[str, list[float]]

    @property
    def finished(self) -> bool: ...

    @property
    def diverged(self) -> bool: ...

    def learn(self, window: LoadedUtterances) -> None: ...

    def validate(self, window: LoadedUtterances) -> None: ...

    def end_epoch(self) -> None: ...

    def predict(self, window: LoadedUtterances) -> None: ...

    def state(self) -> dict[str, Tensor]: ...

    def layer_weights(self) -> list[Tensor | None]: ...


class Training:
    """One head on its way through the epochs; at its end it has the weights of its best one.

    Args:
        head: Untrained.
        seed: Orders the training utterances in each epoch.
        fold: Its training part is learned from, its validation part decides when to stop, its test part is predicted.
        targets: Utterance id → class, or the values of a regression.
        layers: For each store which of a window's layers the head takes; by default all.
        objective: What is minimised.
        compute: What products are computed in; weights and sums stay float32.

    Attributes:
        history: What happened in each epoch.
        predictions: Validation or test utterance → probabilities of the classes, or values.
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
    ) -> None:
        self.head = head.to(device)
        self.seed = seed
        self.fold = fold
        self.history: list[Epoch] = []
        self.predictions: dict[str, list[float]] = {}
        self._targets = targets
        self._config = config
        self._batch_size = config.batch_size or head.spec.batch_size
        self._layers = layers or [slice(None)] * len(head.averages)
        self._objective = objective
        self._compute = compute
        self._device = device
        self._shuffling = np.random.default_rng(seed)
        learned = [parameter for parameter in head.parameters() if parameter.requires_grad]
        self._optimiser = torch.optim.Adam(learned, lr=config.learning_rate, eps=config.epsilon, fused=True)
        self._best = copy.deepcopy(head.state_dict())
        self._best_loss, self._best_epoch = float("inf"), 0
        self._train_loss, self._seen = torch.zeros((), device=device), 0
        self._validated: list[tuple[Tensor, Tensor]] = []

    @property
    def finished(self) -> bool:
        epoch = len(self.history)
        return epoch >= self._config.max_epochs or epoch - self._best_epoch >= self._config.patience

    @property
    def diverged(self) -> bool:
        """Whether no epoch had a finite validation loss, which leaves the head untrained."""
        return not any(np.isfinite(epoch.validation_loss) for epoch in self.history)

    def state(self) -> dict[str, Tensor]:
        """The head's weights by name."""
        return dict(self.head.state_dict())

    def layer_weights(self) -> list[Tensor | None]:
        """For each store the learned weights of its layers; None where it has a single layer."""
        return self.head.layer_weights()

    def learn(self, window: LoadedUtterances) -> None:
        """Take the steps of one epoch that a window has utterances for."""
        self.head.train()
        present = window.among(self.fold.train)
        order = self._shuffling.permutation(len(present))
        for first in range(0, len(order), self._batch_size):
            ids = [present[i] for i in order[first : first + self._batch_size]]
            loss = self._objective.loss(self._outputs(window, ids), self._targets_of(ids))
            self._optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_value_(self.head.parameters(), self._config.clip_value)
            self._optimiser.step()
            self._train_loss += loss.detach() * len(ids)
            self._seen += len(ids)

    def validate(self, window: LoadedUtterances) -> None:
        self._validated += [
            (outputs, self._targets_of(ids)) for ids, outputs in self._tested(window, self.fold.validation)
        ]

    def end_epoch(self) -> None:
        """Keep the weights if they are the best so far; when it is over, restore the best."""
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
        reduced = self._compute != torch.float32
        packed = window.batch(ids, self._layers)
        batch: Batch = packed
        if not self.head.spec.learns_layers:  # no `averages` unpack them
            batch = [[utterance.copy() for utterance in of_store] for of_store in packed]
        with torch.autocast(torch.device(self._device).type, dtype=torch.bfloat16, enabled=reduced):
            outputs: Tensor = self.head(batch)
        return outputs

    def _targets_of(self, ids: Sequence[str]) -> Tensor:
        return torch.tensor([self._targets[utterance_id] for utterance_id in ids], device=self._device)


def train_together(
    trainings: Sequence[Trainable], source: FeatureWindows, *, workers: int, stop: Event | None = None
) -> Generator[Trainable]:
    """Carry trainings out, each as it would be carried out alone.

    Where the source holds everything, each goes at its own pace; else all take each window together, while the next
    one is read.

    Args:
        source: Whose windows they read.
        workers: Threads; each carries out one training at a time and computes by itself.
        stop: When set, trainings end before their next epoch.

    Yields:
        Each training when it has come to its end, predictions included.
    """
    stop = stop or Event()
    with one_thread_each(), Pool(workers, "fit") as pool:
        if not source.holds_all:
            for ended in _in_step(trainings, source, lambda *arguments: list(pool.map(*arguments)), stop):
                yield from ended
            return
        try:
            yield from _in_turns(trainings, source, pool, workers, stop)
        finally:
            stop.set()


def _in_turns(
    trainings: Sequence[Trainable], source: FeatureWindows, pool: Pool, workers: int, stop: Event
) -> Iterator[Trainable]:
    """A few at a time, epoch by epoch in turns: no core is idle while the last of them goes through all of its own."""
    waiting = deque(trainings)
    active: dict[Future[list[Trainable] | None], Iterator[list[Trainable]]] = {}
    while waiting or active:
        while waiting and len(active) < 2 * workers + 1:
            begun = _in_step([waiting.popleft()], source, _each, stop)
            active[pool.submit(next, begun, None)] = begun
        for future in wait(active, return_when=FIRST_COMPLETED).done:
            epochs, ended = active.pop(future), future.result()
            if ended == []:
                active[pool.submit(next, epochs, None)] = epochs
            yield from ended or ()


def _each(function: Callable[[Any], Any], items: Iterable[Any]) -> None:
    for item in items:
        function(item)


def _in_step(
    trainings: Sequence[Trainable], source: FeatureWindows, run: Callable[..., Any], stop: Event
) -> Iterator[list[Trainable]]:
    """Take trainings through one epoch after another, and tell after each which have come to their end."""
    active = list(trainings)
    for epoch in count(1):
        if stop.is_set():
            return
        _pass(source.windows(_union(active, "train"), epoch=epoch), "learn", active, run)
        _pass(source.windows(_union(active, "validation")), "validate", active, run)
        run(lambda training: training.end_epoch(), active)
        ended = [training for training in active if training.finished]
        if ended:
            _pass(source.windows(_union(ended, "validation", "test")), "predict", ended, run)
        yield ended
        active = [training for training in active if not training.finished]
        if not active:
            return


def _pass(
    windows: Iterable[LoadedUtterances],
    step: str,
    trainings: Sequence[Trainable],
    run: Callable[..., Any],
) -> None:
    """Show each window to all trainings; a function of its own, so that the last window goes before others come."""
    for window in windows:
        run(lambda training, window=window: getattr(training, step)(window), trainings)


def _union(trainings: Sequence[Trainable], *parts: str) -> list[str]:
    return list(dict.fromkeys(i for training in trainings for part in parts for i in getattr(training.fold, part)))
