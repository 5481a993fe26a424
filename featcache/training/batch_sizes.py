"""Utterances in the order of training → batches of equal numbers, or of utterances of similar length."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from featcache.settings.finetunings import BlockSettings
from featcache.training.seeded import Draws, RandomChoices, Resumable, generator_of

# Number of batches whose utterances are sorted by length together. More of them need less padding, but batches are then
# less random.
SORTED_TOGETHER = 50


class BatchSizes(Resumable, Protocol):
    """Division of utterances into batches."""

    def batches(self, order: Sequence[str]) -> list[list[str]]:
        """Return the batches of a training epoch, from its utterances in random order."""

    def tested(self, utterance_ids: Sequence[str]) -> list[list[str]]:
        """Return batches without random choices, for evaluation."""

    def position(self, num_seen: int) -> float:
        """Return the number of batches of an epoch that this many utterances fill, on average."""


class EqualNumbers:
    """Batches of equal numbers of utterances.

    Args:
        number: Number of utterances of a batch; the last one may have fewer.
    """

    def __init__(self, number: int) -> None:
        self._number = number

    def batches(self, order: Sequence[str]) -> list[list[str]]:
        return [list(order[first : first + self._number]) for first in range(0, len(order), self._number)]

    def tested(self, utterance_ids: Sequence[str]) -> list[list[str]]:
        return self.batches(utterance_ids)

    def position(self, num_seen: int) -> float:
        return num_seen / self._number

    def saved(self) -> dict[str, Any]:
        return {}

    def restore(self, saved: Mapping[str, Any]) -> None:
        """Nothing changes from step to step."""


class SimilarLengths(RandomChoices):
    """Batches of utterances of similar length: their number, or the longest one times their number, is limited.

    The utterances of about 50 batches are sorted by length, so that batches differ between epochs. Then, the order of
    the batches is random.

    Args:
        most: Largest duration of a batch with padding, in the unit of ``lengths``; a longer utterance is a batch of its
            own. With ``in_numbers``, largest number of utterances.
        lengths: Utterance id → length.
        train: Utterances of the training part.
        seed: Seed of the training.
        in_numbers: Whether the number of utterances is limited, not their length.
    """

    def __init__(
        self, most: float, lengths: Mapping[str, float], train: Sequence[str], seed: int, *, in_numbers: bool = False
    ) -> None:
        self._most = most
        self._lengths = lengths
        self._in_numbers = in_numbers
        super().__init__(generator_of(seed, Draws.BUCKETS))
        self._per_utterance = len(self._filled(sorted(train, key=lengths.__getitem__))) / len(train)

    def batches(self, order: Sequence[str]) -> list[list[str]]:
        found: list[list[str]] = []
        pool: list[str] = []
        room = SORTED_TOGETHER * self._most
        for number, utterance_id in enumerate(order, start=1):
            pool.append(utterance_id)
            room -= self._share(utterance_id)
            if room <= 0 or number == len(order):
                found += self.tested(pool)
                pool, room = [], SORTED_TOGETHER * self._most
        return [found[i] for i in self._generator.permutation(len(found))]

    def tested(self, utterance_ids: Sequence[str]) -> list[list[str]]:
        return self._filled(sorted(utterance_ids, key=self._lengths.__getitem__))

    def position(self, num_seen: int) -> float:
        return num_seen * self._per_utterance

    def _filled(self, ascending: Sequence[str]) -> list[list[str]]:
        """Return batches of neighbouring utterances; the last one of each is its longest."""
        found: list[list[str]] = []
        for utterance_id in ascending:
            if not found or (len(found[-1]) + 1) * self._share(utterance_id) > self._most:
                found.append([])
            found[-1].append(utterance_id)
        return found

    def _share(self, utterance_id: str) -> float:
        """Return what an utterance, if it is the longest, adds to a batch."""
        return 1 if self._in_numbers else self._lengths[utterance_id]


def batch_sizes(
    number: int, blocks: BlockSettings | None, lengths: Mapping[str, float], train: Sequence[str], seed: int
) -> BatchSizes:
    """Return the division into batches that the settings ask for.

    Args:
        number: Number of utterances of a batch, unless its duration is limited.
        blocks: Options of fine-tuned blocks; None for other heads.
        lengths: Utterance id → duration in seconds, or number of tokens, for batches of similar length.
        train: Utterances of the training part.
        seed: Seed of the training.
    """
    if blocks is not None and blocks.batch_seconds is not None:
        return SimilarLengths(blocks.batch_seconds, lengths, train, seed)
    if blocks is not None and blocks.group_by_length:
        return SimilarLengths(number, lengths, train, seed, in_numbers=True)
    return EqualNumbers(number)
