"""Options of training → modules of a model: dropout, LayerDrop, gradient checkpointing."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint


def set_dropout(module: nn.Module, probability: float) -> None:
    """Set the probability of every dropout of a model: of hidden states, attention and activations.

    Args:
        module: Model of transformers.
        probability: Probability that a value is set to zero.
    """
    for part in module.modules():
        if isinstance(part, nn.Dropout):
            part.p = probability
        for name, value in list(vars(part).items()):
            if "dropout" in name and isinstance(value, (int, float)) and not isinstance(value, bool):
                setattr(part, name, probability)


def set_layer_dropout(module: Any, probability: float) -> None:
    """Set the probability that a whole block is left out in a training step (LayerDrop).

    Args:
        module: Model of transformers.
        probability: Probability of leaving out a block.
    """
    for holder in (module.config, *module.modules()):
        if isinstance(getattr(holder, "layerdrop", None), (int, float)):
            holder.layerdrop = probability


class Recomputed:
    """Forward method of a block whose intermediate results are computed again for the gradients, to save memory.

    Args:
        block: Block, whose forward method this replaces.

    Attributes:
        original: Forward method of the block.
    """

    def __init__(self, block: nn.Module) -> None:
        self._block = block
        self.original = block.forward

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not (self._block.training and torch.is_grad_enabled()):
            return self.original(*args, **kwargs)
        return checkpoint(self.original, *args, use_reentrant=False, **kwargs)


def recompute(blocks: Iterable[nn.Module]) -> None:
    """Turn on gradient checkpointing for blocks."""
    for block in blocks:
        block.forward = Recomputed(block)
