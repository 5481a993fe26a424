"""Files of a store → faults in them. Each file is compared with its seal before HDF5 reads it."""

import os
from collections.abc import Iterator
from pathlib import Path

from featcache.cache import layout
from featcache.cache.apart import read_apart
from featcache.cache.request import read_request
from featcache.cache.seal import check_seal, is_sealed
from featcache.cache.shards import Shard, combine, opened, read_index, shard_numbers, without_extraction
from featcache.errors import StoreError
from featcache.terminal.progress import tracked


def damaged_shards(folder: Path) -> Iterator[tuple[Path, list[str]]]:
    """Compare every byte of every shard with its checksums.

    Shards of earlier releases have no seal. They are read in a separate process, because HDF5 may crash on them.

    Yields:
        Path of each shard, and one line for each fault.
    """
    paths = [folder / layout.shard_name(number) for number in shard_numbers(folder)]
    old = [path for path in paths if has_no_checksum(path)]
    found = dict(zip(old, read_apart(faults_of_shard, old), strict=True))
    for path in tracked(f"checking {folder.name}", paths, step=1):
        if path in found:
            faults = found[path]
            yield path, ["HDF5 crashes on this file; remove it and extract again"] if faults is None else faults
        else:
            yield path, faults_of_shard(path)


def faults_of_shard(path: Path) -> list[str]:
    """Return one line for each fault of a shard: in its seal, its structure or the checksums of its arrays."""
    try:
        shard = Shard(path)
        with opened(path) as file:
            names = [*shard.arrays, "utterances"]
            expected = {name: int(file[name].attrs["crc32"]) for name in names}
            extents = {(file[name].id.get_offset(), file[name].nbytes) for name in shard.arrays}
        left_out = check_seal(path) or []
    except StoreError as error:
        return [str(error)]
    except OSError as error:
        return [f"{path} cannot be read ({error.strerror})"]
    if not extents.issuperset(left_out):
        return [f"{path}: some bytes are covered by no checksum; remove it and extract again"]
    found = {name: layout.crc32([array]) for name, array in shard.arrays.items()}
    found["utterances"] = layout.crc32_of_table(shard.utterances)
    return [f"/{name} has changed" for name in found if found[name] != expected[name]]


def faults_of_index(folder: Path) -> list[str]:
    """Return the faults of an index, if it exists: in its seal, or a difference from the shards."""
    path = folder / layout.INDEX
    if not os.path.lexists(path) or has_no_checksum(path):
        return []
    numbers = shard_numbers(folder)
    try:
        index = read_index(folder, numbers)
    except (OSError, StoreError) as error:
        return [without_extraction(error)]
    try:
        tables = {number: Shard(folder / layout.shard_name(number)).utterances for number in numbers}
    except StoreError:  # reported for the shard itself
        return []
    fits = index is not None and layout.crc32_of_table(index.utterances) == layout.crc32_of_table(combine(tables))
    return [] if fits else [f"{path} does not match the shards; remove it"]


def faults_of_request(folder: Path) -> list[str]:
    """Return the faults of ``request.json``, if it exists."""
    try:
        read_request(folder)
    except StoreError as error:
        return [str(error)]
    return []


def has_no_checksum(path: Path) -> bool:
    """Return whether a shard or an index has no seal, because an earlier release wrote it."""
    try:
        return not is_sealed(path)
    except OSError:
        return False
