"""Audio file → length that its container states, and whether its end is missing, without decoding."""

from typing import BinaryIO

from featcache.audio.containers.chunks import look_at_chunks
from featcache.audio.containers.flac import look_at_flac
from featcache.audio.containers.media_kind import demuxer_of
from featcache.audio.containers.mpeg import counted_mpeg, look_at_mpeg
from featcache.audio.containers.ogg import look_at_ogg
from featcache.audio.containers.view import ContainerError, ShownFile, View, check_rate

__all__ = ["ContainerError", "ShownFile", "View", "check_rate", "counted_mpeg", "demuxer_of", "look_at"]


def look_at(file: BinaryIO) -> View | None:
    """Read the headers of a container.

    Args:
        file: Audio file, open for reading.

    Returns:
        View of the file for the decoder; None if the format is unknown here.

    Raises:
        ContainerError: the file is shorter or longer than its container states.
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
    """Return the position after the ID3v2 tags at the beginning."""
    at = 0
    while True:
        file.seek(at)
        tag = file.read(10)
        if tag[:3] != b"ID3" or len(tag) < 10:
            return at
        length = sum((byte & 0x7F) << shift for byte, shift in zip(tag[6:10], (21, 14, 7, 0), strict=True))
        at += 10 + length + (10 if tag[5] & 0x10 else 0)
