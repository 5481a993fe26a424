"""A seal in front of an HDF5 file → whether its bytes are those that were written, known before HDF5 reads one of them.

HDF5 trusts what it parses: one flipped bit in a file's own tables can crash the process. A file of a store therefore
begins with a block of 512 bytes that HDF5 skips (its user block): a line that names the format, then JSON with

- ``bytes``: the file's length;
- ``payload``: ``[first byte, length]`` of the arrays of features and statistics;
- ``sha256``: of the two above and of all bytes that are neither in this block nor payload.

Whoever opens a file compares the seal first. That reads tens of kilobytes of a shard, since HDF5 does not parse the
payload: those bytes are mapped as they are, and ``featcache verify`` compares them with the ``crc32`` of each array.
Payload and seal together cover every byte. An index has no payload: it is compared whole. Files of earlier releases
have no seal; they begin with HDF5's own signature.
"""

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from featcache.errors import StoreError
from featcache.files.regular import open_regular

SEAL_BYTES = 512  # the shortest user block
_FIRST_LINE = b"featcache seal 1\n"
_HDF5 = b"\x89HDF\r\n\x1a\n"
_BLOCK = 2**20

Extent = tuple[int, int]


def seal(path: Path, payload: Sequence[Extent]) -> None:
    """Write the seal of an HDF5 file that is whole and has a user block.

    Args:
        path: The file.
        payload: First byte and length of each array that HDF5 does not parse.
    """
    with open(path, "r+b") as file:
        text = _text(file, sorted(payload))
        file.seek(0)
        file.write(text)


def is_sealed(path: Path) -> bool:
    """Whether a file has a seal, be it a wrong one; files of earlier releases have none.

    Raises:
        OSError: no file that can be read.
    """
    with open_regular(path) as file:
        return file.read(len(_HDF5)) != _HDF5


def check_seal(path: Path) -> list[Extent] | None:
    """Compare a file with its seal.

    Returns:
        First byte and length of each array that the seal leaves out; None where there is no seal.

    Raises:
        StoreError: the file is not as it was written, and HDF5 must not parse it.
        OSError: no file that can be read.
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
    """The seal that a file should have, as it is now."""
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
        raise ValueError(f"{len(payload)} arrays are more than a seal has room for")
    return text.ljust(SEAL_BYTES, b"\0")


def _fits(payload: Sequence[Extent], size: int) -> bool:
    """Whether the arrays lie one after the other between the seal and the end of the file."""
    end = SEAL_BYTES
    for first, count in payload:
        if first < end or count < 0:
            return False
        end = first + count
    return end <= size and len(payload) < 16
