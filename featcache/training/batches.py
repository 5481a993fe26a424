"""Features → packed utterances in memory: all at once or, where the cache is larger, window after window."""

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

# A window is put together from so many pieces of the cache, each of which is read in one go.
PIECES = 32
# What has been read is let go of after so many bytes, because pages of files count as memory of this process.
READ_AT_ONCE = 64 * 2**20


@dataclass(frozen=True, kw_only=True)
class LoadedUtterances:
    """Utterances in memory.

    Attributes:
        utterances: Utterance id → its packed features, one per store, each with its own number of frames.
    """

    utterances: Mapping[str, tuple[Packed, ...]]

    def among(self, utterance_ids: Sequence[str]) -> list[str]:
        """Those that are here, in their order."""
        return [utterance_id for utterance_id in utterance_ids if utterance_id in self.utterances]

    def batch(self, utterance_ids: Sequence[str], layers: Sequence[slice]) -> list[list[Packed]]:
        """For each store the chosen layers of these utterances."""
        packed = [self.utterances[utterance_id] for utterance_id in utterance_ids]
        return [[items[store].layers(chosen) for items in packed] for store, chosen in enumerate(layers)]


class FeatureWindows:
    """Gives out windows over normalised features.

    Args:
        features: One per store.
        normalisers: One per store.
        copy: How utterances are held.
        workers: Threads that read and normalise.
        device: Where packed features lie.
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

    @property
    def holds_all(self) -> bool:
        return self._copy.room is None

    def load(self, utterance_ids: Sequence[str]) -> None:
        """Say which utterances there are; they are read now where all of them are held."""
        wanted = set(utterance_ids)
        self._ids = [i for i in self._features[0].store.utterance_ids if i in wanted]
        if self.holds_all:
            self._all = self._read(self._ids)

    def windows(self, utterance_ids: Sequence[str], *, epoch: int | None = None) -> Iterator[LoadedUtterances]:
        """Windows that hold each of these utterances once.

        Args:
            utterance_ids: Which. What comes together in a window does not depend on them, so that a training meets
                the same windows alone and beside others.
            epoch: Shuffles what comes together; None leaves the store's order.
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
        """The ids of one window after another, each of at most half the room: the next one is read meanwhile."""
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
        """Utterances one after another, up to so many bytes, and what they take."""
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
                packed.update(zip(piece, pool.map(self._packed, piece), strict=True))
                for features in self._features:
                    features.store.drop_pages()
                if not self.holds_all:  # it takes as long as reading does
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
            with np.errstate(all="ignore"):  # what comes of it is told below
                values = features.read(utterance_id, frames, normaliser)
            packed.append(pack(values, self._copy.dtype))
            # a sum is finite only if all its terms are, and is had for less than a look at each of them
            if not math.isfinite(values.sum()) or not packed[-1].fits:
                self._faulty.add((number, utterance_id))
        return tuple(one.to(self._device) for one in packed)

    def _refuse_faulty(self, number: int) -> None:
        """Refuse what was read, in any thread, if some of it is not finite.

        Raises:
            FeatureError: with the utterances of the first such store.
        """
        for store, features in enumerate(self._features):
            faulty = [i for i in self._ids if (store, i) in self._faulty]
            if faulty:
                held = "" if self._copy.dtype == torch.float32 else f", as {self._copy} holds them"
                raise FeatureError(not_finite(features.store, faulty, number) + held)


def num_values(features: Sequence[StoreFeatures], utterance_ids: Sequence[str]) -> int:
    """Numbers that utterances take, all stores together."""
    return sum(values_in_use(features, utterance_id) for utterance_id in utterance_ids)
