"""Shard files → tables and memory maps. Reads what is in place, follows nothing out of the folder."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from featcache.cache import layout
from featcache.errors import StoreError


@dataclass(frozen=True, kw_only=True)
class Catalogue:
    """What a store holds, without its features.

    Attributes:
        attributes: The root attributes, equal in all shards.
        utterances: Rows of ``layout.INDEX_DTYPE``, one per utterance, the latest of each id.
        complete: Whether the last extraction came to its end.
    """

    attributes: dict[str, Any]
    utterances: npt.NDArray[Any]
    complete: bool


class Shard:
    """One shard, its arrays mapped into memory: nothing is read before it is used, and processes may share it.

    Raises:
        StoreError: no HDF5 file, another format version, or datasets that are not as the format has them.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with h5py.File(path, "r") as file:
                self.attributes = read_attributes(file, path)
                self.utterances = read_table(file, "utterances", layout.UTTERANCE_DTYPE, path)
                self.features = _mapped(file, self.attributes["dataset"], path)
                self.count = _mapped(file, "statistics/count", path)
                self.statistics = {name: _mapped(file, f"statistics/{name}", path) for name in layout.STATISTICS}
        except OSError as error:
            raise StoreError(f"{path}: not readable as HDF5 ({error}); remove it and extract again") from error
        if self.features.ndim == 2:
            self.features = self.features[None]
        self._check_shapes()

    def _check_shapes(self) -> None:
        frames = self.utterances["num_frames"]
        first = np.concatenate([[0], np.cumsum(frames)])
        layers, total, size = self.features.shape
        whole = (
            np.array_equal(first[:-1], self.utterances["first_frame"])
            and first[-1] == total
            and (frames > 0).all()
            and len(self.attributes["layer_names"]) == layers
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
    missing = {"dataset", "settings", "fingerprint", "layer_names"} - attributes.keys()
    if missing:
        raise StoreError(f"{path} lacks the attributes {', '.join(sorted(missing))}; remove it and extract again")
    return attributes


def read_table(file: h5py.File, name: str, dtype: np.dtype[Any], path: Path) -> npt.NDArray[Any]:
    """A table with its texts as str."""
    stored = _own_dataset(file, name, path)[()]
    if stored.dtype.names != dtype.names:
        raise StoreError(f"{path}: /{name} has the columns {stored.dtype.names}, expected {dtype.names}")
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
        with h5py.File(path, "r") as file:
            if not np.array_equal(file["shards"][()], shard_sizes(folder, numbers)):
                return None
            return Catalogue(
                attributes=read_attributes(file, path),
                utterances=read_table(file, "utterances", layout.INDEX_DTYPE, path),
                complete=bool(file.attrs["complete"]),
            )
    except (OSError, KeyError):
        return None


def _scan(folder: Path, numbers: list[int]) -> Catalogue:
    shards = {number: Shard(folder / layout.shard_name(number)) for number in numbers}
    return Catalogue(
        attributes=shards[numbers[0]].attributes,
        utterances=combine({number: shard.utterances for number, shard in shards.items()}),
        complete=False,
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


def _mapped(file: h5py.File, name: str, path: Path) -> npt.NDArray[Any]:
    dataset = _own_dataset(file, name, path)
    offset = dataset.id.get_offset()
    if offset is None:
        raise StoreError(f"{path}: /{name} is not stored in one piece; was the file rewritten by another program?")
    return np.memmap(path, dtype=dataset.dtype, mode="r", offset=offset, shape=dataset.shape)


def _own_dataset(file: h5py.File, name: str, path: Path) -> h5py.Dataset:
    """A dataset whose bytes lie in this very file: links and external storage could lead anywhere."""
    group: Any = file
    for part in name.split("/"):
        if not isinstance(group.get(part, getlink=True), h5py.HardLink):
            raise StoreError(f"{path}: has no dataset /{name}; remove it and extract again")
        group = group[part]
    if not isinstance(group, h5py.Dataset) or group.is_virtual or group.external:
        raise StoreError(f"{path}: /{name} does not lie in the file itself, which is not followed")
    return group


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value
