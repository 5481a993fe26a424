"""Features of a long utterance, computed window by window → pieces in the order of a shard: layer by layer."""

import io
import os
import tempfile
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from featcache.errors import StoreError

# Features up to this size stay in memory: few utterances of a shard are larger.
IN_MEMORY_BYTES = 16 * 2**20
# Number of bytes read at a time.
PIECE_BYTES = 4 * 2**20

Encoding = Callable[[int, npt.NDArray[Any]], npt.NDArray[Any]]


class Spool:
    """Features of one utterance, layer by layer, in an unnamed temporary file that ends with the process.

    On file systems without unnamed files, its name is one that ``files.remove_unfinished`` removes.

    Args:
        folder: Folder of the store in which the features will be written.
        shape: (num_layers, num_frames, hidden_size).
        dtype: Dtype of the spooled features.

    Attributes:
        close: Function that frees the disk space; also called when the spool is garbage-collected.

    Raises:
        StoreError: the disk is full.
    """

    def __init__(self, folder: Path, shape: tuple[int, int, int], dtype: npt.DTypeLike) -> None:
        self.shape = shape
        self._folder = folder
        self._dtype = np.dtype(dtype)
        self._encoded: tuple[Encoding, np.dtype[Any]] | None = None
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = _new_file(folder) if bytes_on_disk(shape, dtype) else io.BytesIO()
        except OSError as error:
            raise self._failed(error) from error
        # The finalizer closes a forgotten file without a warning from Python.
        self.close = weakref.finalize(self, _discard, self._file)

    @property
    def nbytes(self) -> int:
        """Total size in bytes."""
        dtype = self._dtype if self._encoded is None else self._encoded[1]
        return int(np.prod(self.shape)) * dtype.itemsize

    def write(self, first: int, features: npt.NDArray[Any]) -> None:
        """Write a window of features.

        Args:
            first: Position of its first frame in the utterance.
            features: (num_layers, num_frames, hidden_size).

        Raises:
            StoreError: the disk is full.
        """
        try:
            for layer, values in enumerate(features):
                self._file.seek(self._offset(layer, first))
                self._file.write(np.ascontiguousarray(values, dtype=self._dtype).data)
            self._file.flush()
        except OSError as error:
            raise self._failed(error) from error

    def encode_with(self, encode: Encoding, dtype: npt.DTypeLike) -> None:
        """Encode pieces as ``encode(layer, piece)`` of this dtype when they are read."""
        self._encoded = encode, np.dtype(dtype)

    def pieces(self, layer: int) -> Iterator[npt.NDArray[Any]]:
        """Yield the frames of a layer in order, in pieces of limited size, (num_frames, hidden_size) each."""
        _, num_frames, hidden_size = self.shape
        step = max(1, PIECE_BYTES // (hidden_size * self._dtype.itemsize))
        for first in range(0, num_frames, step):
            count = min(step, num_frames - first)
            self._file.seek(self._offset(layer, first))
            content = self._file.read(count * hidden_size * self._dtype.itemsize)
            piece = np.frombuffer(content, dtype=self._dtype).reshape(count, hidden_size)
            yield piece if self._encoded is None else self._encoded[0](layer, piece)

    def _offset(self, layer: int, frame: int) -> int:
        _, num_frames, hidden_size = self.shape
        return (layer * num_frames + frame) * hidden_size * self._dtype.itemsize

    def _failed(self, error: OSError) -> StoreError:
        reason = os.strerror(error.errno) if error.errno else error
        return StoreError(
            f"features of a long utterance could not be written to {self._folder} ({reason}); free disk space, "
            "then run the same command again to continue"
        )


def spool_dtype(storage_dtype: str) -> str:
    """Return the dtype of a spool; for int8 it is float32, because the scale needs the range of all values."""
    return "float32" if storage_dtype == "int8" else storage_dtype


def bytes_on_disk(shape: tuple[int, int, int], dtype: npt.DTypeLike) -> int:
    """Return the disk space that a spool takes, in bytes; 0 if it stays in memory."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    return size if size > IN_MEMORY_BYTES else 0


def _new_file(folder: Path) -> IO[bytes]:
    return tempfile.TemporaryFile(dir=folder, prefix=".spool.", suffix=".tmp")


def _discard(file: IO[bytes]) -> None:
    with suppress(OSError):  # A full disk may refuse the last bytes.
        file.close()
