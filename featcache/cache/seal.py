"""HDF5 file → seal in front of it, with which its bytes are checked before HDF5 reads them.

HDF5 trusts the bytes that it parses: one flipped bit in the tables of a file can crash the process. Therefore each file
of a store begins with a block of 512 bytes that HDF5 skips (its user block). It contains a line with the name of the
format, and JSON with

- ``bytes``: the length of the file;
- ``payload``: ``[first byte, length]`` of the arrays of features and statistics;
- ``sha256``: the checksum of the two entries above and of all bytes outside this block and the payload.

The seal is compared whenever a file is opened. This reads only some tens of kilobytes of a shard, because HDF5 does not
parse the payload: it is memory-mapped, and ``featcache verify`` compares it with the ``crc32`` of each array. Seal and
payload together cover every byte. An index has no payload and is compared completely. Files of earlier releases have no
seal; they begin with the signature of HDF5.
"""

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from featcache.errors import StoreError
from featcache.files.regular import open_regular

SEAL_BYTES = 512  # The shortest user block of HDF5.
_FIRST_LINE = b"featcache seal 1\n"
_HDF5 = b"\x89HDF\r\n\x1a\n"
_BLOCK = 2**20

Extent = tuple[int, int]


def seal(path: Path, payload: Sequence[Extent]) -> None:
    """Write the seal of a complete HDF5 file that has a user block.

    Args:
        path: The file.
        payload: First byte and length of each array that HDF5 does not parse.
    """
    with open(path, "r+b") as file:
        text = _text(file, sorted(payload))
        file.seek(0)
        file.write(text)


def is_sealed(path: Path) -> bool:
    """Return whether a file has a seal, valid or not; files of earlier releases have none.

    Raises:
        OSError: the file cannot be read.
    """
    with open_regular(path) as file:
        return file.read(len(_HDF5)) != _HDF5


def check_seal(path: Path) -> list[Extent] | None:
    """Compare a file with its seal.

    Returns:
        First byte and length of each array that the seal does not cover; None if the file has no seal.

    Raises:
        StoreError: the file has changed since it was written, and HDF5 must not parse it.
        OSError: the file cannot be read.
    """
    with open_regular(path) as file:
        found = file.read(SEAL_BYTES)
        if found.startswith(_HDF5):
            return None
        if not found.startswith(_FIRST_LINE):
            raise _wrong(path, "it does not begin like a file of a store")
        size = os.fstat(file.fileno()).st_size
        try:
            told = json.loads(found.removeprefix(_FIRST_LINE).rstrip(b"\0"))
            length = int(told["bytes"])
            payload = [(int(first), int(count)) for first, count in told["payload"]]
        except (KeyError, OverflowError, RecursionError, TypeError, ValueError) as error:
            raise _wrong(path, "its seal is damaged") from error
        if size != length:
            raise _wrong(path, f"it has {size} bytes, and had {length} when it was written")
        if not _fits(payload, size) or found != _text(file, payload):
            raise _wrong(path, "its checksum is wrong")
        return payload


def _wrong(path: Path, reason: str) -> StoreError:
    return StoreError(f"{path}: not readable as HDF5 ({reason}); remove it and extract again")


def _text(file: BinaryIO, payload: Sequence[Extent]) -> bytes:
    """Return the seal that matches the current content of a file."""
    size = os.fstat(file.fileno()).st_size
    told = {"bytes": size, "payload": [list(extent) for extent in payload]}
    digest = hashlib.sha256(json.dumps(told).encode())
    end = SEAL_BYTES
    for first, count in (*payload, (size, 0)):
        file.seek(end)
        left = first - end
        while left > 0 and (piece := file.read(min(left, _BLOCK))):
            digest.update(piece)
            left -= len(piece)
        end = first + count
    text = _FIRST_LINE + json.dumps({**told, "sha256": digest.hexdigest()}).encode()
    if len(text) > SEAL_BYTES:
        raise ValueError(f"{len(payload)} arrays do not fit into a seal")
    return text.ljust(SEAL_BYTES, b"\0")


def _fits(payload: Sequence[Extent], size: int) -> bool:
    """Return whether the arrays lie one after the other between the seal and the end of the file."""
    end = SEAL_BYTES
    for first, count in payload:
        if first < end or count < 0:
            return False
        end = first + count
    return end <= size and len(payload) < 16
