"""Extractors on several devices → one extractor, which sends each batch to the least busy device."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from featcache.extractors.base import Extractor
from featcache.features import Features

# Number of batches per device: it computes one while it copies the features of the other to the host.
AT_ONCE = 2


class SeveralDevices(Extractor):
    """The same extractor on several devices.

    Args:
        copies: One extractor per device, identical except for the device.
    """

    def __init__(self, copies: Sequence[Extractor]) -> None:
        self.description = copies[0].description
        self.tokenise = copies[0].tokenise
        self._copies = copies
        self._under_way = [0] * len(copies)
        self._freed = threading.Condition()

    def num_frames(self, num_samples: int, sampling_rate: int) -> int:
        return self._copies[0].num_frames(num_samples, sampling_rate)

    def hop(self, sampling_rate: int) -> int:
        return self._copies[0].hop(sampling_rate)

    def context(self, sampling_rate: int) -> int:
        return self._copies[0].context(sampling_rate)

    def peak_bytes(self, batch: int, num_samples: int, sampling_rate: int) -> int:
        return self._copies[0].peak_bytes(batch, num_samples, sampling_rate)

    def extract(self, signals: Sequence[Any]) -> list[Features]:
        with self._least_busy() as copy:
            return copy.extract(signals)

    def extract_with_padding(self, signals: Sequence[Any]) -> list[tuple[Features, Features | None]]:
        with self._least_busy() as copy:
            return copy.extract_with_padding(signals)

    @contextmanager
    def _least_busy(self) -> Iterator[Extractor]:
        with self._freed:
            self._freed.wait_for(lambda: min(self._under_way) < AT_ONCE)
            number = self._under_way.index(min(self._under_way))
            self._under_way[number] += 1
        try:
            yield self._copies[number]
        finally:
            with self._freed:
                self._under_way[number] -= 1
                self._freed.notify()
