"""Upper blocks of a model → memory of what a training step keeps for its gradients, from a short forward pass."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from featcache.extractors.upper.training_options import Recomputed
from featcache.extractors.upper.upper_blocks import UpperBlocks

# Frames of the utterances that are computed: few, because text models have a limit. All arrays grow with the number of
# frames, or with its square (attention).
NUM_FRAMES = 8, 16, 24
# Utterances of a pass; they have different lengths, because attention keeps more with a mask. The difference between
# both numbers shows what does not grow with them: weights that are computed, as those of adapters in WavLM.
BATCH_SIZES = 2, 3
# Further memory of the backward pass, as a multiple of what one block keeps: gradients, and with gradient checkpointing
# the outputs that are computed again. Measured: 0.4 and 1.2 to 1.9.
GRADIENTS, RECOMPUTED = 1.0, 2.0


@dataclass(frozen=True, kw_only=True)
class ActivationMemory:
    """Memory of a training step for the outputs that the backward pass needs, and for its own arrays.

    Attributes:
        per_batch: Bytes, whatever the number of utterances.
        per_utterance: Bytes per utterance, whatever its length.
        per_frame: Bytes per frame.
        per_pair: Bytes per pair of frames of an utterance (attention).
    """

    per_batch: float = 0.0
    per_utterance: float = 0.0
    per_frame: float
    per_pair: float

    def of_batch(self, num_utterances: int, num_frames: int, *, pairs: bool = True) -> float:
        """Return the bytes of a batch.

        Args:
            num_utterances: Number of utterances.
            num_frames: Number of frames of each, padding included.
            pairs: Whether the device keeps values for pairs of frames.
        """
        of_pairs = self.per_pair * num_frames**2 if pairs else 0.0
        return self.per_batch + num_utterances * (self.per_utterance + self.per_frame * num_frames + of_pairs)


def activation_memory(upper: UpperBlocks) -> ActivationMemory:
    """Measure the memory that blocks need in training, without the weights and their gradients.

    With gradient checkpointing, only the inputs of the blocks are kept, and a single block at a time has the others.

    Args:
        upper: Blocks on the CPU, in float32. They are not changed.
    """
    fixed = upper.fixed_frames
    lengths = (fixed,) if fixed else NUM_FRAMES
    kept = _per_batch_and_utterance(upper, lengths)
    blocks = [block for block in upper.encoder.blocks if isinstance(block.forward, Recomputed)]
    with _without_recomputing(blocks):
        of_all = _per_batch_and_utterance(upper, lengths) if blocks else kept
    share = (RECOMPUTED if blocks else GRADIENTS) / len(upper.encoder.blocks)
    per_batch, *total = kept + share * of_all
    if fixed:
        return ActivationMemory(per_batch=per_batch, per_frame=total[0] / fixed, per_pair=0.0)
    per_pair, per_frame, per_utterance = (float(one) for one in np.polyfit(NUM_FRAMES, total, deg=2))
    return ActivationMemory(
        per_batch=per_batch,
        per_utterance=max(0.0, per_utterance),
        per_frame=per_frame,
        per_pair=max(0.0, per_pair),
    )


def _per_batch_and_utterance(upper: UpperBlocks, lengths: Sequence[int]) -> npt.NDArray[np.float64]:
    """Return what a forward pass in training keeps: bytes per batch, then bytes per utterance of each length."""
    few, many = BATCH_SIZES
    kept = np.array([_kept(upper, number, few) for number in lengths])
    slope = (_kept(upper, lengths[0], many) - kept[0]) / (many - few)
    per_batch = max(0.0, kept[0] - few * slope)
    return np.array([per_batch, *(kept - per_batch) / few])


def _kept(upper: UpperBlocks, num_frames: int, batch_size: int) -> float:
    """Return the bytes that a forward pass in training keeps."""
    own = {values.untyped_storage().data_ptr() for values in (*upper.parameters(), *upper.buffers())}
    found: dict[int, Tensor] = {}  # the arrays live until all are counted, so that no address is used twice

    def count(values: Tensor) -> Tensor:
        place = values.untyped_storage().data_ptr()
        if place not in own:
            found[place] = values
        return values

    lengths = [num_frames] * batch_size
    if upper.fixed_frames is None and upper.encoder.masks_padding:
        lengths[0] -= 1
    utterances = [torch.ones(length, upper.hidden_size) for length in lengths]
    training = upper.training
    upper.train()
    with (
        torch.random.fork_rng(devices=[]),
        torch.enable_grad(),
        _every_block(upper.encoder),
        torch.autograd.graph.saved_tensors_hooks(count, _same),
    ):
        outputs = upper(utterances)
    upper.train(training)
    del outputs
    return sum(values.untyped_storage().nbytes() for values in found.values())


def _same(values: Tensor) -> Tensor:
    return values


@contextmanager
def _every_block(encoder: nn.Module) -> Iterator[None]:
    """Leave out no block at random (LayerDrop)."""
    holders: list[Any] = [one for part in encoder.modules() for one in (part, getattr(part, "config", None))]
    before = [(one, one.layerdrop) for one in holders if isinstance(getattr(one, "layerdrop", None), int | float)]
    for holder, _ in before:
        holder.layerdrop = 0.0
    try:
        yield
    finally:
        for holder, probability in reversed(before):
            holder.layerdrop = probability


@contextmanager
def _without_recomputing(blocks: Iterable[Any]) -> Iterator[None]:
    before = [(block, block.forward) for block in blocks]
    for block, recomputed in before:
        block.forward = recomputed.original
    try:
        yield
    finally:
        for block, recomputed in before:
            block.forward = recomputed
