"""Pooled vectors and targets of a batch → mixtures of pairs of utterances."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from featcache.training.seeded import Draws, RandomChoices, generator_of

Loss = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class Mixture:
    """Pairs of utterances of a batch.

    Attributes:
        share: Share of each utterance, in [0, 1]; its partner has the rest.
        partners: (batch,) int64, the position of the partner of each utterance.
    """

    share: float
    partners: Tensor

    def mixed(self, values: Tensor) -> Tensor:
        """Mix vectors, or targets that are numbers, with those of the partners: (batch, size) → (batch, size)."""
        return self.share * values + (1 - self.share) * values[self.partners]

    def loss(self, loss: Loss, outputs: Tensor, targets: Tensor) -> Tensor:
        """Compute the loss of mixtures.

        Args:
            loss: Outputs and targets → mean loss.
            outputs: (batch, num_outputs) outputs for the mixtures.
            targets: (batch,) classes, whose losses are mixed; or (batch, num_targets) numbers, which are mixed.
        """
        if targets.is_floating_point():
            return loss(outputs, self.mixed(targets))
        return self.share * loss(outputs, targets) + (1 - self.share) * loss(outputs, targets[self.partners])


class Mixup(RandomChoices):
    """Random mixtures of the utterances of each batch, with one share per batch.

    Args:
        seed: Seed of the training.
        alpha: Both parameters of the beta distribution of the share.

    Source: Zhang et al. 2018; mixed after the pooling over frames, as in Verma et al. 2019 (manifold mixup), so that
        utterances may have different lengths.
    """

    def __init__(self, seed: int, alpha: float) -> None:
        self._alpha = alpha
        super().__init__(generator_of(seed, Draws.MIXUP))

    def draw(self, batch: int, device: str) -> Mixture:
        """Draw the share and the partners of a batch.

        Args:
            batch: Number of utterances of the batch.
            device: Device of their vectors.
        """
        share = float(self._generator.beta(self._alpha, self._alpha))
        partners = torch.from_numpy(self._generator.permutation(batch)).to(device)
        return Mixture(share=share, partners=partners)
