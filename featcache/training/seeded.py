"""Seed × feature → its own source of random numbers, so that an option changes no other random number."""

from enum import IntEnum

import numpy as np


class Draws(IntEnum):
    """Random choices of a training that options add; a number must never change, because it is part of the seed."""

    SAMPLER = 1
    MIXUP = 2
    CROP = 3
    MASK_TIME = 4
    MASK_DIMS = 5
    NOISE = 6


def generator_of(seed: int, draws: Draws) -> np.random.Generator:
    """Return the source of one kind of random choices of a training.

    Args:
        seed: Seed of the training.
        draws: Kind of choices. The order of shuffled utterances uses the seed alone.
    """
    return np.random.default_rng([seed, int(draws)])
