"""Pooled vectors of a head × further labels → the loss of auxiliary targets, which are learned beside the main one.

Each auxiliary target has a linear layer of its own on the vectors that the head classifies. The layers belong to the
training only: they are not part of the head, and are not saved with it.

Source: Caruana 1997, Multitask Learning.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from featcache.heads.base import linear
from featcache.targets.base import Value
from featcache.training.mixup import Mixture

# Added to the seed of a training, so that the layers start from other numbers than the head.
_SEED = 77_000_017


@dataclass(frozen=True, kw_only=True)
class AuxiliaryTask:
    """An auxiliary target.

    Attributes:
        weight: Factor of its loss.
        num_outputs: Number of classes, or of values of a regression.
        loss: Outputs and targets of several utterances → their mean loss, a scalar.
        targets: Utterance id → class or values, for the utterances that have the label.
    """

    weight: float
    num_outputs: int
    loss: Callable[[Tensor, Tensor], Tensor]
    targets: Mapping[str, Value]


class Auxiliary:
    """The auxiliary targets of one training.

    Args:
        tasks: The auxiliary targets.
        size: Number of values of a pooled vector.
        seed: Seed of the training. The layers draw their initial weights from a generator of their own, so that the
            head and the order of utterances are the same with and without auxiliary targets.
        device: Device of the layers.

    Attributes:
        layers: One linear layer per auxiliary target, with the initial weights of the output layers of heads.
    """

    def __init__(self, tasks: Sequence[AuxiliaryTask], size: int, seed: int, device: str = "cpu") -> None:
        generator = torch.Generator("cpu").manual_seed(_SEED + seed)
        self._tasks = tuple(tasks)
        self.layers = nn.ModuleList(linear(size, task.num_outputs, generator) for task in tasks).to(device)

    def parameters(self) -> list[nn.Parameter]:
        """Return the weights of the layers, which are optimised with those of the head."""
        return list(self.layers.parameters())

    def loss(self, pooled: Tensor, utterance_ids: Sequence[str], mixture: Mixture | None = None) -> Tensor:
        """Return the sum of the weighted losses of a batch.

        The loss of a target is the mean over the utterances that have its label; it is 0 if none has.

        Args:
            pooled: (batch, size) vectors of the utterances, or mixtures of two utterances each.
            utterance_ids: The utterances.
            mixture: Share of the utterances and their partners, if the vectors are mixtures. The loss is then
                share · loss for the utterances + (1 − share) · loss for their partners.

        Returns:
            A float32 scalar.
        """
        total = pooled.new_zeros((), dtype=torch.float32)
        for task, layer in zip(self._tasks, self.layers, strict=True):
            outputs = layer(pooled).float()
            loss = _masked(task, outputs, utterance_ids)
            if mixture is not None:
                partners = [utterance_ids[i] for i in mixture.partners.tolist()]
                loss = mixture.share * loss + (1 - mixture.share) * _masked(task, outputs, partners)
            total = total + task.weight * loss
        return total


def _masked(task: AuxiliaryTask, outputs: Tensor, utterance_ids: Sequence[str]) -> Tensor:
    """Return the mean loss of the utterances that have the label; 0 if none has."""
    rows = [row for row, utterance_id in enumerate(utterance_ids) if utterance_id in task.targets]
    if not rows:
        return outputs.sum() * 0
    targets = torch.tensor([task.targets[utterance_ids[row]] for row in rows], device=outputs.device)
    return task.loss(outputs if len(rows) == len(utterance_ids) else outputs[rows], targets)
