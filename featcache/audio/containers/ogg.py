"""Ogg pages → whether the stream has its end. Source: RFC 3533, section 6."""

import struct
from typing import BinaryIO

from featcache.audio.containers.view import ContainerError, View

_HEADER = struct.Struct("<4sBBqIIIB")
_BEGIN, _END = 2, 4
_BLOCK = 1 << 16


def look_at_ogg(file: BinaryIO, magic: bytes) -> View | None:
    """Find the page that ends the stream; None where the file is no Ogg file.

    A length is stated nowhere: the last page tells where it ends, whichever page that is.

    Raises:
        ContainerError: several streams follow one another, of which the decoder would read the first alone.
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
                "holds several Ogg streams one after the other, of which only the first would be decoded; convert it "
                "to one with ffmpeg"
            )
        begun += bool(flags & _BEGIN)
        data = data or not flags & _BEGIN
        ended = bool(flags & _END)
    return View(ends_early=begun > 0 and not ended)


def _next_page(file: BinaryIO, at: int) -> int | None:
    """Position of the next page, where bytes of something else lie between."""
    file.seek(at)
    before = b""
    while block := file.read(_BLOCK):
        found = (before + block).find(b"OggS")
        if found >= 0:
            return at + found - len(before)
        at += len(block)
        before = block[-3:]
    return None
