"""Records → shards, and shards → index. The only place that writes feature stores."""

import errno
import os
import shutil
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from featcache.cache import layout
from featcache.cache.shards import Shard, combine, shard_numbers, shard_sizes
from featcache.cache.sink import new_file
from featcache.cache.spool import Spool
from featcache.cache.statistics import Statistics
from featcache.disk import remove
from featcache.errors import FeatureError, StoreError
from featcache.extractors.base import Description, Features
from featcache.files import replacing

# What must be free beside a shard's arrays: HDF5 may crash where a disk ends in the middle of its own tables.
SPARE_BYTES = 2**20


@dataclass(frozen=True, kw_only=True)
class Record:
    """One utterance, ready to be written.

    Attributes:
        features: (num_layers, num_frames, hidden_size) in the storage dtype, or a spool of the same; None where
            statistics alone are kept.
        duration: In seconds.
        start: Of the utterance in its file, in seconds, as the manifest has it; likewise ``end``.
    """

    utterance_id: str
    features: npt.NDArray[Any] | Spool | None
    statistics: Statistics
    duration: float
    audio_sha256: str
    start: float | None
    end: float | None


def encode(features: Features, storage_dtype: str, layer_names: Sequence[str]) -> npt.NDArray[Any]:
    """Round features to the storage dtype.

    Raises:
        FeatureError: a value that is not finite, or too large for the storage dtype; nothing of the kind is stored.
    """
    with np.errstate(over="ignore"):
        stored = features.astype(storage_dtype)
    if np.isfinite(stored).all():
        return stored
    layer = int(np.argmin(np.isfinite(stored).all(axis=(1, 2))))
    where = f"layer {layer_names[layer]}" if layer_names[layer] else "features"
    if not np.isfinite(features[layer]).all():
        raise FeatureError(f"{where}: NaN or infinite values")
    largest = float(np.abs(features[layer]).max())
    raise FeatureError(f"{where}: values up to {largest:.4g} overflow {storage_dtype}; extract with --store float32")


class StoreWriter:
    """Adds shards to one store.

    Args:
        folder: The store; made with the first shard.
        description: What the extractor says of itself.
        storage_dtype: ``float16``, ``float32`` or ``int8``.
        pool: Whether the statistics alone are kept.
        part: Index and number of the processes that fill the store at the same time; their shards' numbers leave that
            index as remainder, so that no two ever take the same.

    Raises:
        StoreError: the folder holds features made with other settings; they are named.
    """

    def __init__(
        self,
        folder: Path,
        description: Description,
        storage_dtype: str,
        *,
        pool: bool = False,
        part: tuple[int, int] = (0, 1),
    ) -> None:
        self.folder = folder
        self.description = description
        self.storage_dtype = storage_dtype
        self.pool = pool
        self._attributes = layout.attributes(description, storage_dtype, pool=pool)
        self._part = part
        self._statistics = layout.statistics_of(storage_dtype)
        self._tables: dict[int, npt.NDArray[Any]] = {}
        self._look_for_shards()

    def _look_for_shards(self) -> None:
        """Take in the shards that are there, other processes' among them."""
        for number in shard_numbers(self.folder):
            if number not in self._tables:
                shard = Shard(self.folder / layout.shard_name(number))
                check_same_settings(self.folder, shard.attributes, self._attributes)
                self._tables[number] = shard.utterances
        self._tables = dict(sorted(self._tables.items()))

    def entries(self) -> dict[str, Any]:
        """Utterance id → its latest row of ``layout.INDEX_DTYPE``."""
        return {row["id"]: row for row in combine(self._tables)}

    def next_number(self) -> int:
        """The first number after all shards that this part may take."""
        index, of = self._part
        number = max([*self._tables, *shard_numbers(self.folder)], default=-1) + 1
        return number + (index - number) % of

    def write_shard(self, records: Sequence[Record], number: int | None = None) -> None:
        """Write one shard; it appears under its name only when it is whole and on the disk. Spools are closed.

        Args:
            records: What it holds.
            number: Which shard; the next by default. One that is there is replaced.
        """
        if not records:
            return
        # until finish() the store must not pass for finished
        remove(self.folder / layout.INDEX)
        if number is None:
            number = self.next_number()
        table = _table(records)
        per_statistic = len(self._statistics)
        size = sum(per_statistic * record.statistics.mean.nbytes for record in records)
        size += sum(record.features.nbytes for record in records if record.features is not None)
        with self._create(layout.shard_name(number), size) as file:
            if not self.pool:
                self._write_features(file, records)
            file["utterances"] = table
            file["utterances"].attrs["crc32"] = layout.crc32_of_table(table)
            self._write_statistics(file, [record.statistics for record in records])
        self._tables[number] = table
        for record in records:
            if isinstance(record.features, Spool):
                record.features.close()

    def finish(self, requested: Collection[str] | None, *, failed: Collection[str]) -> None:
        """Write the index over all shards; it says whether all that was asked for is stored or known to fail.

        Args:
            requested: The ids of the utterances that were asked for, of all processes together; None where nobody
                knows, so that the store does not count as complete.
            failed: The ids of those that are known to fail.
        """
        self._look_for_shards()
        if not self._tables:
            return
        known = self.entries().keys() | set(failed)
        numbers = sorted(self._tables)
        with self._create(layout.INDEX) as file:
            file.attrs["complete"] = requested is not None and set(requested) <= known
            if requested is not None:
                file.attrs["num_requested"] = len(requested)
            file["shards"] = shard_sizes(self.folder, numbers)
            file["utterances"] = combine(self._tables)
            self._write_views(file)

    @contextmanager
    def _create(self, name: str, size: int = 0) -> Iterator[h5py.File]:
        """A new file of the store with arrays of so many bytes; it takes its name when all is written."""
        kept = f"the {len(self.entries())} utterances stored before are kept"
        path = self.folder / name
        with replacing(path, kept) as temporary:
            if shutil.disk_usage(self.folder).free < size + SPARE_BYTES:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            with new_file(temporary) as file:
                file.attrs.update(self._attributes)
                yield file

    def _write_features(self, file: h5py.File, records: Sequence[Record]) -> None:
        num_layers, hidden_size = records[0].statistics.mean.shape
        shape = self._shape(num_layers, sum(record.statistics.count for record in records), hidden_size)
        dataset = file.create_dataset(self.description.dataset, shape, dtype=self.storage_dtype)
        first = 0
        for record in records:
            for layers, frames, values in _blocks(record):
                stretch = slice(first + frames.start, first + frames.stop)
                if len(shape) == 2:
                    dataset[stretch] = values[0]
                else:
                    dataset[layers, stretch] = values
            first += record.statistics.count
        dataset.attrs["crc32"] = layout.crc32(
            values for layer in range(num_layers) for record in records for values in _pieces(record, layer)
        )

    def _write_statistics(self, file: h5py.File, statistics: Sequence[Statistics]) -> None:
        file["statistics/count"] = np.array([item.count for item in statistics], dtype=np.int64)
        for name in self._statistics:
            file[f"statistics/{name}"] = np.stack([getattr(item, name) for item in statistics])
        for dataset in file["statistics"].values():
            dataset.attrs["crc32"] = layout.crc32([dataset[()]])

    def _write_views(self, file: h5py.File) -> None:
        """Virtual datasets over all shards, for HDFView and plain h5py."""
        num_layers, size = len(self.description.layer_names), self.description.hidden_size
        frames = [int(table["num_frames"].sum()) for table in self._tables.values()]
        rows = [len(table) for table in self._tables.values()]
        views: list[tuple[str, tuple[int, ...], list[int], str]] = [("statistics/count", (sum(rows),), rows, "int64")]
        if not self.pool:
            shape = self._shape(num_layers, sum(frames), size)
            views.append((self.description.dataset, shape, frames, self.storage_dtype))
        views += [(f"statistics/{name}", (sum(rows), num_layers, size), rows, "float32") for name in self._statistics]
        for name, shape, lengths, dtype in views:
            axis = 1 if name == "hidden_states" else 0
            view = h5py.VirtualLayout(shape=shape, dtype=dtype)
            first = 0
            for number, length in zip(self._tables, lengths, strict=True):
                part = (*shape[:axis], length, *shape[axis + 1 :])
                place = (*(slice(None),) * axis, slice(first, first + length))
                view[place] = h5py.VirtualSource(layout.shard_name(number), name, shape=part)
                first += length
            file.create_virtual_dataset(name, view)

    def _shape(self, num_layers: int, num_frames: int, hidden_size: int) -> tuple[int, ...]:
        flat = self.description.dataset == "frames"
        return (num_frames, hidden_size) if flat else (num_layers, num_frames, hidden_size)


def _blocks(record: Record) -> Iterator[tuple[slice, slice, npt.NDArray[Any]]]:
    """An utterance's features in as few blocks as memory allows: which layers, which frames, and their values."""
    features = _features(record)
    if not isinstance(features, Spool):
        yield slice(0, len(features)), slice(0, features.shape[1]), features
        return
    for layer in range(features.shape[0]):
        first = 0
        for piece in features.pieces(layer):
            yield slice(layer, layer + 1), slice(first, first + len(piece)), piece[None]
            first += len(piece)


def _pieces(record: Record, layer: int) -> Iterable[npt.NDArray[Any]]:
    features = _features(record)
    return features.pieces(layer) if isinstance(features, Spool) else [features[layer]]


def _features(record: Record) -> npt.NDArray[Any] | Spool:
    if record.features is None:
        raise ValueError(f"{record.utterance_id!r} has statistics alone, the store is one of features")
    return record.features


def _table(records: Sequence[Record]) -> npt.NDArray[Any]:
    rows = []
    first_frame = 0
    for record in records:
        times = (np.nan if seconds is None else seconds for seconds in (record.start, record.end))
        count = record.statistics.count
        rows.append((record.utterance_id, first_frame, count, record.duration, record.audio_sha256, *times))
        first_frame += count
    return np.array(rows, dtype=layout.UTTERANCE_DTYPE)


def check_same_settings(
    folder: Path,
    found: dict[str, Any],
    expected: dict[str, Any],
    hint: str = "give the new store another name with --name, or remove the old one",
) -> None:
    """Compare what made two stores.

    Args:
        folder: Where the one is.
        found: Its attributes.
        expected: Those of the other.
        hint: What to do when they differ.

    Raises:
        StoreError: they differ; the settings that do are named.
    """
    if found["fingerprint"] == expected["fingerprint"]:
        return
    old, new = layout.settings_of(found), layout.settings_of(expected)
    differing = [
        f"{name} is {_short(old.get(name))} there and {_short(new.get(name))} now"
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name)
    ]
    raise StoreError(f"{folder} was made with other settings: {'; '.join(differing)}; {hint}")


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 40 else f"{text[:12]}…"
