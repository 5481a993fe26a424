"""View of the bytes of an audio file for the decoder, with information about the end of the file."""

import io
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO

LOWEST_RATE = 1000
"""Lowest sampling rate in Hz that a header may state: with less there is no speech, and no sample per frame."""


class ContainerError(Exception):
    """Container that contradicts itself or the size of its file. The message does not name the file."""


@dataclass(frozen=True, kw_only=True)
class View:
    """Audio file as the decoder sees it.

    If a header does not state a length, libsndfile guesses one and never decodes more. The decoder therefore sees a
    header with the length filled in, or a longer file. The file itself is never changed.

    Attributes:
        head: Bytes shown instead of the first ``skipped`` bytes of the file.
        skipped: Number of bytes at the beginning of the file that are not shown.
        end: Position after the last byte that is shown; None for the end of the file.
        padding: Number of zeros shown after the file.
        ends_early: Whether the mark of the end of the stream is missing, or the last frame is cut.
        num_samples: Number of samples per channel, if libsndfile does not know it.
        counts: Whether this number is only known after decoding everything.
        head_for: Function from the counted number of samples per channel to ``head``, if ``head`` depends on it.
        check_end: Whether the last sample must be decoded to check that the file is complete.
    """

    head: bytes = b""
    skipped: int = 0
    end: int | None = None
    padding: int = 0
    ends_early: bool = False
    num_samples: int | None = None
    counts: bool = False
    head_for: Callable[[int], bytes] | None = None
    check_end: bool = False

    @property
    def is_plain(self) -> bool:
        """Whether the file is shown unchanged."""
        return not (self.head or self.skipped or self.padding)


class ShownFile(io.RawIOBase):
    """File that is read through a :class:`View`."""

    def __init__(self, file: BinaryIO, view: View) -> None:
        self._file = file
        self._head = view.head
        self._skipped = view.skipped
        end = file.seek(0, io.SEEK_END) if view.end is None else view.end
        self._end = len(view.head) + max(0, end - view.skipped)
        self._size = self._end + view.padding
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def readinto(self, buffer: Any) -> int:
        wanted = min(len(buffer), self._size - self._position)
        piece = self._head[self._position : self._position + max(wanted, 0)]
        at = self._position + len(piece)
        if len(piece) < wanted and at < self._end:
            self._file.seek(self._skipped + at - len(self._head))
            piece += self._file.read(wanted - len(piece))
        piece = piece.ljust(wanted, b"\0")
        buffer[: len(piece)] = piece
        self._position += len(piece)
        return len(piece)


def check_rate(sampling_rate: int) -> None:
    """Check the sampling rate that a header states.

    Raises:
        ContainerError: it is below ``LOWEST_RATE``.
    """
    if sampling_rate < LOWEST_RATE:
        raise ContainerError(f"its sampling rate is {sampling_rate} Hz, expected {LOWEST_RATE} or more; get it again")
