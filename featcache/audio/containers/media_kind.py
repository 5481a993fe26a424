"""First bytes of a media file → name of FFmpeg's demuxer, after a check that no part of the file is missing.

FFmpeg is told the format, because some of the formats that it guesses are lists of other files and addresses to open.
"""

import io
import re
from collections.abc import Callable
from typing import BinaryIO

from featcache.audio.containers.view import ContainerError

# Most parts of a file that are compared with its size. A film of ten hours in fragments of a second has fewer.
_MOST_PARTS = 1 << 17
_ASF = bytes.fromhex("3026b2758e66cf11")
_ASF_DATA = bytes.fromhex("3626b2758e66cf11")
_SEGMENT = 0x18538067
# Number of samples of one size, or of samples in a fragment.
_COUNTS = re.compile(rb"stsz.{4}(?!\0{4}).{4}(.{4})|trun.{4}(.{4})", re.DOTALL)
_MP4_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")


def demuxer_of(file: BinaryIO) -> str | None:
    """Return the name of FFmpeg's demuxer for a file that only FFmpeg decodes.

    Args:
        file: File, open for reading.

    Returns:
        ``mov``, ``matroska``, ``avi``, ``asf``, ``flv``, ``amr`` or ``aac``; None if it is none of these formats.

    Raises:
        ContainerError: the file is shorter than its container states.
    """
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    head = file.read(16)
    if head[4:8] in _MP4_BOXES:
        _check_boxes(file, size)
        return "mov"
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        _check_end(8 + int.from_bytes(head[4:8], "little"), size)
        return "avi"
    for magic, demuxer, check in _MAGIC:
        if head.startswith(magic):
            check(file, size)
            return demuxer
    # The layer, which is 0 in AAC only, distinguishes it from other MPEG audio.
    return "aac" if head[:1] == b"\xff" and len(head) > 1 and head[1] & 0xF6 == 0xF0 else None


def _check_end(end: int, size: int) -> None:
    if end > size:
        raise ContainerError(f"cut off, its header announces {end} bytes, the file has {size}")


def _check_boxes(file: BinaryIO, size: int) -> None:
    """Check the end of the last box of an MP4 file, and that its index exists."""
    at, names = 0, set()
    for _ in range(_MOST_PARTS):
        file.seek(at)
        head = file.read(16)
        length, name = int.from_bytes(head[:4], "big"), head[4:8]
        if length == 1:
            length = int.from_bytes(head[8:16], "big")
        if length < 8 or not name.isalnum():  # The last box, or bytes behind it.
            names.add(name)
            break
        names.add(name)
        _check_end(at + length, size)
        if name in (b"moov", b"moof"):
            file.seek(at)
            _check_counts(file.read(length), size)
        at += length
        if at >= size:
            break
    else:
        return
    if b"moov" not in names:
        raise ContainerError("its index (moov) is missing: the file is cut off, or its recording was not finished")


def _check_counts(index: bytes, size: int) -> None:
    """Check that the index of an MP4 file does not count more samples than the file has bytes.

    FFmpeg makes a table of all samples before it reads the first one, which would fill the memory.
    """
    for match in _COUNTS.finditer(index):
        number = int.from_bytes(match[1] or match[2], "big")
        if number > size:
            raise ContainerError(f"damaged, its index counts {number} parts in {size} bytes")


def _check_segment(file: BinaryIO, size: int) -> None:
    """Check the end of the segment of a Matroska file; a live recording does not state it."""
    at = 0
    for _ in range(16):
        file.seek(at)
        name, _ = _number(file, keep_mark=True)
        length, unknown = _number(file)
        if unknown:
            return
        at = file.tell() + length
        if name == _SEGMENT:
            _check_end(at, size)
            return


def _number(file: BinaryIO, *, keep_mark: bool = False) -> tuple[int, bool]:
    """Read a number of variable length; return it, and whether it means that a size is unknown."""
    first = file.read(1)
    width = 9 - first[0].bit_length() if first else 9
    if width > 8:
        return 0, True
    content = int.from_bytes(first + file.read(width - 1), "big")
    value = content & ((1 << 7 * width) - 1)
    return (content if keep_mark else value), value == (1 << 7 * width) - 1


def _check_objects(file: BinaryIO, size: int) -> None:
    """Check the end of the data in a Windows Media file."""
    at = 0
    for _ in range(16):
        file.seek(at)
        head = file.read(24)
        length = int.from_bytes(head[16:24], "little")
        if length < 24:
            return
        at += length
        _check_end(at, size)
        if head[:8] == _ASF_DATA:
            return


_MAGIC: tuple[tuple[bytes, str, Callable[[BinaryIO, int], None]], ...] = (
    (b"\x1aE\xdf\xa3", "matroska", _check_segment),
    (_ASF, "asf", _check_objects),
    (b"FLV\x01", "flv", lambda file, size: None),
    (b"#!AMR", "amr", lambda file, size: None),
)
