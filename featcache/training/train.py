"""Head × fold × seed → trained head: epochs with early stopping on the validation part."""

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from featcache.extractors.upper import UpperBlocks
from featcache.heads import Head
from featcache.heads.base import Batch, errors_of
from featcache.heads.tuned import TunedHead
from featcache.protocols import Fold
from featcache.runs.checkpoints import CheckpointFile
from featcache.settings.finetunings import BlockSettings
from featcache.settings.fits import TrainingConfig
from featcache.settings.training_loop import LoopSettings
from featcache.targets.losses import CLASSIFICATION, Objective
from featcache.targets.targets import Value
from featcache.training.augmentation import FeatureAugmentation
from featcache.training.auxiliary import Auxiliary
from featcache.training.batch_sizes import batch_sizes
from featcache.training.batches import LoadedUtterances
from featcache.training.continuation import Continuation, Counts
from featcache.training.mixup import Mixup
from featcache.training.optimisation import LearningRate, new_optimiser
from featcache.training.sampling import Balanced, Shuffled, TrainingOrder
from featcache.training.seeded import Draws, Resumable, torch_seeded
from featcache.training.selection import Best, PendingEvaluation, learned_state, load_learned
from featcache.training.status import Stopwatch, TrainingStatus
from featcache.training.trainable import Epoch


class Training:
    """Training of one head; at the end, the head has the weights of its best evaluation.

    Args:
        head: Untrained head.
        seed: Seed of the order of the training utterances in each epoch, and of all other random choices.
        fold: Training part; validation part, which ends the training; test part, which is predicted.
        targets: Utterance id → class, or the values of a regression.
        config: Learning rate, batch size and other settings of the training.
        loop: Optimiser, schedule, selection, order of utterances and augmentation.
        layers: Slice of the window's layers that the head uses, per store; by default all.
        frame_shifts: Frame shift of each store in seconds, NaN if frames are not steps in time; by default 0.02.
        objective: Loss to minimise, and validation score.
        compute: Dtype of matrix products; weights and sums are float32.
        device: Device of the head and the features.
        auxiliary: Further targets whose losses are added to that of the training part; None without any. The head must
            work in two steps, see :meth:`~featcache.heads.Head.is_in_two_steps`.
        classes: Utterance id → position of its class, for the sampler ``balanced``; by default ``targets``.
        blocks: Options of the blocks of a model that a `TunedHead` contains; None for other heads.
        lengths: Utterance id → duration in seconds, or number of tokens, for batches of similar length.
        checkpoint: File to which the state is written after each evaluation; None for short trainings.

    Attributes:
        history: Result of each epoch, or of each evaluation if they are a number of steps apart.
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
        loop: LoopSettings | None = None,
        layers: Sequence[slice] | None = None,
        frame_shifts: Sequence[float] | None = None,
        objective: Objective = CLASSIFICATION,
        compute: torch.dtype = torch.float32,
        device: str = "cpu",
        auxiliary: Auxiliary | None = None,
        classes: Mapping[str, int] | None = None,
        blocks: BlockSettings | None = None,
        lengths: Mapping[str, float] | None = None,
        checkpoint: CheckpointFile | None = None,
    ) -> None:
        loop = loop or LoopSettings()
        num_stores = len(head.num_layers)
        self.head = head.to(device)
        self.seed = seed
        self.fold = fold
        self.history: list[Epoch] = []
        self.predictions: dict[str, list[float]] = {}
        self.watch = Stopwatch()
        self._targets = targets
        self._config = config
        self._blocks = blocks
        self._layers = layers or [slice(None)] * num_stores
        self._objective = objective
        self._compute = compute
        self._device = device
        self._order: TrainingOrder = (
            Balanced(seed, fold.train, classes or targets) if loop.sampler == "balanced" else Shuffled(seed, fold.train)
        )
        number = config.batch_size or head.spec.batch_size
        self._batches = batch_sizes(number, blocks, lengths or {}, fold.train, seed)
        in_blocks = head.tuned_parameters() if isinstance(head, TunedHead) else []
        known = {id(parameter) for parameter in in_blocks}
        learned = [one for one in head.parameters() if one.requires_grad and id(one) not in known]
        learned += auxiliary.parameters() if auxiliary else []
        self._learned = [*learned, *in_blocks]
        self._auxiliary = auxiliary
        rate = blocks.blocks_learning_rate if blocks else 0.0
        self._optimiser = new_optimiser(learned, config, loop, blocks=in_blocks, blocks_rate=rate)
        self._accumulate = blocks.accumulate if blocks else 1
        self._steps_per_epoch = math.ceil(self._batches.position(self._order.per_epoch) / self._accumulate)
        self._max_steps = blocks.max_steps if blocks else None
        self._rate = LearningRate(self._optimiser, config, loop, self._steps_per_epoch, self._max_steps)
        augmentation = FeatureAugmentation(seed, loop, frame_shifts or [0.02] * num_stores)
        self._augmentation = None if augmentation.changes_nothing else augmentation
        self._mixup = Mixup(seed, loop.mixup) if loop.mixup else None
        self._every = loop.evaluate_every
        self._best = Best(loop.stop_on, config.patience, head)
        self._due: list[PendingEvaluation] = []
        self._counts = Counts(train_loss=torch.zeros((), device=device))
        self._kept = None if checkpoint is None else self._continuation(checkpoint)

    def _continuation(self, checkpoint: CheckpointFile) -> Continuation:
        further = self._auxiliary.layers if self._auxiliary else nn.ModuleList()
        random = {"mixup": self._mixup, "augmentation": self._augmentation}
        parts: dict[str, Resumable] = {name: one for name, one in random.items() if one is not None}
        parts |= {"order": self._order, "batches": self._batches, "rate": self._rate}
        return Continuation(checkpoint, self.head, further, self._optimiser, self._best, parts)

    def go_on(self) -> bool:
        """Continue from the checkpoint of an earlier process; return whether there is one.

        Raises:
            StoreError: the checkpoint is damaged; a new training must be made.
            DiskError: the checkpoint cannot be read.
        """
        seconds = self._kept.restore(self._counts, self.history) if self._kept else None
        if seconds is None:
            return False
        self.watch = Stopwatch(seconds)
        if self.finished:
            load_learned(self.head, self._best.state)
        return True

    @property
    def next_epoch(self) -> int:
        """Number of the next epoch, from 1 on."""
        return self._counts.epochs + 1

    @property
    def finished(self) -> bool:
        """Whether the largest number of epochs or steps is reached, or the validation criterion no longer improves."""
        counts = self._counts
        evaluated = counts.last_due == counts.steps and not self._due
        return counts.epochs >= self._config.max_epochs or self._best.is_over or (self._has_all_steps and evaluated)

    @property
    def _has_all_steps(self) -> bool:
        return self._max_steps is not None and self._counts.steps >= self._max_steps

    @property
    def diverged(self) -> bool:
        """Whether no epoch had a finite validation loss; the head is then untrained."""
        return not any(np.isfinite(epoch.validation_loss) for epoch in self.history)

    @property
    def num_parameters(self) -> int:
        """Number of parameters of the head, with the layer weights, and of the blocks that are trained."""
        if isinstance(self.head, TunedHead):
            return sum(parameter.numel() for parameter in self._learned)
        return sum(parameter.numel() for parameter in self.head.parameters())

    def status(self) -> TrainingStatus:
        """Return the current state; nothing in the training waits for it."""
        last = self.history[-1] if self.history else None
        validated = sum(len(outputs) for pending in list(self._due) for outputs, _ in list(pending.validated))
        share = (self._counts.seen + validated) / (self._order.per_epoch + len(self.fold.validation))
        train_loss = None if last is None else last.train_loss
        # On another device, reading a value would wait for all its computations.
        num_losses = self._counts.num_losses
        if last is None and num_losses and self._device == "cpu":
            train_loss = float(self._counts.train_loss) / num_losses
        least = self._counts.epochs if self._every else self._best.place + self._config.patience
        return TrainingStatus(
            epochs=self._counts.epochs + min(1.0, share),
            least=min(self._config.max_epochs, least),
            most=self._config.max_epochs,
            train_loss=train_loss,
            validation_loss=None if last is None else last.validation_loss,
            seconds=self.watch.seconds,
            ended=self.finished,
        )

    def state(self) -> dict[str, Tensor]:
        """Return the weights of the head by name, without those of the blocks."""
        return dict((self.head.inner if isinstance(self.head, TunedHead) else self.head).state_dict())

    def models(self) -> Mapping[str, UpperBlocks]:
        """Return the fine-tuned models by name of the store; empty for heads on frozen features."""
        return self.head.models if isinstance(self.head, TunedHead) else {}

    def layer_weights(self) -> list[Tensor | None]:
        """Return the learned layer weights of each store; None for a store with a single layer."""
        return self.head.layer_weights()

    def learn(self, window: LoadedUtterances) -> None:
        """Do the training steps of one epoch with the utterances of a window."""
        if self.finished:  # in an earlier window of this epoch
            return
        self.head.train()
        present = window.among(self.fold.train)
        # In an epoch of several windows, the state is kept at its end only.
        whole = len(present) == len(self.fold.train)
        earlier = self._kept.parts() if self._kept and whole and self._every else {}
        batches = self._batches.batches(self._order.order(present))
        for first in range(self._counts.done * self._accumulate, len(batches), self._accumulate):
            if self._has_all_steps:
                return
            self._step(window, batches[first : first + self._accumulate])
            self._counts.done += whole
            if self._every and self._counts.steps % self._every == 0:
                if self._reach_evaluation(window) and earlier:
                    self._keep({name: earlier[name] for name in ("order", "batches")})
                if self._best.is_over:
                    return

    def _step(self, window: LoadedUtterances, batches: Sequence[Sequence[str]]) -> None:
        """Do one training step: the gradients of several batches are averaged over their utterances."""
        done = self._counts.epochs * self._steps_per_epoch
        self._rate.start(done + self._batches.position(self._counts.seen) / self._accumulate)
        self._optimiser.zero_grad()
        total = sum(map(len, batches))
        for number, ids in enumerate(batches):
            with self._seeded(number):
                loss, further = self._losses_of(window, ids)
                learned = loss if further is None else loss + further
                share = len(ids) / total
                (learned if share == 1 else learned * share).backward()  # type: ignore[no-untyped-call]
            self._counts.train_loss += loss.detach() * len(ids)
            self._counts.num_losses += len(ids)
            self._counts.seen += len(ids)
        if self._blocks is not None and self._blocks.clip_norm is not None:
            nn.utils.clip_grad_norm_(self._learned, self._blocks.clip_norm)
        else:
            nn.utils.clip_grad_value_(self._learned, self._config.clip_value)
        self._optimiser.step()
        self._counts.steps += 1

    def validate(self, window: LoadedUtterances) -> None:
        """Compute the outputs for the utterances of the validation part in a window."""
        counts = self._counts
        last = self._every is None or counts.epochs + 1 == self._config.max_epochs or self._has_all_steps
        if last and counts.steps > counts.last_due and not self.finished:
            self._add_evaluation(None)
        current = copy.deepcopy(learned_state(self.head)) if any(one.state for one in self._due) else None
        for pending in self._due:
            if current is not None:
                load_learned(self.head, pending.state or current)
            for ids, outputs in self._tested(window, self.fold.validation):
                pending.validated.append((outputs, self._targets_of(ids)))
        if current is not None:
            load_learned(self.head, current)

    def end_epoch(self) -> None:
        """Record the evaluations and keep the best weights so far; after the last epoch, restore the best."""
        self._record()
        self._counts.epochs += 1
        self._counts.seen = self._counts.done = 0
        if self.finished:
            load_learned(self.head, self._best.state)
        self._keep()

    def predict(self, window: LoadedUtterances) -> None:
        """Predict the utterances of the validation and test parts in a window."""
        for ids, outputs in self._tested(window, (*self.fold.validation, *self.fold.test)):
            self.predictions.update(zip(ids, self._objective.predictions(outputs).tolist(), strict=True))

    def _keep(self, earlier: Mapping[str, Any] | None = None) -> None:
        """Write the checkpoint; parts of which later steps need an earlier state are given."""
        if self._kept is not None:
            self._kept.keep(self._counts, self.history, self.watch.seconds, earlier)

    def _reach_evaluation(self, window: LoadedUtterances) -> bool:
        """Evaluate the current weights now if the window holds the validation part; otherwise at the end of the epoch.

        Returns:
            Whether they were evaluated.
        """
        at_once = len(window.among(self.fold.validation)) == len(self.fold.validation)
        self._add_evaluation(None if at_once else copy.deepcopy(learned_state(self.head)))
        if at_once:
            self.validate(window)
            self._record()
            self.head.train()
        return at_once

    def _add_evaluation(self, state: Mapping[str, Tensor] | None) -> None:
        loss = float(self._counts.train_loss) / self._counts.num_losses
        self._due.append(
            PendingEvaluation(
                epoch=self._counts.epochs + 1, step=self._counts.steps, train_loss=loss, state=state, validated=[]
            )
        )
        self._counts.last_due = self._counts.steps
        self._counts.train_loss, self._counts.num_losses = torch.zeros((), device=self._device), 0

    def _record(self) -> None:
        """Add the evaluations that are complete to the history; those after the end of early stopping do not count."""
        for pending in self._due:
            outputs, targets = (torch.cat(parts) for parts in zip(*pending.validated, strict=True))
            loss = float(self._objective.loss(outputs, targets))
            result = pending.result(loss, self._objective.score(outputs, targets), every=self._every)
            self.history.append(result)
            improved = self._best.add(result, pending.state or learned_state(self.head))
            self._rate.evaluated(improved=improved)
            if self._best.is_over:
                break
        self._due = []

    def _losses_of(self, window: LoadedUtterances, ids: Sequence[str]) -> tuple[Tensor, Tensor | None]:
        """Return the loss of a training batch, and that of the auxiliary targets; None without any."""
        targets = self._targets_of(ids)
        if self._mixup is None and self._auxiliary is None:
            return self._objective.loss(self._outputs(window, ids), targets), None
        mixture = None if self._mixup is None else self._mixup.draw(len(ids), self._device)
        with self._autocast(), errors_of(self.head.reference):
            pooled = self.head.pooled(self._batch(window, ids))
            vectors = pooled if mixture is None else mixture.mixed(pooled)
            outputs = self.head.classify(vectors).float()
            further = None if self._auxiliary is None else self._auxiliary.loss(vectors, ids, mixture)
        if mixture is None:
            return self._objective.loss(outputs, targets), further
        return mixture.loss(self._objective.loss, outputs, targets), further

    @torch.no_grad()
    def _tested(self, window: LoadedUtterances, utterance_ids: Sequence[str]) -> Iterator[tuple[list[str], Tensor]]:
        self.head.eval()
        for ids in self._batches.tested(window.among(utterance_ids)):
            yield ids, self._outputs(window, ids)

    def _outputs(self, window: LoadedUtterances, ids: Sequence[str]) -> Tensor:
        batch = self._batch(window, ids)
        with self._autocast():
            outputs: Tensor = self.head(batch)
        return outputs

    def _batch(self, window: LoadedUtterances, ids: Sequence[str]) -> Batch:
        packed = window.batch(ids, self._layers)
        if self._augmentation is not None and self.head.training:
            packed = self._augmentation.applied(packed)
        if self.head.spec.learns_layers:
            return packed
        return [[utterance.copy() for utterance in of_store] for of_store in packed]  # no layer average unpacks them

    def _seeded(self, batch: int) -> AbstractContextManager[None]:
        """Seed the dropout of blocks, which draw from torch's global generator."""
        if self._blocks is None:
            return nullcontext()
        return torch_seeded(self.seed, Draws.MODEL, self._counts.steps, batch, device=self._device)

    def _autocast(self) -> torch.autocast:
        reduced = self._compute != torch.float32
        return torch.autocast(torch.device(self._device).type, dtype=torch.bfloat16, enabled=reduced)

    def _targets_of(self, ids: Sequence[str]) -> Tensor:
        return torch.tensor([self._targets[utterance_id] for utterance_id in ids], device=self._device)
