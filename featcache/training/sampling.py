"""Training utterances of a window → the order in which an epoch uses them."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from featcache.targets.targets import Value
from featcache.training.seeded import Draws, RandomChoices, Resumable, generator_of


class TrainingOrder(Resumable, Protocol):
    """Order of the training utterances.

    Attributes:
        per_epoch: Number of utterances that an epoch uses, repeated ones included.
    """

    per_epoch: int

    def order(self, present: Sequence[str]) -> list[str]:
        """Return the utterances of a window in the order of training.

        Args:
            present: Utterances of the training part in the window. Over an epoch, each one is given once.
        """


class Shuffled(RandomChoices):
    """Each utterance once per epoch, in random order.

    Args:
        seed: Seed of the training.
        train: Utterances of the training part.
    """

    def __init__(self, seed: int, train: Sequence[str]) -> None:
        self.per_epoch = len(train)
        super().__init__(np.random.default_rng(seed))

    def order(self, present: Sequence[str]) -> list[str]:
        """Return the utterances in random order."""
        return [present[i] for i in self._generator.permutation(len(present))]


class Balanced(RandomChoices):
    """Each class equally often per epoch, in random order.

    An epoch uses about as many utterances as the training part has. Within a class, all utterances are used equally
    often, except for a random remainder. If features are read in windows, each window contributes its share of a class.

    Args:
        seed: Seed of the training.
        train: Utterances of the training part.
        classes: Utterance id → position of its class.
    """

    def __init__(self, seed: int, train: Sequence[str], classes: Mapping[str, Value]) -> None:
        self._class_of = {i: _position(classes[i]) for i in train}
        present = sorted(set(self._class_of.values()))
        self._sizes = {one: sum(found == one for found in self._class_of.values()) for one in present}
        self._per_class = max(1, round(len(train) / len(present)))
        self._given = dict.fromkeys(present, 0)
        self.per_epoch = self._per_class * len(present)
        super().__init__(generator_of(seed, Draws.SAMPLER))

    def order(self, present: Sequence[str]) -> list[str]:
        """Return a random selection of the utterances in random order; some are repeated, others are missing."""
        chosen: list[str] = []
        for one, size in self._sizes.items():
            members = [i for i in present if self._class_of[i] == one]
            if not members:
                continue
            before, after = self._given[one], self._given[one] + len(members)
            number = self._due(after, size) - self._due(before, size)
            self._given[one] = after % size
            times, rest = divmod(number, len(members))
            chosen += members * times
            chosen += [members[i] for i in self._generator.permutation(len(members))[:rest]]
        return [chosen[i] for i in self._generator.permutation(len(chosen))]

    def saved(self) -> dict[str, Any]:
        return super().saved() | {"given": list(self._given.values())}

    def restore(self, saved: Mapping[str, Any]) -> None:
        super().restore(saved)
        given = dict(zip(self._sizes, saved["given"], strict=True))
        if not all(type(number) is int and 0 <= number < self._sizes[one] for one, number in given.items()):
            raise ValueError(f"given: {given}")
        self._given = given

    def _due(self, given: int, size: int) -> int:
        """Return how many utterances of a class are used after some of its utterances were in a window."""
        return self._per_class * given // size


def _position(target: Value) -> int:
    if not isinstance(target, int):
        raise TypeError(f"expected the position of a class, found {target!r}")
    return target
