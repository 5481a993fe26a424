"""Shard files → tables and memory maps. Reads what is in place, follows nothing out of the folder."""

import logging
import math
import mmap
import os
import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from featcache.cache import layout
from featcache.cache.apart import read_apart
from featcache.cache.identity import StoreIdentity
from featcache.cache.request import known_request
from featcache.cache.seal import check_seal, is_sealed
from featcache.errors import StoreError
from featcache.files.regular import open_regular

log = logging.getLogger(__name__)

# What h5py and this module raise over files with bytes out of place; of those, memory and recursion over huge values.
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

# Threads open files in turn: those that read texts at the same time crash (h5py issues 1764 and 2920).
_TURN = threading.Lock()


@dataclass(frozen=True, kw_only=True)
class Catalogue:
    """What a store holds, without its features.

    Attributes:
        attributes: The root attributes, equal in all shards.
        utterances: Rows of ``layout.INDEX_DTYPE``, one per utterance, the latest of each id.
        complete: Whether the last extraction came to its end.
        num_requested: How many utterances the store was asked for; None where it does not say.
        num_in_corpus: How many the corpus had then; None where it does not say.
    """

    attributes: dict[str, Any]
    utterances: npt.NDArray[Any]
    complete: bool
    num_requested: int | None = None
    num_in_corpus: int | None = None

    @property
    def identity(self) -> StoreIdentity:
        """The settings that changed the store's numbers, and their fingerprint."""
        return StoreIdentity.read(self.attributes)


class Shard:
    """One shard, its arrays mapped into memory: nothing is read before it is used, and processes may share it.

    Attributes:
        attributes: Those of the root, as plain Python values.
        identity: What made it.
        utterances: Rows of ``layout.UTTERANCE_DTYPE``.
        features: (num_layers, total_frames, hidden_size) in the storage dtype; None of a store of statistics alone.
        count: (num_utterances,) int64.
        statistics: By the names in ``layout.statistics_of``: (num_utterances, num_layers, hidden_size) float32.

    Raises:
        StoreError: no HDF5 file, another format version, or datasets that are not as the format has them.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with opened(path) as file:
            # one map for all arrays, because every map holds a file descriptor
            with open_regular(path) as descriptor:
                self._map = mmap.mmap(descriptor.fileno(), 0, access=mmap.ACCESS_READ)
            self._content = content = np.frombuffer(self._map, np.uint8)
            self.attributes = read_attributes(file, path)
            self.identity = StoreIdentity.read(self.attributes)
            self.utterances = read_table(file, "utterances", layout.UTTERANCE_DTYPE, path)
            if self.attributes["storage_dtype"] not in layout.STORAGE_DTYPES:
                raise ValueError(f"its storage_dtype is {self.attributes['storage_dtype']!r}")
            dataset, storage_dtype = self.attributes["dataset"], np.dtype(self.attributes["storage_dtype"])
            self.features: npt.NDArray[Any] | None = None
            if not self.identity.pool:
                features = _mapped(content, _own_dataset(file, dataset, storage_dtype, path))
                self.features = features[None] if dataset == "frames" else features
            self.count = _mapped(content, _own_dataset(file, "statistics/count", np.dtype(np.int64), path))
            self.statistics = {
                name: _mapped(content, _own_dataset(file, f"statistics/{name}", np.dtype(np.float32), path))
                for name in layout.statistics_of(storage_dtype.name)
            }
        self._check_shapes()

    @property
    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Its arrays by the names of their datasets, as they lie in the file."""
        features = {} if self.features is None else {self.attributes["dataset"]: self.features}
        statistics = {f"statistics/{name}": values for name, values in self.statistics.items()}
        return {**features, "statistics/count": self.count, **statistics}

    def prefetch(self, layers: Sequence[int], first_frame: int, last_frame: int) -> None:
        """Have the operating system read frames ahead; each layer has its own stretch of the file."""
        if self.features is None or not hasattr(self._map, "madvise"):  # Windows
            return
        for position in layers:
            layer = self.features[position, first_frame:last_frame]
            first = layer.ctypes.data - self._content.ctypes.data
            on_a_page = first - first % mmap.PAGESIZE
            self._map.madvise(mmap.MADV_WILLNEED, on_a_page, first + layer.nbytes - on_a_page)

    def drop_pages(self) -> None:
        """Release the pages that were read; they are read again when they are used again."""
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
            raise StoreError(f"{self.path}: its datasets do not fit each other; remove it and extract again")


def shard_numbers(folder: Path) -> list[int]:
    """The numbers of the shards that are in place, ascending."""
    found = (re.fullmatch(layout.SHARD_PATTERN, path.name) for path in folder.glob("shard-*.h5"))
    return sorted(int(match[1]) for match in found if match)


def read_catalogue(folder: Path) -> Catalogue:
    """Read the index or, where there is none that fits the shards, the shards' own tables.

    Raises:
        StoreError: the folder holds no shards, or one that cannot be read.
    """
    numbers = shard_numbers(folder)
    if not numbers:
        raise StoreError(f"{folder} holds no features; expected shards like {layout.shard_name(0)}")
    return _read_index(folder, numbers) or _scan(folder, numbers)


def shard_sizes(folder: Path, numbers: list[int]) -> npt.NDArray[Any]:
    """Rows of ``layout.SHARD_DTYPE``."""
    sizes = [(number, (folder / layout.shard_name(number)).stat().st_size) for number in numbers]
    return np.array(sizes, dtype=layout.SHARD_DTYPE)


def read_attributes(file: h5py.File, path: Path) -> dict[str, Any]:
    """The root attributes as plain Python values."""
    attributes = {name: _plain(value) for name, value in file.attrs.items()}
    version = attributes.get("format_version")
    if version != layout.FORMAT_VERSION:
        raise StoreError(
            f"{path} is of format version {version}, expected {layout.FORMAT_VERSION}; "
            "read it with the featcache that wrote it, or extract again"
        )
    faulty = layout.faulty_attributes(attributes)
    if faulty:
        raise StoreError(f"{path} lacks the attributes {', '.join(faulty)}; remove it and extract again")
    if StoreIdentity.read(attributes).fingerprint != attributes["fingerprint"]:
        raise StoreError(f"{path}: its settings and its fingerprint contradict; remove it and extract again")
    return attributes


def read_table(file: h5py.File, name: str, dtype: np.dtype[Any], path: Path) -> npt.NDArray[Any]:
    """A table with its texts as str."""
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
        log.warning("%s; its shards are read in its place", without_extraction(error))
        return None


def without_extraction(error: Exception) -> str:
    """What is wrong with an index: unlike a shard it can be removed, and nothing has to be extracted again."""
    return str(error).replace("remove it and extract again", "remove it")


def read_index(folder: Path, numbers: list[int]) -> Catalogue | None:
    """Read the index; None where it is not that of these shards.

    Raises:
        StoreError: it is damaged.
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
    """Of an index without a seal, no more than whether the extraction came to its end; the rest from the shards."""
    path = folder / layout.INDEX
    log.info("%s has no checksum, as in earlier releases; its shards are read in its place", path)
    (told,) = read_apart(words_of_index, [path])
    if told is None:
        log.warning("%s is damaged; remove it: its shards are read in its place", path)
        return None
    if told["shards"] != [list(row) for row in shard_sizes(folder, numbers).tolist()]:
        return None
    return _scan(folder, numbers, complete=told["complete"], num_requested=told["num_requested"])


def words_of_index(path: Path) -> dict[str, Any] | None:
    """What an index says of the extraction, as plain JSON values; None where it cannot be read."""
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
    """Read the shards' own tables, and what the store was asked for where the index has not said it."""
    # one by one: an open shard holds a file descriptor, and there may be more of them than a process may have
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
    """Shards' tables as one of ``layout.INDEX_DTYPE``; of an id that stands twice the later shard's row is kept."""
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
    """A file of a store, open for reading; whatever h5py raises over it is a StoreError in one line."""
    try:
        check_seal(path)
    except OSError as error:
        raise StoreError(f"{path} cannot be opened ({error.strerror})") from error
    try:
        # without a lock: shards never change, and not every file system has locks
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


def _mapped(content: npt.NDArray[np.uint8], dataset: h5py.Dataset) -> npt.NDArray[Any]:
    first = dataset.id.get_offset()
    array: npt.NDArray[Any] = content[first : first + _num_bytes(dataset)].view(dataset.dtype).reshape(dataset.shape)
    return array


def _own_dataset(file: h5py.File, name: str, dtype: np.dtype[Any], path: Path) -> h5py.Dataset:
    """A dataset whose bytes lie in one piece in this very file: links and external storage could lead anywhere."""
    item: Any = file
    for part in name.split("/"):
        if not isinstance(item, h5py.Group) or not isinstance(item.get(part, getlink=True), h5py.HardLink):
            raise StoreError(f"{path} has no dataset /{name}; remove it and extract again")
        item = item[part]
    if not isinstance(item, h5py.Dataset) or not _same_type(item.dtype, dtype):
        raise StoreError(f"{path}: /{name} is no dataset of {dtype}; remove it and extract again")
    # behind a user block, the offset of an array that was never written is not None; its storage is empty
    first, size = item.id.get_offset(), item.id.get_storage_size()
    if first is None or not size or first + max(size, _num_bytes(item)) > path.stat().st_size:
        raise StoreError(f"{path}: /{name} does not lie in one piece in the file; was it written by another program?")
    return item


def _same_type(found: np.dtype[Any], expected: np.dtype[Any]) -> bool:
    # to numpy alone, texts, lists and references are all the same: objects
    text = h5py.check_string_dtype
    return found == expected and all(text(found[name]) == text(expected[name]) for name in expected.names or ())


def _num_bytes(dataset: h5py.Dataset) -> int:
    return int(math.prod(dataset.shape) * dataset.dtype.itemsize)


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value
