"""Training ↔ checkpoint: everything that changes from step to step, so that a killed training gives the same bits."""

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from featcache.files.values import damaged
from featcache.heads import Head
from featcache.runs.checkpoints import AGAIN, CheckpointFile, TrainingState
from featcache.training.seeded import Resumable
from featcache.training.selection import Best, learned_state
from featcache.training.trainable import Epoch, EvaluationAtStep

_WEIGHTS, _BEST, _OPTIMISER, _GENERATOR, _TRAIN_LOSS = "weights.", "best.", "optimiser.", "generator", "train_loss"
_PARTS, _HISTORY, _COUNTS, _SECONDS, _IS_BEST = "parts", "history", "counts", "seconds", "is_best"
# Larger counts are not from a training.
_MOST = 2**53


@dataclass(kw_only=True)
class Counts:
    """Numbers of a training that change from step to step.

    Attributes:
        epochs: Number of epochs that have ended.
        steps: Number of training steps.
        last_due: Number of training steps at the last evaluation.
        seen: Number of utterances that the current epoch has used.
        done: Number of training steps of the current epoch, if it is interrupted by an evaluation; otherwise 0.
        num_losses: Number of utterances in ``train_loss``.
        train_loss: Sum of the losses since the last evaluation, a scalar.
    """

    epochs: int = 0
    steps: int = 0
    last_due: int = 0
    seen: int = 0
    done: int = 0
    num_losses: int = 0
    train_loss: Tensor


class Continuation:
    """State of a training in a file.

    Args:
        file: The file.
        head: Head that is trained.
        further: Further layers that are trained, but are not part of the head.
        optimiser: Optimiser of all of them.
        best: The best evaluation.
        parts: Further parts that change, by name.

    Attributes:
        num_kept: Number of evaluations that the file contains.
    """

    def __init__(
        self,
        file: CheckpointFile,
        head: Head,
        further: nn.Module,
        optimiser: torch.optim.Optimizer,
        best: Best,
        parts: Mapping[str, Resumable],
    ) -> None:
        self._file = file
        self._head = head
        self._modules = nn.ModuleDict({"head": head, "further": further})
        self._optimiser = optimiser
        self._best = best
        self._parts = {"best": best, **parts}
        self.num_kept = 0

    def parts(self) -> dict[str, dict[str, Any]]:
        """Return the states of the parts, as plain JSON values that later steps do not change."""
        return copy.deepcopy({name: part.saved() for name, part in self._parts.items()})

    def keep(
        self, counts: Counts, history: Sequence[Epoch], seconds: float, earlier: Mapping[str, Any] | None = None
    ) -> None:
        """Write the state after an evaluation, unless the file contains it already.

        Args:
            counts: Numbers of the training.
            history: Results of all evaluations.
            seconds: Time that the training has taken.
            earlier: States of parts at the beginning of the epoch, in place of the current ones.

        Raises:
            DiskError: the file cannot be written.
        """
        if len(history) == self.num_kept:
            return
        is_best = self._is_best()
        numbers = {name: value for name, value in vars(counts).items() if name != _TRAIN_LOSS}
        values = {
            _PARTS: self.parts() | dict(earlier or {}),
            _HISTORY: [astuple(one) for one in history],
            _COUNTS: numbers,
            _SECONDS: seconds,
            _IS_BEST: is_best,
        }
        self._file.write(TrainingState(tensors=self._tensors(counts, with_best=not is_best), values=values))
        self.num_kept = len(history)

    def restore(self, counts: Counts, history: list[Epoch]) -> float | None:
        """Continue a new training from the file; nothing happens if there is none.

        Args:
            counts: Numbers of the training, which are changed.
            history: Results of all evaluations, which are added.

        Returns:
            Time that the training has taken; None if there is no file.

        Raises:
            StoreError: the file is damaged; the training is then unusable.
            DiskError: the file cannot be read.
        """
        checkpoint = self._file.read()
        if checkpoint is None:
            return None
        values = checkpoint.values
        try:
            is_best, seconds = bool(values[_IS_BEST]), float(values[_SECONDS])
            _set_counts(counts, values[_COUNTS])
            history += [_evaluation(row) for row in values[_HISTORY]]
            for name, part in self._parts.items():
                part.restore(values[_PARTS][name])
            self._load(checkpoint.tensors, counts, is_best=is_best)
            if not 0 <= seconds < math.inf:
                raise ValueError(f"seconds: {seconds}")
        except (AttributeError, KeyError, OverflowError, RuntimeError, TypeError, ValueError) as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise damaged(self._file.path, f"it is not of this training: {reason:.200}", AGAIN) from error
        self.num_kept = len(history)
        return seconds

    def _is_best(self) -> bool:
        """Check whether the current weights are the best ones, which then need not be written twice."""
        current = self._head.state_dict()
        return all(torch.equal(values, current[name]) for name, values in self._best.state.items())

    def _changing(self) -> dict[str, Tensor]:
        """Return the weights that are trained, and buffers, by name: values that the modules use themselves."""
        frozen = {name for name, one in self._modules.named_parameters(remove_duplicate=False) if not one.requires_grad}
        unique = {name for name, _ in (*self._modules.named_parameters(), *self._modules.named_buffers())}
        found: dict[str, Tensor] = self._modules.state_dict()
        return {name: values for name, values in found.items() if name in unique - frozen}

    def _tensors(self, counts: Counts, *, with_best: bool) -> dict[str, Tensor]:
        changing = self._changing()
        tensors = {f"{_WEIGHTS}{name}": values for name, values in changing.items()}
        if with_best:
            prefix = "head."
            of_head = [name.removeprefix(prefix) for name in changing if name.startswith(prefix)]
            tensors |= {f"{_BEST}{name}": self._best.state[name] for name in of_head}
        for number, state in self._optimiser.state_dict()["state"].items():
            tensors |= {f"{_OPTIMISER}{number}.{name}": one for name, one in state.items() if one is not None}
        tensors[_GENERATOR] = self._head.generator.get_state()
        tensors[_TRAIN_LOSS] = counts.train_loss
        return tensors

    def _load(self, tensors: Mapping[str, Tensor], counts: Counts, *, is_best: bool) -> None:
        expected = self._tensors(counts, with_best=not is_best) | self._sums()
        shapes = {name: (tuple(one.shape), one.dtype) for name, one in expected.items()}
        found = {name: (tuple(one.shape), one.dtype) for name, one in tensors.items()}
        # A parameter that no loss depends on has no sums.
        missing = [name for name in shapes if name not in found and not name.startswith(_OPTIMISER)]
        if missing or any(shapes.get(name) != one for name, one in found.items()):
            raise ValueError("it has other weights")
        for name, values in self._changing().items():
            values.copy_(tensors[f"{_WEIGHTS}{name}"])
        best = copy.deepcopy(learned_state(self._head))
        for name, values in best.items():
            if f"{_BEST}{name}" in tensors:
                values.copy_(tensors[f"{_BEST}{name}"])
        self._best.state = best
        sums: dict[int, dict[str, Tensor]] = {}
        for name in found:
            if name.startswith(_OPTIMISER):
                _, number, kind = name.split(".")
                sums.setdefault(int(number), {})[kind] = tensors[name]
        self._optimiser.load_state_dict({"state": sums, "param_groups": self._optimiser.state_dict()["param_groups"]})
        self._head.generator.set_state(tensors[_GENERATOR])
        counts.train_loss.copy_(tensors[_TRAIN_LOSS])

    def _sums(self) -> dict[str, Tensor]:
        """Return the names of the sums of the optimiser after a step, with tensors of their shapes."""
        parameters = [one for group in self._optimiser.param_groups for one in group["params"]]
        if isinstance(self._optimiser, torch.optim.SGD):
            return {f"{_OPTIMISER}{i}.momentum_buffer": one for i, one in enumerate(parameters)}
        found: dict[str, Tensor] = {}
        for i, one in enumerate(parameters):
            found |= {f"{_OPTIMISER}{i}.{name}": one for name in ("exp_avg", "exp_avg_sq")}
            found[f"{_OPTIMISER}{i}.step"] = torch.zeros(())
        return found


def _set_counts(counts: Counts, saved: Mapping[str, Any]) -> None:
    for name in vars(counts):
        if name != _TRAIN_LOSS:
            number = saved[name]
            if type(number) is not int or not 0 <= number < _MOST:
                raise ValueError(f"{name}: {number!r:.40}")
            setattr(counts, name, number)


def _evaluation(row: Sequence[Any]) -> Epoch:
    """Return the result of an evaluation from its values in the order of the fields."""
    kind = Epoch if len(row) == len(Epoch.__dataclass_fields__) else EvaluationAtStep
    values = dict(zip(kind.__dataclass_fields__, row, strict=True))
    if not all(isinstance(one, int | float) for one in row):
        raise ValueError(f"history: {row!r:.40}")
    return kind(**values)
