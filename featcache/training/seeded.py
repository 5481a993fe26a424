"""Seed × feature → its own source of random numbers, so that an option changes no other random number."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import IntEnum
from typing import Any, Protocol

import numpy as np
import torch

# torch's global generator is one for all threads, such as those of a Dask worker that trains several folds.
_global_generator = threading.Lock()


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


class Resumable(Protocol):
    """Part of a training that changes from step to step."""

    def saved(self) -> dict[str, Any]:
        """Return the state as plain JSON values."""

    def restore(self, saved: Mapping[str, Any]) -> None:
        """Set the state.

        Args:
            saved: The result of :meth:`saved` in another process; it may have been changed by anyone.

        Raises:
            KeyError: a value is missing.
            ValueError: a value is wrong; likewise TypeError and OverflowError.
        """


class RandomChoices:
    """Random choices of one kind, whose source can be saved.

    Args:
        generator: Source of random numbers.
    """

    def __init__(self, generator: np.random.Generator) -> None:
        self._generator = generator

    def saved(self) -> dict[str, Any]:
        """Return the state of the source as plain JSON values."""
        return {"generator": self._generator.bit_generator.state}

    def restore(self, saved: Mapping[str, Any]) -> None:
        """Set the state of the source, see :meth:`Resumable.restore`."""
        self._generator.bit_generator.state = saved["generator"]


@contextmanager
def torch_seeded(seed: int, draws: Draws, *place: int, device: str) -> Iterator[None]:
    """Seed torch's global generators inside the ``with`` block, for models; restore them afterwards.

    Other threads wait before such a block until this one ends.

    Args:
        seed: Seed of the training.
        draws: Kind of choices.
        place: Numbers of the training step and the batch, so that earlier draws have no effect.
        device: Device of the model.
    """
    devices = [torch.device(device)] if device.startswith("cuda") else []
    [number] = np.random.SeedSequence([seed, int(draws), *place]).generate_state(1, np.uint64)
    with _global_generator, torch.random.fork_rng(devices=devices):
        torch.manual_seed(int(number >> np.uint64(1)))
        yield
