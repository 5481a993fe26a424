"""Fine-tuning → memory of one training: blocks, gradients, optimiser, activations of the largest batch."""

import math
from collections.abc import Sequence

from featcache.extractors.upper import ActivationMemory, UpperBlocks
from featcache.settings.finetunings import FinetuneSettings
from featcache.settings.fits import FitSettings
from featcache.training.store_features import StoreFeatures, frames_in_use

FLOAT32 = 4


def blocks_bytes(
    request: FinetuneSettings,
    blocks: Sequence[UpperBlocks],
    activations: Sequence[ActivationMemory],
    features: Sequence[StoreFeatures],
    batches: Sequence[tuple[int, int]],
    *,
    copies: int,
    device: str = "cpu",
) -> float:
    """Return the memory in bytes of the blocks of one training; every argument has one item per store.

    Weights that are not trained, as all but those of adapters, have no gradients, optimiser states or best values. The
    activations of a step and a model that is being written do not exist at the same time.

    Args:
        request: The settings of the fine-tuning.
        blocks: The blocks.
        activations: Memory of a training step.
        features: Features of each store.
        batches: Number of utterances and of frames of the largest batch.
        copies: Numbers that a training has for each weight that is trained.
        device: Device of the training. On a GPU, attention keeps no values for pairs of frames.
    """
    weights = step = written = 0.0
    for one, memory, item, (number, frames) in zip(blocks, activations, features, batches, strict=True):
        of_blocks = FLOAT32 * sum(values.numel() for values in one.parameters())
        kept = memory.of_batch(number, frames, pairs=not device.startswith("cuda"))
        if request.blocks_learning_rate:
            trained = FLOAT32 * sum(values.numel() for values in one.tuned_parameters())
            weights += of_blocks + (copies - 1) * trained
            step += kept
        else:
            weights += of_blocks
            step = max(step, kept / len(one.encoder.blocks))
        written += of_blocks + FLOAT32 * float(item.store.metadata.get("num_parameters", 0))
    return weights + max(step, written)


def largest_batches(
    request: FinetuneSettings, features: Sequence[StoreFeatures], utterance_ids: Sequence[str], batch_size: int
) -> list[tuple[int, int]]:
    """Return the number of utterances and of frames, padding included, of the largest batch of each store.

    Args:
        request: The settings of the fine-tuning.
        features: Features of each store.
        utterance_ids: All utterances.
        batch_size: Number of utterances of a batch, if ``batch_seconds`` is not given.
    """
    used = [frames_in_use(features, i) for i in utterance_ids]
    longest = [max(item.num_read(frames[store]) for frames in used) for store, item in enumerate(features)]
    number = batch_size
    if request.batch_seconds is not None:
        shifts = (item.frame_shift * frames for item, frames in zip(features, longest, strict=True))
        number = max(1, math.floor(request.batch_seconds / next(one for one in shifts if not math.isnan(one))))
    return [(number, frames) for frames in longest]


def advice_of(request: FitSettings) -> str:
    """Return how a training would need less memory."""
    if not isinstance(request, FinetuneSettings):
        return "use fewer frames with --max-frames"
    smaller = "--batch-size" if request.batch_seconds is None else "--batch-seconds"
    checkpointing = "" if request.gradient_checkpointing else "--gradient-checkpointing, "
    return f"use {checkpointing}a smaller {smaller} with --accumulate, or fewer frames with --max-frames"
