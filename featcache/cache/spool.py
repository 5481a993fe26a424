"""Features of an utterance that come window by window → pieces in the order in which a shard holds them."""

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

# Up to this size features stay in memory: the utterances that make a shard include few that are larger.
IN_MEMORY_BYTES = 16 * 2**20
# What is read at a time.
PIECE_BYTES = 4 * 2**20

Encoding = Callable[[int, npt.NDArray[Any]], npt.NDArray[Any]]


class Spool:
    """Features of one utterance, layer after layer, in a file without a name: however the process ends, it ends too.

    Where a file system knows no files without names, its name is one that ``files.remove_unfinished`` removes.

    Args:
        folder: The store that the features will go to.
        shape: (num_layers, num_frames, hidden_size).
        dtype: Of what is written.

    Attributes:
        close: Gives the space back; done by itself when nobody holds the spool any more.

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
        # closes what nobody closed, without Python's warning
        self.close = weakref.finalize(self, _discard, self._file)

    @property
    def nbytes(self) -> int:
        """Of all its pieces."""
        dtype = self._dtype if self._encoded is None else self._encoded[1]
        return int(np.prod(self.shape)) * dtype.itemsize

    def write(self, first: int, features: npt.NDArray[Any]) -> None:
        """Keep (num_layers, num_frames, hidden_size), whose first frame is the utterance's frame ``first``."""
        try:
            for layer, values in enumerate(features):
                self._file.seek(self._offset(layer, first))
                self._file.write(np.ascontiguousarray(values, dtype=self._dtype).data)
            self._file.flush()
        except OSError as error:
            raise self._failed(error) from error

    def encode_with(self, encode: Encoding, dtype: npt.DTypeLike) -> None:
        """Have pieces come out as ``encode(layer, piece)``, of this dtype."""
        self._encoded = encode, np.dtype(dtype)

    def pieces(self, layer: int) -> Iterator[npt.NDArray[Any]]:
        """A layer's frames in order, (num_frames, hidden_size) each, bounded in size."""
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
            f"features of a long utterance could not be kept under {self._folder} ({reason}); make room, and the same "
            "command does the rest"
        )


def spool_dtype(storage_dtype: str) -> str:
    """What features wait in: 8 bits can be counted only when the range of all values is known."""
    return "float32" if storage_dtype == "int8" else storage_dtype


def bytes_on_disk(shape: tuple[int, int, int], dtype: npt.DTypeLike) -> int:
    """What a spool takes on the disk."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    return size if size > IN_MEMORY_BYTES else 0


def _new_file(folder: Path) -> IO[bytes]:
    return tempfile.TemporaryFile(dir=folder, prefix=".spool.", suffix=".tmp")


def _discard(file: IO[bytes]) -> None:
    with suppress(OSError):  # what a full disk did not take
        file.close()
