"""Seed × feature → its own source of random numbers, so that an option changes no other random number."""

from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum

import numpy as np
import torch


class Draws(IntEnum):
    """Random choices of a training that options add; a number must never change, because it is part of the seed."""

    SAMPLER = 1
    MIXUP = 2
    CROP = 3
    MASK_TIME = 4
    MASK_DIMS = 5
    NOISE = 6
    BUCKETS = 7
    MODEL = 8
    ADAPTERS = 9


def generator_of(seed: int, draws: Draws) -> np.random.Generator:
    """Return the source of one kind of random choices of a training.

    Args:
        seed: Seed of the training.
        draws: Kind of choices. The order of shuffled utterances uses the seed alone.
    """
    return np.random.default_rng([seed, int(draws)])


@contextmanager
def torch_seeded(seed: int, draws: Draws, *place: int, device: str) -> Iterator[None]:
    """Seed torch's global generators inside the ``with`` block, for models; restore them afterwards.

    Args:
        seed: Seed of the training.
        draws: Kind of choices.
        place: Numbers of the training step and the batch, so that earlier draws have no effect.
        device: Device of the model.
    """
    devices = [torch.device(device)] if device.startswith("cuda") else []
    [number] = np.random.SeedSequence([seed, int(draws), *place]).generate_state(1, np.uint64)
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(int(number >> np.uint64(1)))
        yield
