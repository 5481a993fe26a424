"""Bytes from HDF5 → file. Write errors are hidden from HDF5, which would crash when it closes the file."""

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py


class _Sink(io.RawIOBase):
    """File object that never raises: after the first error, all further bytes are discarded.

    Attributes:
        failure: The first error; None before.
    """

    def __init__(self, file: io.FileIO) -> None:
        self._file = file
        self._position = 0
        self._size = 0
        self.failure: OSError | None = None

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        self._position = start + offset
        return self._position

    def write(self, content: Any) -> int:
        view = memoryview(content).cast("B")
        done = 0
        try:
            while self.failure is None and done < len(view):
                self._file.seek(self._position + done)
                done += self._file.write(view[done:])
        except OSError as error:
            self.failure = error
        self._position += len(view)
        self._size = max(self._size, self._position)
        return len(view)

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        count = 0
        try:
            if self.failure is None:
                self._file.seek(self._position)
                count = self._file.readinto(view) or 0
        except OSError as error:
            self.failure = error
        view[count:] = bytes(len(view) - count)
        self._position += len(view)
        return len(view)

    def truncate(self, size: int | None = None) -> int:
        self._size = self._position if size is None else size
        try:
            if self.failure is None:
                self._file.truncate(self._size)
        except OSError as error:
            self.failure = error
        return self._size


@contextmanager
def new_file(path: Path, userblock_size: int = 0) -> Iterator[h5py.File]:
    """Create an HDF5 file.

    Args:
        path: Path of the file.
        userblock_size: Number of bytes at its beginning that HDF5 skips.

    Raises:
        OSError: the file cannot be written; this is the first error of the operating system.
    """
    with open(path, "w+b", buffering=0) as raw:
        sink = _Sink(raw)
        try:
            with h5py.File(sink, "w", userblock_size=userblock_size) as file:
                yield file
        except Exception:
            if sink.failure is None:
                raise
        if sink.failure is not None:
            raise sink.failure
