"""Path of an audio file → open file, also if the audio is embedded in a Parquet or Arrow file."""

import hashlib
import io
import os
from pathlib import Path
from typing import BinaryIO, NamedTuple

from featcache.audio.containers import ContainerError
from featcache.files.audio_shards import NoAudioInRowError, ShardError, open_shard, row_in_shard
from featcache.files.regular import open_regular, sha256_of_file


class NoAudioError(ContainerError):
    """Row of a shard that does not exist, or has no audio."""


class FileIdentity(NamedTuple):
    """What changes if a file is replaced or written to; ``changed`` is the time of the last change in nanoseconds."""

    path: str
    device: int
    inode: int
    num_bytes: int
    changed: int


def open_audio(path: Path) -> BinaryIO:
    """Open an audio file for reading in binary mode.

    Args:
        path: Path of a file, or of a row in a shard.

    Raises:
        NoAudioError: the row does not exist, or has no audio.
        ContainerError: the shard is damaged.
        OSError: the file cannot be opened, or is not a regular file.
    """
    row = row_in_shard(path)
    return open_regular(path) if row is None else io.BytesIO(_embedded(*row))


def identity_of(path: Path, content: BinaryIO) -> FileIdentity:
    """Return a value that changes if the file is replaced or written to.

    Args:
        path: Path of a file, or of a row in a shard.
        content: The open file.
    """
    row = row_in_shard(path)
    status = os.fstat(content.fileno()) if row is None else os.stat(row[0])
    changed = max(status.st_mtime_ns, status.st_ctime_ns)
    return FileIdentity(str(path), status.st_dev, status.st_ino, status.st_size, changed)


def size_of(content: BinaryIO) -> int:
    """Return the number of bytes of an open file; the position changes."""
    return content.seek(0, io.SEEK_END)


def sha256_of_audio(path: Path) -> str:
    """Return the SHA-256 of the bytes of an audio file, in hexadecimal.

    Args:
        path: Path of a file, or of a row in a shard.

    Raises:
        NoAudioError: the row does not exist, or has no audio.
        ContainerError: the shard is damaged.
        OSError: the file cannot be read.
    """
    row = row_in_shard(path)
    return sha256_of_file(path) if row is None else hashlib.sha256(_embedded(*row)).hexdigest()


def _embedded(shard: Path, row: int) -> bytes:
    try:
        return open_shard(shard).audio(row)
    except NoAudioInRowError as error:
        raise NoAudioError(str(error)) from error
    except ShardError as error:
        raise ContainerError(str(error)) from error
