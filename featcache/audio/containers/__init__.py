"""Audio file → the length that its container states, and whether its end is there, before anything is decoded."""

from typing import BinaryIO

from featcache.audio.containers.chunks import look_at_chunks
from featcache.audio.containers.flac import look_at_flac
from featcache.audio.containers.mpeg import counted_mpeg, look_at_mpeg
from featcache.audio.containers.ogg import look_at_ogg
from featcache.audio.containers.view import ContainerError, ShownFile, View

__all__ = ["ContainerError", "ShownFile", "View", "counted_mpeg", "look_at"]


def look_at(file: BinaryIO) -> View | None:
    """Read a container's headers.

    Args:
        file: An audio file, open for reading.

    Returns:
        How to show it to the decoder; None where only the decoder may know the format.

    Raises:
        ContainerError: the container states a length, and the file holds less or more.
    """
    file.seek(0)
    magic = file.read(4)
    for look in (look_at_chunks, look_at_ogg, look_at_flac):
        view = look(file, magic)
        if view is not None:
            return view
    start = _behind_tags(file)
    file.seek(start)
    if file.read(4) in (b"fLaC", b"OggS"):
        return View(check_end=True)
    return look_at_mpeg(file, start)


def _behind_tags(file: BinaryIO) -> int:
    """Position behind the ID3v2 tags at the beginning."""
    at = 0
    while True:
        file.seek(at)
        tag = file.read(10)
        if tag[:3] != b"ID3" or len(tag) < 10:
            return at
        length = sum((byte & 0x7F) << shift for byte, shift in zip(tag[6:10], (21, 14, 7, 0), strict=True))
        at += 10 + length + (10 if tag[5] & 0x10 else 0)
