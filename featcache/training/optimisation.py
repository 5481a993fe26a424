"""Settings → optimiser and learning rate of each training step."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from featcache.settings.fits import TrainingConfig
from featcache.settings.training_loop import ADAMW_DECAY, LoopSettings

MOMENTUM = 0.9
# Factor of the schedule ``plateau``.
PLATEAU_FACTOR = 0.5


def new_optimiser(
    parameters: Sequence[nn.Parameter],
    config: TrainingConfig,
    options: LoopSettings,
    *,
    blocks: Sequence[nn.Parameter] = (),
    blocks_rate: float = 0.0,
) -> torch.optim.Optimizer:
    """Create the optimiser of a training.

    Args:
        parameters: Parameters that learn, without those of ``blocks``.
        config: Learning rate, and epsilon of Adam.
        options: Kind of optimiser, and weight decay.
        blocks: Parameters of the blocks of a model, which have their own learning rate.
        blocks_rate: Learning rate of the blocks.
    """
    rate, decay = config.learning_rate, options.weight_decay
    groups: Any = [{"params": list(parameters)}]
    if blocks:
        groups.append({"params": list(blocks), "lr": blocks_rate})
    if options.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=rate, momentum=MOMENTUM, weight_decay=decay or 0.0, fused=True)
    if options.optimizer == "adamw":
        decay = ADAMW_DECAY if decay is None else decay
        return torch.optim.AdamW(groups, lr=rate, eps=config.epsilon, weight_decay=decay, fused=True)
    return torch.optim.Adam(groups, lr=rate, eps=config.epsilon, weight_decay=decay or 0.0, fused=True)


class LearningRate:
    """Learning rate of each step: warmup, followed by a schedule.

    Args:
        optimiser: Optimiser whose learning rates change; each group of parameters keeps its share.
        config: Largest number of epochs, and patience.
        options: Warmup and schedule.
        steps_per_epoch: Number of training steps of an epoch.
        max_steps: Largest number of training steps; None for those of all epochs.

    Source: cosine: Loshchilov and Hutter 2017, without restarts.
    """

    def __init__(
        self,
        optimiser: torch.optim.Optimizer,
        config: TrainingConfig,
        options: LoopSettings,
        steps_per_epoch: int,
        max_steps: int | None = None,
    ) -> None:
        self._optimiser = optimiser
        self._rates = [group["lr"] for group in optimiser.param_groups]
        self._schedule = options.schedule
        self._steps = config.max_epochs * steps_per_epoch
        if max_steps is not None:
            self._steps = min(self._steps, max_steps)
        # A number below 1 is a share of all steps, as in transformers.
        self._warmup = math.ceil(options.warmup * self._steps) if options.warmup < 1 else int(options.warmup)
        self._patience = max(1, config.patience // 2)
        self._since = 0

    def start(self, step: float) -> None:
        """Set the learning rate of a step.

        Args:
            step: Number of earlier steps. It has a fraction if an earlier batch of the epoch was incomplete, because
                features are read in windows.
        """
        if self._schedule == "constant" and not self._warmup:
            return
        factor = self.factor(step)
        for group, rate in zip(self._optimiser.param_groups, self._rates, strict=True):
            group["lr"] = rate * factor

    def factor(self, step: float) -> float:
        """Return the learning rate of a step, relative to that of the settings or of the last plateau."""
        if step + 1 < self._warmup:
            return (step + 1) / self._warmup
        if self._schedule not in ("linear", "cosine") or step <= self._warmup:
            return 1.0
        done = min(1.0, (step - self._warmup) / (self._steps - self._warmup))
        return 1 - done if self._schedule == "linear" else (1 + math.cos(math.pi * done)) / 2

    def evaluated(self, *, improved: bool) -> None:
        """Record an evaluation of the validation part; the schedule ``plateau`` reacts to it."""
        self._since = 0 if improved else self._since + 1
        if self._schedule == "plateau" and self._since >= self._patience:
            self._rates = [rate * PLATEAU_FACTOR for rate in self._rates]
            self._since = 0

    def saved(self) -> dict[str, Any]:
        """Return what the schedule ``plateau`` changes, as plain JSON values."""
        return {"rates": self._rates, "since": self._since}

    def restore(self, saved: Mapping[str, Any]) -> None:
        """Set the result of :meth:`saved`, see :meth:`~featcache.training.seeded.Resumable.restore`."""
        rates = [float(rate) for rate in saved["rates"]]
        if len(rates) != len(self._rates):
            raise ValueError(f"rates: {rates}")
        self._rates, self._since = rates, int(saved["since"])
