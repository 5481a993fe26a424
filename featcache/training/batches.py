"""Features → packed utterances in memory: all at once or, if they do not fit, one window after another."""

import math
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass

import numpy as np
import torch

from featcache.errors import FeatureError
from featcache.heads.packed import Packed, pack, packed_bytes
from featcache.machine import give_back
from featcache.normalise import Normaliser
from featcache.terminal.interrupts import Pool
from featcache.threads import one_thread_each
from featcache.training.finite import not_finite
from featcache.training.memory import WorkingCopy
from featcache.training.store_features import StoreFeatures, frames_in_use, steps_of, values_in_use

# Number of pieces of the cache that form a window; each piece is read sequentially.
PIECES = 32
# File pages are released after this many bytes are read, because they count as memory of this process.
READ_AT_ONCE = 64 * 2**20


@dataclass(frozen=True, kw_only=True)
class LoadedUtterances:
    """Features of utterances in memory.

    Attributes:
        utterances: Utterance id → packed features, one item per store, each with its own number of frames.
    """

    utterances: Mapping[str, tuple[Packed, ...]]

    def among(self, utterance_ids: Sequence[str]) -> list[str]:
        """Return the given utterances that are in memory, in the given order."""
        return [utterance_id for utterance_id in utterance_ids if utterance_id in self.utterances]

    def batch(self, utterance_ids: Sequence[str], layers: Sequence[slice]) -> list[list[Packed]]:
        """Return the chosen layers of utterances, per store."""
        packed = [self.utterances[utterance_id] for utterance_id in utterance_ids]
        return [[items[store].layers(chosen) for items in packed] for store, chosen in enumerate(layers)]


class FeatureWindows:
    """Normalised features of utterances, read in windows that fit into memory.

    Args:
        features: Features of each store.
        normalisers: Normaliser of each store, for all its layers.
        copy: Dtype of the in-memory features, and memory for a window.
        workers: Number of threads that read and normalise.
        device: Device of the packed features.

    Attributes:
        num_read: Number of utterances that are in memory; it grows while :meth:`load` reads all of them.
        num_wanted: Number of utterances that :meth:`load` reads.
    """

    def __init__(
        self,
        features: Sequence[StoreFeatures],
        normalisers: Sequence[Normaliser],
        copy: WorkingCopy,
        *,
        workers: int,
        device: str = "cpu",
    ) -> None:
        self._features = features
        self._normalisers = [f.of_layers(n) for f, n in zip(features, normalisers, strict=True)]
        self._copy = copy
        self._workers = workers
        self._device = device
        self._ids: Sequence[str] = ()
        self._faulty: set[tuple[int, str]] = set()
        self._all: LoadedUtterances | None = None
        self.num_read = self.num_wanted = 0

    @property
    def holds_all(self) -> bool:
        """Whether all utterances are in memory at once."""
        return self._copy.room is None

    def load(self, utterance_ids: Sequence[str]) -> None:
        """Set the utterances, and read them if all of them fit into memory."""
        self._ids = self._features[0].in_order(utterance_ids)
        if self.holds_all:
            self.num_wanted = len(self._ids)
            self._all = self._read(self._ids)

    def windows(self, utterance_ids: Sequence[str], *, epoch: int | None = None) -> Iterator[LoadedUtterances]:
        """Yield windows that together contain each of these utterances once.

        Args:
            utterance_ids: The utterances to read. They do not change which utterances share a window, so that a
                training reads the same windows alone and together with others.
            epoch: Number that seeds the shuffling of pieces; None keeps the order of the store.
        """
        if self._all is not None:
            yield self._all
            return
        wanted = set(utterance_ids)
        groups = ([i for i in group if i in wanted] for group in self._groups(epoch))
        with Pool(1, "window") as ahead:
            coming: Future[LoadedUtterances] | None = None
            for group in filter(None, groups):
                ready, coming = coming, ahead.submit(self._read, group)
                if ready is not None:
                    yield ready.result()
                del ready  # two windows are in memory, not three
            if coming is not None:
                yield coming.result()

    def _groups(self, epoch: int | None) -> Iterator[list[str]]:
        """Yield the utterance ids of each window; it takes half of the memory, because the next one is read already."""
        room = (self._copy.room or np.inf) / 2
        pieces = self._pieces(self._ids, room / PIECES)
        if epoch is not None:
            order = np.random.default_rng(epoch).permutation(len(pieces))
            pieces = [pieces[i] for i in order]
        group: list[str] = []
        size = 0.0
        for piece, piece_size in pieces:
            if group and size + piece_size > room:
                yield group
                group, size = [], 0.0
            group += piece
            size += piece_size
        if group:
            yield group

    def _pieces(self, utterance_ids: Sequence[str], most: float) -> list[tuple[list[str], float]]:
        """Return groups of consecutive utterances of at most ``most`` bytes, each with its size in bytes."""
        pieces: list[tuple[list[str], float]] = []
        for utterance_id in utterance_ids:
            size = self._bytes_of(utterance_id)
            if not pieces or pieces[-1][1] + size > most:
                pieces.append(([], 0.0))
            ids, before = pieces[-1]
            ids.append(utterance_id)
            pieces[-1] = (ids, before + size)
        return pieces

    def _bytes_of(self, utterance_id: str) -> float:
        values = values_in_use(self._features, utterance_id)
        return float(packed_bytes(self._copy.dtype, values, steps_of(self._features)))

    def _read(self, utterance_ids: Sequence[str]) -> LoadedUtterances:
        packed: dict[str, tuple[Packed, ...]] = {}
        with one_thread_each(), Pool(self._workers, "read") as pool:
            pieces = [piece for piece, _ in self._pieces(utterance_ids, READ_AT_ONCE)]
            self._prefetch(pieces[0])
            for piece, following in zip(pieces, [*pieces[1:], []], strict=True):
                self._prefetch(following)
                for utterance_id, features_of_it in zip(piece, pool.map(self._packed, piece), strict=True):
                    packed[utterance_id] = features_of_it
                    self.num_read += self.holds_all
                for features in self._features:
                    features.drop_pages()
                if not self.holds_all:  # otherwise once at the end, because this takes as long as reading
                    give_back()
        give_back()
        self._refuse_faulty(len(utterance_ids))
        return LoadedUtterances(utterances=packed)

    def _prefetch(self, utterance_ids: Sequence[str]) -> None:
        num_frames = [frames_in_use(self._features, utterance_id) for utterance_id in utterance_ids]
        for store, features in enumerate(self._features):
            features.prefetch(utterance_ids, [of_stores[store] for of_stores in num_frames])

    def _packed(self, utterance_id: str) -> tuple[Packed, ...]:
        num_frames = frames_in_use(self._features, utterance_id)
        packed = []
        for number, (features, frames, normaliser) in enumerate(
            zip(self._features, num_frames, self._normalisers, strict=True)
        ):
            with np.errstate(all="ignore"):  # values that are not finite are reported below
                values = features.read(utterance_id, frames, normaliser)
            packed.append(pack(values, self._copy.dtype, features.real_frames(frames)))
            # A sum is finite only if all its terms are, and is faster than checking each value.
            if not math.isfinite(values.sum()) or not packed[-1].fits:
                self._faulty.add((number, utterance_id))
        return tuple(one.to(self._device) for one in packed)

    def _refuse_faulty(self, number: int) -> None:
        """Refuse features that are not finite, or too large for the dtype in memory.

        Raises:
            FeatureError: some utterances have such values; the message lists those of the first store.
        """
        for store, features in enumerate(self._features):
            faulty = [i for i in self._ids if (store, i) in self._faulty]
            for one, ids in features.of_stores(faulty):
                held = "" if self._copy.dtype == torch.float32 else f"; {self._copy}"
                raise FeatureError(not_finite(one.store, ids, number) + held)


def num_values(features: Sequence[StoreFeatures], utterance_ids: Sequence[str]) -> int:
    """Return the number of feature values of utterances, summed over all stores."""
    return sum(values_in_use(features, utterance_id) for utterance_id in utterance_ids)
