"""Shard files → tables and memory maps. Links out of the folder are not followed."""

import logging
import math
import mmap
import os
import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from featcache.cache import layout
from featcache.cache.apart import read_apart
from featcache.cache.identity import StoreIdentity
from featcache.cache.kept_padding import ShardPadding
from featcache.cache.quantise import restore
from featcache.cache.request import known_request
from featcache.cache.seal import check_seal, is_sealed
from featcache.errors import StoreError
from featcache.files.regular import open_regular

log = logging.getLogger(__name__)

# Exceptions that h5py and this module raise for damaged files, including memory and recursion errors.
_OF_DAMAGED_FILES = (
    ArithmeticError,
    AttributeError,
    LookupError,
    MemoryError,
    RuntimeError,
    SystemError,
    TypeError,
    ValueError,
)

# Only one thread at a time opens a file: threads that read strings at the same time crash (h5py issues 1764 and 2920).
_TURN = threading.Lock()


@dataclass(frozen=True, kw_only=True)
class Catalogue:
    """Content of a store, without its features.

    Attributes:
        attributes: Root attributes, equal in all shards.
        utterances: Rows of ``layout.INDEX_DTYPE``, the latest one for each utterance.
        complete: Whether the last extraction finished.
        num_requested: Number of requested utterances; None if it is not recorded.
        num_in_corpus: Number of utterances in the corpus at that time; None if it is not recorded.
    """

    attributes: dict[str, Any]
    utterances: npt.NDArray[Any]
    complete: bool
    num_requested: int | None = None
    num_in_corpus: int | None = None

    @property
    def identity(self) -> StoreIdentity:
        """Settings that change the features, and their fingerprint."""
        return StoreIdentity.read(self.attributes)


class Shard:
    """One shard with memory-mapped arrays: bytes are read when they are used, and processes share them.

    Args:
        path: The file.

    Attributes:
        attributes: Root attributes, as plain Python values.
        identity: Settings that change the features, and their fingerprint.
        utterances: Rows of ``layout.UTTERANCE_DTYPE``.
        features: (num_layers, total_frames, hidden_size) in the storage dtype; None if there are only statistics.
        padding: Features of the padding; None if it was not kept.
        count: Number of frames of each utterance, (num_utterances,) int64.
        statistics: Name in ``layout.statistics_of`` → (num_utterances, num_layers, hidden_size) float32.

    Raises:
        StoreError: the file is not HDF5, has another format version, or its datasets do not follow the format.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with opened(path) as file:
            # One memory map for all arrays, because every map keeps a file descriptor open.
            with open_regular(path) as descriptor:
                self._map = mmap.mmap(descriptor.fileno(), 0, access=mmap.ACCESS_READ)
            self._content = content = np.frombuffer(self._map, np.uint8)
            self.attributes = read_attributes(file, path)
            self.identity = StoreIdentity.read(self.attributes)
            self.utterances = read_table(file, "utterances", layout.UTTERANCE_DTYPE, path)
            if self.attributes["storage_dtype"] not in layout.STORAGE_DTYPES:
                raise ValueError(f"its storage_dtype is {self.attributes['storage_dtype']!r}")
            dataset, storage_dtype = self.attributes["dataset"], np.dtype(self.attributes["storage_dtype"])
            mapped = partial(_mapped, content, file, path)
            self.features: npt.NDArray[Any] | None = None
            if not self.identity.pool:
                features = mapped(dataset, storage_dtype)
                self.features = features[None] if dataset == "frames" else features
            self.count = mapped("statistics/count", "int64")
            self.statistics = {
                name: mapped(f"statistics/{name}", "float32") for name in layout.statistics_of(storage_dtype.name)
            }
            self._check_shapes()
            self.padding: ShardPadding | None = None
            if self.features is not None and "padded_frames" in self.attributes:
                self.padding = ShardPadding(self.attributes, self.count, mapped)

    @property
    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Arrays by the names of their datasets, as stored in the file."""
        features = {} if self.features is None else {self.attributes["dataset"]: self.features}
        statistics = {f"statistics/{name}": values for name, values in self.statistics.items()}
        padding = {} if self.padding is None else self.padding.arrays
        return {**features, "statistics/count": self.count, **statistics, **padding}

    def read(self, row: int, layers: slice | list[int], frames: slice, *, with_padding: bool) -> npt.NDArray[Any]:
        """Return the utterance of a row, see :meth:`~featcache.cache.reader.FeatureStore.view`."""
        if self.features is None:
            raise StoreError(
                f"{self.path.parent} contains only statistics (--pool); read them with pooled() or mean_and_std(), "
                "or extract with frames into a store of another --name"
            )
        if with_padding and self.padding is None:
            raise StoreError(
                f"{self.path.parent} contains no padding; extract with --keep-padding into a store of another --name"
            )
        first, num_frames = self.utterances["first_frame"][row], self.utterances["num_frames"][row]
        chosen = slice(None) if with_padding else frames
        features: npt.NDArray[Any] = self.features[:, first : first + num_frames][:, chosen][layers]
        if "step" in self.statistics:
            mean, step = (self.statistics[name][row][layers] for name in ("mean", "step"))
            features = restore(features, mean, step)
        if with_padding and self.padding is not None:
            return np.concatenate([features, self.padding.read(row, layers)], axis=1)[:, frames]
        return features

    def prefetch(self, layers: Sequence[int], first_frame: int, last_frame: int) -> None:
        """Ask the operating system to read frames ahead; the frames of each layer are contiguous in the file."""
        if self.features is None or not hasattr(self._map, "madvise"):  # Windows has no madvise.
            return
        for position in layers:
            layer = self.features[position, first_frame:last_frame]
            first = layer.ctypes.data - self._content.ctypes.data
            on_a_page = first - first % mmap.PAGESIZE
            self._map.madvise(mmap.MADV_WILLNEED, on_a_page, first + layer.nbytes - on_a_page)

    def drop_pages(self) -> None:
        """Release the pages that were read; they are read again when they are needed."""
        if hasattr(self._map, "madvise"):
            self._map.madvise(mmap.MADV_DONTNEED)

    def _check_shapes(self) -> None:
        frames = self.utterances["num_frames"]
        ends = np.cumsum(frames)
        layers, size = len(self.attributes["layer_names"]), self.attributes["hidden_size"]
        whole = (
            len(frames) > 0
            and (self.features is None or self.features.shape == (layers, ends[-1], size))
            and np.array_equal(ends - frames, self.utterances["first_frame"])
            and (frames > 0).all()
            and np.array_equal(self.count, frames)
            and all(array.shape == (len(frames), layers, size) for array in self.statistics.values())
        )
        if not whole:
            raise StoreError(f"{self.path}: its datasets contradict each other; remove it and extract again")


def shard_numbers(folder: Path) -> list[int]:
    """Return the numbers of the existing shards, ascending."""
    found = (re.fullmatch(layout.SHARD_PATTERN, path.name) for path in folder.glob("shard-*.h5"))
    return sorted(int(match[1]) for match in found if match)


def disk_bytes(folder: Path) -> int:
    """Return the size on disk of a store in bytes: its shards and its index."""
    return sum(path.stat().st_size for path in folder.glob("*.h5"))


def read_catalogue(folder: Path) -> Catalogue:
    """Read the index or, if none matches the shards, the tables of the shards.

    Raises:
        StoreError: the folder contains no shards, or a shard cannot be read.
    """
    numbers = shard_numbers(folder)
    if not numbers:
        raise StoreError(f"{folder} contains no features; expected shards such as {layout.shard_name(0)}")
    return _read_index(folder, numbers) or _scan(folder, numbers)


def shard_sizes(folder: Path, numbers: list[int]) -> npt.NDArray[Any]:
    """Return the number and size of each shard, as rows of ``layout.SHARD_DTYPE``."""
    sizes = [(number, (folder / layout.shard_name(number)).stat().st_size) for number in numbers]
    return np.array(sizes, dtype=layout.SHARD_DTYPE)


def read_attributes(file: h5py.File, path: Path) -> dict[str, Any]:
    """Return the root attributes as plain Python values.

    Raises:
        StoreError: another format version, or attributes that are missing or faulty.
    """
    attributes = {name: _plain(value) for name, value in file.attrs.items()}
    version = attributes.get("format_version")
    if version != layout.FORMAT_VERSION:
        raise StoreError(
            f"{path} has format version {version}, expected {layout.FORMAT_VERSION}; "
            "read it with the featcache that wrote it, or extract again"
        )
    faulty = layout.faulty_attributes(attributes)
    if faulty:
        raise StoreError(f"{path} has missing or faulty attributes: {', '.join(faulty)}; remove it and extract again")
    if StoreIdentity.read(attributes).fingerprint != attributes["fingerprint"]:
        raise StoreError(f"{path}: its settings contradict its fingerprint; remove it and extract again")
    return attributes


def read_table(file: h5py.File, name: str, dtype: np.dtype[Any], path: Path) -> npt.NDArray[Any]:
    """Return a table with its strings as str."""
    stored = _own_dataset(file, name, dtype, path)[()].reshape(-1)
    table = np.empty(len(stored), dtype=dtype)
    for column in dtype.names or ():
        values = stored[column]
        table[column] = [text.decode() for text in values] if values.dtype == object else values
    return table


def _read_index(folder: Path, numbers: list[int]) -> Catalogue | None:
    path = folder / layout.INDEX
    if not path.is_file():
        return None
    try:
        return read_index(folder, numbers) if is_sealed(path) else _read_old_index(folder, numbers)
    except (OSError, StoreError) as error:
        log.warning("%s; its shards are read instead", without_extraction(error))
        return None


def without_extraction(error: Exception) -> str:
    """Return the fault of an index without the advice to extract again: an index can be removed without loss."""
    return str(error).replace("remove it and extract again", "remove it")


def read_index(folder: Path, numbers: list[int]) -> Catalogue | None:
    """Return the content of the index; None if it does not belong to these shards.

    Raises:
        StoreError: the index is damaged.
    """
    path = folder / layout.INDEX
    with opened(path) as file:
        shards = read_table(file, "shards", layout.SHARD_DTYPE, path)
        attributes = read_attributes(file, path)
        catalogue = Catalogue(
            utterances=read_table(file, "utterances", layout.INDEX_DTYPE, path),
            complete=attributes["complete"],
            num_requested=attributes.get("num_requested"),
            num_in_corpus=attributes.pop("num_in_corpus", None),
            attributes=attributes,
        )
    fits = np.array_equal(shards, shard_sizes(folder, numbers)) and np.isin(catalogue.utterances["shard"], numbers)
    return catalogue if np.all(fits) else None


def _read_old_index(folder: Path, numbers: list[int]) -> Catalogue | None:
    """Read only the state of the extraction from an index without a seal, and everything else from the shards."""
    path = folder / layout.INDEX
    log.info("%s has no checksum, as in earlier releases; its shards are read instead", path)
    (told,) = read_apart(words_of_index, [path])
    if told is None:
        log.warning("%s is damaged; remove it (its shards are read instead)", path)
        return None
    if told["shards"] != [list(row) for row in shard_sizes(folder, numbers).tolist()]:
        return None
    return _scan(folder, numbers, complete=told["complete"], num_requested=told["num_requested"])


def words_of_index(path: Path) -> dict[str, Any] | None:
    """Return the state of the extraction from an index, as plain JSON values; None if it cannot be read."""
    try:
        with opened(path) as file:
            attributes = read_attributes(file, path)
            return {
                "complete": bool(attributes["complete"]),
                "num_requested": attributes.get("num_requested"),
                "shards": read_table(file, "shards", layout.SHARD_DTYPE, path).tolist(),
            }
    except StoreError:
        return None


def _scan(
    folder: Path, numbers: list[int], *, complete: bool | None = None, num_requested: int | None = None
) -> Catalogue:
    """Read the tables of the shards, and the request of the store if the index does not state it."""
    # One at a time: each open shard takes a file descriptor, and there may be more shards than allowed descriptors.
    tables = {number: Shard(folder / layout.shard_name(number)).utterances for number in numbers}
    attributes = Shard(folder / layout.shard_name(numbers[0])).attributes
    utterances = combine(tables)
    num_in_corpus = None
    if complete is None:
        request = known_request(folder)
        complete = request is not None and request.is_fulfilled(numbers, utterances["id"])
        if request is not None:
            num_requested, num_in_corpus = len(request.utterance_ids), request.num_in_corpus
    return Catalogue(
        attributes={**attributes, **({} if num_requested is None else {"num_requested": num_requested})},
        utterances=utterances,
        complete=complete,
        num_requested=num_requested,
        num_in_corpus=num_in_corpus,
    )


def combine(tables: dict[int, npt.NDArray[Any]]) -> npt.NDArray[Any]:
    """Return the tables of shards as one of ``layout.INDEX_DTYPE``; for a repeated id, the later shard counts."""
    rows = {}
    offset = 0
    for number, table in tables.items():
        shifted = table.copy()
        shifted["first_frame"] += offset
        rows.update({row["id"]: (*row.tolist(), number, position) for position, row in enumerate(shifted)})
        offset += int(table["num_frames"].sum())
    return np.array(list(rows.values()), dtype=layout.INDEX_DTYPE)


@contextmanager
def opened(path: Path) -> Iterator[h5py.File]:
    """Open a file of a store for reading.

    Raises:
        StoreError: the file is damaged or cannot be opened; any error of h5py becomes one line.
    """
    try:
        check_seal(path)
    except OSError as error:
        raise StoreError(f"{path} cannot be opened ({error.strerror})") from error
    try:
        # No lock: shards never change, and some file systems have no locks.
        with _TURN, h5py.File(path, "r", locking=False) as file:
            yield file
    except StoreError:
        raise
    except OSError as error:
        if error.errno is not None:
            raise StoreError(f"{path} cannot be opened ({os.strerror(error.errno)})") from error
        raise StoreError(f"{path}: not readable as HDF5 ({error}); remove it and extract again") from error
    except _OF_DAMAGED_FILES as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise StoreError(f"{path}: damaged ({reason}); remove it and extract again") from error


def _mapped(
    content: npt.NDArray[np.uint8], file: h5py.File, path: Path, name: str, dtype: npt.DTypeLike
) -> npt.NDArray[Any]:
    dataset = _own_dataset(file, name, np.dtype(dtype), path)
    first = dataset.id.get_offset()
    array: npt.NDArray[Any] = content[first : first + _num_bytes(dataset)].view(dataset.dtype).reshape(dataset.shape)
    return array


def _own_dataset(file: h5py.File, name: str, dtype: np.dtype[Any], path: Path) -> h5py.Dataset:
    """Return a dataset that is contiguous in this file; links and external storage are refused."""
    item: Any = file
    for part in name.split("/"):
        if not isinstance(item, h5py.Group) or not isinstance(item.get(part, getlink=True), h5py.HardLink):
            raise StoreError(f"{path} has no dataset /{name}; remove it and extract again")
        item = item[part]
    if not isinstance(item, h5py.Dataset) or not _same_type(item.dtype, dtype):
        raise StoreError(f"{path}: /{name} is not a dataset of {dtype}; remove it and extract again")
    # Behind a user block, an array that was never written has an offset, but no storage.
    first, size = item.id.get_offset(), item.id.get_storage_size()
    if first is None or not size or first + max(size, _num_bytes(item)) > path.stat().st_size:
        raise StoreError(f"{path}: /{name} is not contiguous in the file; was it written by another program?")
    return item


def _same_type(found: np.dtype[Any], expected: np.dtype[Any]) -> bool:
    # For numpy, strings, lists and references all have the dtype object.
    text = h5py.check_string_dtype
    return found == expected and all(text(found[name]) == text(expected[name]) for name in expected.names or ())


def _num_bytes(dataset: h5py.Dataset) -> int:
    return int(math.prod(dataset.shape) * dataset.dtype.itemsize)


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value
