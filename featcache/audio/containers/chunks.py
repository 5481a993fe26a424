"""WAV, RF64, W64, AIFF, CAF, AU and NIST SPHERE → number of bytes of samples that the header states.

Sources: Microsoft & IBM 1991 (RIFF); EBU Tech 3306 (RF64); Apple 1988 (AIFF), 2006 (CAF); libsndfile ``src/w64.c``;
NIST ``sphere/header.doc``.
"""

import io
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import BinaryIO

from featcache.audio.containers.mpeg import look_at_mpeg
from featcache.audio.containers.view import ContainerError, View

# Recorders that write to a pipe do not know the size: they write 0, or about the largest possible number.
_UNKNOWN_FROM = 0x7FFFF000
_W64_DATA = b"data\xf3\xac\xd3\x11\x8c\xd1\x00\xc0\x4f\x8e\xdb\x8a"
# Beginnings of tags, which MP3 players write after the samples. They are not chunks.
_TAGS = (b"TAG", b"ID3", b"APETAGEX", b"LYRICSBEGIN")
# Chunks that are recognised by their name only, because the end of the file may cut them.
_NAMES = (b"LIST", b"id3 ", b"ID3 ", b"bext", b"iXML", b"fact", b"cue ", b"smpl", b"PEAK", b"JUNK", b"PAD ", b"FLLR")
_MOST_CHUNKS = 10_000
_BLOCK = 1 << 16
_LONGEST_HEADER = 1 << 20
_MPEG = (0x50, 0x55)  # codes for MPEG audio in the fmt chunk of a WAV file
_SECTOR = 512  # bytes; fewer bytes after the samples are remains from a disk or program


@dataclass(frozen=True, kw_only=True)
class _Kind:
    """Layout of the chunks of a format.

    Attributes:
        start: Position of the first chunk.
        chunk: ``struct`` format of the header of a chunk: name, size.
        data: Name of the chunk that contains the samples.
        align: Alignment in bytes: each chunk begins at a multiple of it.
        own: Number of bytes of the chunk header that the size of the chunk includes.
    """

    start: int
    chunk: str
    data: bytes
    align: int = 2
    own: int = 0


_RIFF = _Kind(start=12, chunk="<4sI", data=b"data")
_KINDS = {
    b"RIFF": _RIFF,
    b"RF64": _RIFF,
    b"BW64": _RIFF,
    b"RIFX": _Kind(start=12, chunk=">4sI", data=b"data"),
    b"FORM": _Kind(start=12, chunk=">4sI", data=b"SSND"),
    b"caff": _Kind(start=8, chunk=">4sq", data=b"data", align=1),
    b"riff": _Kind(start=40, chunk="<16sQ", data=_W64_DATA, align=8, own=24),
}


@dataclass(frozen=True, kw_only=True)
class _Samples:
    """Position and size of the samples, as the header states them.

    Attributes:
        begin: Position of the first byte.
        stated: Number of bytes that the header states; None if the header does not know it.
        sizes: Position and ``struct`` format of each copy of this number that must be filled in for libsndfile.
        mpeg: Whether the samples are an MPEG stream.
    """

    begin: int
    stated: int | None
    sizes: tuple[tuple[int, str], ...] = ()
    mpeg: bool = False


def look_at_chunks(file: BinaryIO, magic: bytes) -> View | None:
    """Compare the size that the header states with the size of the file.

    Args:
        file: Audio file, open for reading.
        magic: First four bytes of the file.

    Returns:
        View of the file for the decoder; None if the file has another format.

    Raises:
        ContainerError: the file is shorter than its header states, or contains more samples.
    """
    size = file.seek(0, io.SEEK_END)
    if magic in _KINDS:
        samples = _find_samples(file, magic, size)
    elif magic in (b".snd", b"dns."):
        samples = _find_au(file, ">" if magic == b".snd" else "<")
    elif magic == b"NIST":
        samples = _find_nist(file)
    else:
        return None
    if samples is None:  # The decoder will report this.
        return View()
    there = max(0, size - samples.begin)
    if samples.mpeg and there and (samples.stated or 0) <= there:
        end = samples.begin + (samples.stated or there)
        stream = look_at_mpeg(file, samples.begin, end)
        # The stream is shown without the WAV header, because libsndfile guesses the length of MPEG audio in WAV files.
        if stream is not None:
            return replace(stream, skipped=max(stream.skipped, samples.begin), end=end)
    if samples.stated is None:
        return _filled_in(file, samples, there)
    if samples.stated > there:
        raise ContainerError(f"cut off, the header announces {samples.stated} bytes of samples, the file has {there}")
    _check_rest(file, magic, samples.begin + samples.stated, size, samples.stated)
    return View()


def _find_samples(file: BinaryIO, magic: bytes, size: int) -> _Samples | None:
    kind = _KINDS[magic]
    size64: tuple[tuple[int, str], ...] = ()
    stated64, mpeg = 0, False
    for at, name, stated in _chunks(file, kind, kind.start, size):
        begin = at + struct.calcsize(kind.chunk)
        if name == b"ds64" and magic in (b"RF64", b"BW64"):
            size64 = ((begin + 8, "<Q"),)
            file.seek(begin + 8)
            (stated64,) = struct.unpack("<Q", file.read(8).ljust(8, b"\0"))
        if name == b"fmt " and kind is _RIFF:
            file.seek(begin)
            mpeg = int.from_bytes(file.read(2), "little") in _MPEG
        if name == kind.data:
            number = stated64 if size64 and stated == 0xFFFFFFFF else stated
            return replace(_stated(file, kind, begin, size, number, size64), mpeg=mpeg)
    return None


def _stated(
    file: BinaryIO, kind: _Kind, begin: int, size: int, stated: int, size64: tuple[tuple[int, str], ...]
) -> _Samples:
    number = kind.chunk[0] + kind.chunk[-1]
    largest = _UNKNOWN_FROM if kind.chunk.endswith("I") else 2**62
    # After a size of 0 there may be samples, or further chunks after an empty one.
    streamed = stated == 0 and not _begins_chunks(file, kind, begin, size)
    unknown = stated < 0 or streamed or (stated >= largest and stated > size - begin)
    # libsndfile itself uses the file size for AIFF and W64 files of unknown length.
    filled = kind.data not in (b"SSND", _W64_DATA)
    sizes = ((begin - struct.calcsize(number), number), *size64) if filled else ()
    return _Samples(begin=begin, stated=None if unknown else stated, sizes=sizes)


def _chunks(file: BinaryIO, kind: _Kind, at: int, size: int) -> Iterator[tuple[int, bytes, int]]:
    """Yield the position, name and size of each chunk."""
    length = struct.calcsize(kind.chunk)
    for _ in range(_MOST_CHUNKS):
        if at + length > size:
            return
        file.seek(at)
        name, stated = struct.unpack(kind.chunk, file.read(length))
        stated -= kind.own
        yield at, name, stated
        if stated < 0:
            return
        at += length + stated
        at += -at % kind.align


def _find_au(file: BinaryIO, order: str) -> _Samples:
    file.seek(4)
    begin, stated = struct.unpack(f"{order}II", file.read(8).ljust(8, b"\0"))
    return _Samples(begin=begin, stated=None if stated in (0, 0xFFFFFFFF) else stated)


def _find_nist(file: BinaryIO) -> _Samples | None:
    file.seek(0)
    header = file.read(1024)
    lines = header.split(b"\n", 2)
    fields = dict(re.findall(rb"^(\w+) -i (\d+)\s*$", header, re.MULTILINE))
    names = (b"sample_count", b"channel_count", b"sample_n_bytes")
    if len(lines) < 3 or not lines[1].strip().isdigit() or not set(names[::2]) <= fields.keys():
        return None
    if b"embedded-shorten" in header:
        return None
    stated = int(fields[names[0]]) * int(fields.get(names[1], 1)) * int(fields[names[2]])
    return _Samples(begin=int(lines[1]), stated=stated)


def _filled_in(file: BinaryIO, samples: _Samples, there: int) -> View:
    """Return a view whose header states the actual number of bytes of samples, or the largest number in 32 bits."""
    if there <= 0 or not samples.sizes or samples.begin > _LONGEST_HEADER:
        return View()
    file.seek(0)
    head = bytearray(file.read(samples.begin))
    for position, number in samples.sizes:
        struct.pack_into(number, head, position, there if struct.calcsize(number) == 8 else 0xFFFFFFFF)
    return View(head=bytes(head), skipped=samples.begin)


def _check_rest(file: BinaryIO, magic: bytes, end: int, size: int, stated: int) -> None:
    """Raise an error if samples follow the stated number of bytes; chunks, tags and padding are allowed."""
    kind = _KINDS.get(magic)
    if size - end < _SECTOR or _begins_tag(file, end) or (kind and _begins_chunks(file, kind, end, size)):
        return
    file.seek(end)
    while block := file.read(_BLOCK):
        if block.strip(b"\0"):
            break
    else:
        return
    what_to_do = "read them with 'ffmpeg -ignore_length 1 -i'" if kind is _RIFF else "repair the header"
    raise ContainerError(
        f"the header announces {stated} bytes of samples, but {size - end} more bytes follow that are neither a chunk "
        f"nor a tag; if they are samples, {what_to_do}, otherwise remove them"
    )


def _begins_chunks(file: BinaryIO, kind: _Kind, at: int, size: int) -> bool:
    # Some writers forget the padding byte after a chunk of odd size.
    return any(_are_chunks(file, kind, start, size) for start in {at, at + -at % kind.align})


def _are_chunks(file: BinaryIO, kind: _Kind, at: int, size: int) -> bool:
    """Check whether successive chunks follow up to the end of the file or to a tag."""
    end = at
    for start, name, stated in _chunks(file, kind, at, size):
        if name[:4] in _NAMES:
            return True
        if not re.fullmatch(rb"[ -~]{4}", name[:4]) or stated < 0:
            return start > at and _begins_tag(file, start)
        end = start + struct.calcsize(kind.chunk) + stated
    return size - 8 < end <= size + 1 and end > at


def _begins_tag(file: BinaryIO, at: int) -> bool:
    file.seek(at)
    return file.read(_BLOCK).lstrip(b"\0").startswith(_TAGS)
