"""Records → shards, and shards → index. The only module that writes feature stores."""

import errno
import os
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from featcache.cache import layout
from featcache.cache.identity import StoreIdentity, root_attributes
from featcache.cache.kept_padding import Padding, write_padding
from featcache.cache.locks import finishing
from featcache.cache.request import StoreRequest, check_parts, write_request
from featcache.cache.seal import SEAL_BYTES, Extent, seal
from featcache.cache.shards import Shard, combine, shard_numbers, shard_sizes
from featcache.cache.sink import new_file
from featcache.cache.spool import Spool
from featcache.cache.statistics import Statistics
from featcache.cache.views import View, write_views
from featcache.errors import FeatureError
from featcache.features import Description, Features
from featcache.files.disk import remove
from featcache.files.regular import name_exclusively, replacing, temporary_beside
from featcache.terminal.progress import tracked

# Free space required in addition to the arrays: HDF5 may crash if the disk is full while it writes its tables.
SPARE_BYTES = 2**20


@dataclass(frozen=True, kw_only=True)
class Record:
    """One utterance, ready to be written.

    Attributes:
        utterance_id: Its id in the manifest.
        features: (num_layers, num_frames, hidden_size) in the storage dtype, or a spool with this content; None if only
            statistics are stored.
        statistics: Statistics over its frames.
        duration: Duration in seconds.
        audio_sha256: SHA-256 of its audio file, or of its text.
        start: Start in the file, in seconds, as in the manifest.
        end: End in the file, in seconds, as in the manifest.
        padding: Features of the padding; None if it is not kept.
    """

    utterance_id: str
    features: npt.NDArray[Any] | Spool | None
    statistics: Statistics
    duration: float
    audio_sha256: str
    start: float | None
    end: float | None
    padding: Padding | None = None


def encode(features: Features, storage_dtype: str, layer_names: Sequence[str]) -> npt.NDArray[Any]:
    """Round features to the storage dtype.

    Args:
        features: (num_layers, num_frames, hidden_size) float32.
        storage_dtype: ``float16`` or ``float32``.
        layer_names: Names of the layers, for messages.

    Returns:
        Features of the same shape in the storage dtype.

    Raises:
        FeatureError: a value is NaN, infinite, or too large for the storage dtype; such values are never stored.
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
    """Writer of the shards and the index of one store.

    Args:
        folder: Folder of the store; created with the first shard.
        description: Description of the extractor.
        storage_dtype: ``float16``, ``float32`` or ``int8``.
        pool: Whether only statistics are stored.
        part: Index of this process, and number of processes that fill the store at the same time. A shard's number
            modulo the number of processes is the index, so that two processes rarely try the same number. The name of
            an existing shard is never taken.

    Raises:
        StoreError: the folder contains features that were made with other settings; the message names them.
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
        self._attributes = root_attributes(description, storage_dtype, pool=pool)
        self.identity = StoreIdentity.read(self._attributes)
        self._part = part
        self._statistics = layout.statistics_of(storage_dtype)
        self._tables: dict[int, npt.NDArray[Any]] = {}
        self._look_for_shards()

    def _look_for_shards(self) -> None:
        """Read the tables of existing shards, including those that other processes wrote."""
        numbers = shard_numbers(self.folder)
        for number in tracked(f"reading the shards of {self.folder.name}", numbers):
            if number not in self._tables:
                shard = Shard(self.folder / layout.shard_name(number))
                shard.identity.check_same(self.identity, self.folder)
                self._tables[number] = shard.utterances
        self._tables = dict(sorted(self._tables.items()))

    def entries(self) -> dict[str, Any]:
        """Return utterance id → its latest row of ``layout.INDEX_DTYPE``."""
        return {row["id"]: row for row in combine(self._tables)}

    def next_number(self) -> int:
        """Return the first number after all shards that this part may use."""
        index, of = self._part
        number = max([*self._tables, *shard_numbers(self.folder)], default=-1) + 1
        return number + (index - number) % of

    def begin(self, requested: Collection[str], *, num_in_corpus: int | None = None, write: bool = True) -> None:
        """Write the request of the store before its first shard; until :meth:`finish` the store is unfinished.

        Args:
            requested: Ids of the requested utterances, of all processes together.
            num_in_corpus: Number of utterances in the corpus.
            write: Whether anything will be written; if not, only the number of parts is checked.

        Raises:
            StoreError: the store is being filled in another number of parts.
        """
        of = self._part[1]
        if not write:
            check_parts(self.folder, of, shard_numbers(self.folder))
            return
        request = StoreRequest(utterance_ids=tuple(dict.fromkeys(requested)), num_in_corpus=num_in_corpus, num_parts=of)
        with finishing(self.folder):  # The lock lets the second of two parts that start together see the first.
            check_parts(self.folder, of, shard_numbers(self.folder))
            write_request(self.folder, request)
        self._unfinish()

    def _unfinish(self) -> None:
        """Remove the index, so that the store counts as unfinished until :meth:`finish`."""
        remove(self.folder / layout.INDEX)

    def write_shard(self, records: Sequence[Record], number: int | None = None, decoders: Sequence[str] = ()) -> None:
        """Write one shard and close its spools. It gets its name only after it is complete and on disk.

        Args:
            records: Utterances of the shard.
            number: Number of the shard, for a task that is repeated and must write the same file; by default the next
                number. An existing shard is replaced only if the new one contains all its utterances; otherwise the new
                one gets the next number.
            decoders: Programs that decoded the audio, with their versions.
        """
        if not records:
            return
        self._unfinish()
        table = _table(records)
        per_statistic = len(self._statistics)
        size = sum(per_statistic * record.statistics.mean.nbytes for record in records)
        size += sum(record.features.nbytes for record in records if record.features is not None)
        paddings = self._paddings(records)
        size += sum(padding.nbytes for padding in paddings)

        def write(file: h5py.File) -> list[h5py.Dataset]:
            if not self.pool:
                self._write_features(file, records)
            if decoders:
                file.attrs["decoders"] = np.array(decoders, dtype=layout.TEXT_DTYPE)
            file["utterances"] = table
            file["utterances"].attrs["crc32"] = layout.crc32_of_table(table)
            self._write_statistics(file, [record.statistics for record in records])
            features = [] if self.pool else [file[self.description.dataset]]
            padding = write_padding(file, self.description.dataset, paddings) if paddings else []
            return [*features, *file["statistics"].values(), *padding]

        if number is not None and not self._holds(number, table["id"]):
            number = None
        if number is not None:
            with replacing(self._path(number), self._kept) as temporary:
                self._write(temporary, write, size)
        else:
            number = self._write_next(write, size)
        self._tables[number] = table
        for record in records:
            if isinstance(record.features, Spool):
                record.features.close()

    def _paddings(self, records: Sequence[Record]) -> list[Padding]:
        paddings = [record.padding for record in records if record.padding is not None]
        if len(paddings) != (0 if self.description.padded_frames is None else len(records)):
            raise ValueError(f"{len(paddings)} of {len(records)} utterances have padding")
        return paddings

    @property
    def _kept(self) -> str:
        return f"the {len(self.entries())} utterances stored before are kept"

    def _path(self, number: int) -> Path:
        return self.folder / layout.shard_name(number)

    def _holds(self, number: int, utterance_ids: Collection[str]) -> bool:
        """Return whether these utterances may be this shard: it does not exist, or it has no other utterances."""
        path = self._path(number)
        return not path.exists() or set(Shard(path).utterances["id"]) <= set(utterance_ids)

    def _write_next(self, write: Callable[[h5py.File], list[h5py.Dataset]], size: int) -> int:
        """Write a shard under the first number of this part that no other process has taken."""
        number = self.next_number()
        with temporary_beside(self._path(number), self._kept) as temporary:
            self._write(temporary, write, size)
            while not name_exclusively(temporary, self._path(number)):
                number = max(number + self._part[1], self.next_number())
        return number

    def finish(
        self, requested: Collection[str] | None, *, failed: Collection[str], num_in_corpus: int | None = None
    ) -> None:
        """Write the index over all shards. It records whether all requested utterances are stored or known to fail.

        Args:
            requested: Ids of the requested utterances, of all processes together; None if they are not known, so that
                the store does not count as complete.
            failed: Ids of the utterances that are known to fail.
            num_in_corpus: Number of utterances in the corpus; None if it is not known.
        """
        self._look_for_shards()
        if not self._tables:
            return
        known = self.entries().keys() | set(failed)
        numbers = sorted(self._tables)
        complete = requested is not None and set(requested) <= known

        def write(file: h5py.File) -> list[h5py.Dataset]:
            file.attrs["complete"] = complete
            if requested is not None:
                file.attrs["num_requested"] = len(requested)
            if num_in_corpus is not None:
                file.attrs["num_in_corpus"] = num_in_corpus
            file["shards"] = shard_sizes(self.folder, numbers)
            file["utterances"] = combine(self._tables)
            write_views(file, self._tables, self._views())
            return []

        path = self.folder / layout.INDEX
        with replacing(path, self._kept) as temporary:
            self._write(temporary, write)
        if requested is not None:
            request = StoreRequest(
                utterance_ids=tuple(dict.fromkeys(requested)),
                num_in_corpus=num_in_corpus,
                num_parts=self._part[1],
                shards=tuple(numbers) if complete else None,
                failed=tuple(sorted(set(failed) & set(requested))) if complete else (),
            )
            write_request(self.folder, request)

    def _write(self, path: Path, write: Callable[[h5py.File], list[h5py.Dataset]], size: int = 0) -> None:
        """Write a file of the store and its seal.

        Args:
            path: Path of the file.
            write: Function that fills the file, and returns the arrays that HDF5 does not parse.
            size: Total size of these arrays in bytes.

        Raises:
            OSError: the disk is full, or the file cannot be written.
        """
        if shutil.disk_usage(self.folder).free < size + SPARE_BYTES:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        with new_file(path, SEAL_BYTES) as file:
            file.attrs.update(self._attributes)
            payload = [_extent(dataset) for dataset in write(file)]
        seal(path, payload)

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

    def _views(self) -> dict[str, View]:
        """Return the virtual datasets of the index, by name."""
        num_layers, size = len(self.description.layer_names), self.description.hidden_size
        num_frames = sum(int(table["num_frames"].sum()) for table in self._tables.values())
        rows = sum(len(table) for table in self._tables.values())
        views: dict[str, View] = {"statistics/count": ((rows,), "int64", False)}
        if not self.pool:
            shape = self._shape(num_layers, num_frames, size)
            views[self.description.dataset] = (shape, self.storage_dtype, True)
        for name in self._statistics:
            views[f"statistics/{name}"] = ((rows, num_layers, size), "float32", False)
        return views

    def _shape(self, num_layers: int, num_frames: int, hidden_size: int) -> tuple[int, ...]:
        flat = self.description.dataset == "frames"
        return (num_frames, hidden_size) if flat else (num_layers, num_frames, hidden_size)


def _extent(dataset: h5py.Dataset) -> Extent:
    return int(dataset.id.get_offset()), int(dataset.nbytes)


def _blocks(record: Record) -> Iterator[tuple[slice, slice, npt.NDArray[Any]]]:
    """Yield the features of an utterance in few blocks that fit in memory: layers, frames and their values."""
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
        raise ValueError(f"{record.utterance_id!r} has only statistics, but the store contains features")
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
