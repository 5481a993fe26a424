"""Ogg pages → whether the end of the stream is missing. Source: RFC 3533, section 6."""

import struct
from typing import BinaryIO

from featcache.audio.containers.view import ContainerError, View

_HEADER = struct.Struct("<4sBBqIIIB")
_BEGIN, _END = 2, 4
_BLOCK = 1 << 16


def look_at_ogg(file: BinaryIO, magic: bytes) -> View | None:
    """Find the page that ends the stream.

    Ogg states no length: decoders use the position in the last page of the file, even if later pages are missing.

    Args:
        file: Audio file, open for reading.
        magic: First four bytes of the file.

    Returns:
        View of the file for the decoder; None if the file is not Ogg.

    Raises:
        ContainerError: the file contains several successive streams, but the decoder would read only the first one.
    """
    if magic != b"OggS":
        return None
    at, begun, ended, data = 0, 0, False, False
    file.seek(0, 2)
    size = file.tell()
    while at < size:
        file.seek(at)
        header = file.read(_HEADER.size)
        if len(header) < _HEADER.size or header[:4] != b"OggS":
            found = _next_page(file, at + 1 if header[:4] == b"OggS" else at)
            if found is None:
                break
            at = found
            continue
        _, _, flags, _, _, _, _, num_segments = _HEADER.unpack(header)
        at += _HEADER.size + num_segments + sum(file.read(num_segments))
        if at > size:
            ended = False
            break
        if flags & _BEGIN and data:
            raise ContainerError(
                "contains several Ogg streams one after the other, but only the first would be decoded; convert them "
                "to one stream with ffmpeg"
            )
        begun += bool(flags & _BEGIN)
        data = data or not flags & _BEGIN
        ended = bool(flags & _END)
    return View(ends_early=begun > 0 and not ended)


def _next_page(file: BinaryIO, at: int) -> int | None:
    """Return the position of the next page after other bytes; None if there is no further page."""
    file.seek(at)
    before = b""
    while block := file.read(_BLOCK):
        found = (before + block).find(b"OggS")
        if found >= 0:
            return at + found - len(before)
        at += len(block)
        before = block[-3:]
    return None
