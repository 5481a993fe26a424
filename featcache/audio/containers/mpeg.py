"""MPEG audio, layers 1 to 3 → stated or counted number of frames, and whether the last frame is complete.

Sources: ISO/IEC 11172-3 and 13818-3 (frame headers); the encoder LAME (Xing and LAME tags).
"""

import io
import re
import struct
from dataclasses import dataclass
from functools import lru_cache
from typing import BinaryIO

from featcache.audio.containers.view import ContainerError, View

_BIT_RATES = {  # (is version 1, layer) → bit rates in kbit/s
    (True, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_SAMPLING_RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}
_SYNC = re.compile(rb"\xff[\xe2-\xff]")
_BLOCK = 1 << 20
_NEAR = 1 << 16
_MOST_GAPS = 1000
_SHORTEST = 24  # bytes; every frame is longer
_LONGEST = 4096  # bytes; every frame is shorter
_MOST_RATIO = 64  # largest ratio of the bit rate of the first frame to the bit rate of any frame
_FRAMES, _BYTES = 1, 2


@dataclass(frozen=True, kw_only=True)
class _Frame:
    """Header of a frame.

    Attributes:
        length: Length of the frame in bytes.
        num_samples: Number of samples per channel.
        kind: Version, layer and code of the sampling rate, which are the same in all frames of a stream.
        side: Length of the side information in bytes.
    """

    length: int
    num_samples: int
    kind: tuple[int, int, int]
    side: int


def look_at_mpeg(file: BinaryIO, start: int, end: int | None = None) -> View | None:
    """Find the length of an MPEG stream.

    Args:
        file: Audio file, open for reading.
        start: Position after the tags at the beginning.
        end: Position after the stream; by default the end of the file, without tags.

    Returns:
        View of the file for the decoder; None if no MPEG audio begins at ``start``.

    Raises:
        ContainerError: the file has more frames than its Xing tag states.
    """
    size = end or file.seek(0, io.SEEK_END)
    file.seek(start)
    head = file.read(max(0, min(_BLOCK, size - start)))
    first = _first_frame(head)
    if first is None or head[:first].strip(b"\0"):
        return None
    at = start + first
    frame = _frame(head[first : first + 4])
    if frame is None:
        return None
    end = end or size - _size_of_end_tags(file, size)
    stated = _xing(head[first : first + frame.length], frame)
    if stated is None:
        counted, whole, smooth = _count(file, at, end, frame.kind)
        num_samples = counted * frame.num_samples
        return counted_mpeg(size, skipped=at, ends_early=not whole, num_samples=num_samples if smooth else None)
    num_frames, num_bytes = stated
    if num_bytes == end - at and num_frames <= num_bytes // _SHORTEST + 1:
        return View()
    counted, _, _ = _count(file, at + frame.length, end, frame.kind)
    if counted > num_frames + 1:  # Some encoders also count the frame that contains the tag.
        raise ContainerError(
            f"the header announces {num_frames} MPEG frames, but the file has {counted}; convert it again with ffmpeg"
        )
    return View(check_end=counted < num_frames)


def counted_mpeg(size: int, *, skipped: int = 0, ends_early: bool = False, num_samples: int | None = None) -> View:
    """Return a view with enough padding that the length guessed by libsndfile cannot be too small.

    Args:
        size: Size of the file in bytes.
        skipped: Number of bytes at the beginning that are not shown.
        ends_early: Whether the last frame is cut.
        num_samples: Number of samples per channel; None if decoding must count them.
    """
    return View(
        skipped=skipped,
        padding=_MOST_RATIO * size,
        ends_early=ends_early,
        num_samples=num_samples,
        counts=num_samples is None,
    )


@lru_cache(maxsize=4096)
def _frame(header: bytes) -> _Frame | None:
    """Parse the header of a frame; return None if it is not a header, or has the free format without a bit rate."""
    if len(header) < 4 or header[0] != 0xFF or header[1] & 0xE0 != 0xE0:
        return None
    version, layer = header[1] >> 3 & 3, 4 - (header[1] >> 1 & 3)
    bit_rate, rate, padding = header[2] >> 4, header[2] >> 2 & 3, header[2] >> 1 & 1
    if version == 1 or layer == 4 or bit_rate in (0, 15) or rate == 3:
        return None
    first_version = version == 3
    kbits = _BIT_RATES[first_version, layer][bit_rate - 1]
    sampling_rate = _SAMPLING_RATES[version][rate]
    num_samples = 384 if layer == 1 else 1152 if layer == 2 or first_version else 576
    if layer == 1:
        length = (12_000 * kbits // sampling_rate + padding) * 4
    else:
        length = num_samples * 125 * kbits // sampling_rate + padding
    mono = header[3] >> 6 == 3
    side = (17 if mono else 32) if first_version else (9 if mono else 17)
    return _Frame(length=length, num_samples=num_samples, kind=(version, layer, rate), side=side)


def _first_frame(content: bytes) -> int | None:
    """Return the position of the first header that is followed by another header of its kind, as decoders do."""
    for match in _SYNC.finditer(content):
        at = match.start()
        frame = _frame(content[at : at + 4])
        if frame is None:
            continue
        following = _frame(content[at + frame.length : at + frame.length + 4])
        if (following and following.kind == frame.kind) or (at == 0 and at + frame.length >= len(content) - 4):
            return at
    return None


def _xing(tag: bytes, frame: _Frame) -> tuple[int, int | None] | None:
    """Return the numbers of frames and bytes that the tag in the first frame states; None if there is no tag."""
    at = 4 + frame.side
    if tag[at : at + 4] not in (b"Xing", b"Info") or len(tag) < at + 16:
        return None
    flags, first, second = struct.unpack_from(">III", tag, at + 4)
    if not flags & _FRAMES or first == 0:
        return None
    return first, second if flags & _BYTES else None


def _count(file: BinaryIO, at: int, end: int, kind: tuple[int, int, int]) -> tuple[int, bool, bool]:
    """Count complete frames; also return whether the last frame is complete and whether there are no gaps."""
    counted, whole, gaps = 0, True, 0
    block, begin = b"", at
    while at + 4 <= end:
        if at + 4 > begin + len(block):
            file.seek(at)
            block, begin = file.read(_BLOCK), at
        frame = _frame(block[at - begin : at - begin + 4])
        if frame is None or frame.kind != kind:
            gaps += 1
            if gaps > _MOST_GAPS:
                break
            file.seek(at)
            block, begin = file.read(_NEAR), at
            found = _first_frame(block[1:])
            at += max(1, len(block) - _LONGEST) if found is None else found + 1
            continue
        whole = at + frame.length <= end
        counted += whole
        at += frame.length
    return counted, whole, gaps == 0


def _size_of_end_tags(file: BinaryIO, size: int) -> int:
    """Return the size of the ID3v1 and APE tags at the end, in bytes."""
    end = size
    file.seek(max(0, end - 128))
    if file.read(3) == b"TAG" and end >= 128:
        end -= 128
    file.seek(max(0, end - 32))
    footer = file.read(32)
    if footer[:8] == b"APETAGEX" and len(footer) == 32:
        length, _, flags = struct.unpack_from("<III", footer, 12)
        end -= min(end, length + (32 if flags & 1 << 31 else 0))
    return size - end
