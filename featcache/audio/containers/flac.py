"""FLAC → stated length, and whether the last frame is complete. Source: RFC 9639, sections 8.2 and 9."""

from typing import BinaryIO

from featcache.audio.containers.view import View

_STREAMINFO = slice(0, 42)
_MOST_SAMPLES = 2**36 - 1
_LARGEST_FRAME = 1 << 17
_MOST_TRIES = 32


def look_at_flac(file: BinaryIO, magic: bytes) -> View | None:
    """Read the number of samples that the header states.

    Args:
        file: Audio file, open for reading.
        magic: First four bytes of the file.

    Returns:
        View of the file for the decoder; None if the file is not FLAC.
    """
    if magic != b"fLaC":
        return None
    file.seek(0)
    header = file.read(_STREAMINFO.stop)
    if len(header) < _STREAMINFO.stop or header[4] & 0x7F != 0:  # The decoder will report this.
        return View()
    if int.from_bytes(header[21:26], "big") & _MOST_SAMPLES:
        return View(check_end=True)

    def head_for(num_samples: int) -> bytes:
        bits = int.from_bytes(header[18:26], "big") | num_samples
        return header[:18] + bits.to_bytes(8, "big") + header[26:]

    return View(
        head=head_for(_MOST_SAMPLES),
        skipped=_STREAMINFO.stop,
        ends_early=not _ends_with_frame(file, int.from_bytes(header[15:18], "big")),
        counts=True,
        head_for=head_for,
    )


def _ends_with_frame(file: BinaryIO, largest_frame: int) -> bool:
    """Check whether the file ends at the end of a frame: the checksum of the whole frame is then 0."""
    size = file.seek(0, 2)
    file.seek(max(_STREAMINFO.stop, size - (largest_frame or _LARGEST_FRAME)))
    tail = file.read()
    at = len(tail)
    for _ in range(_MOST_TRIES):
        at = max(tail.rfind(b"\xff\xf8", 0, at), tail.rfind(b"\xff\xf9", 0, at))
        if at < 0 or _crc16(tail[at:]) == 0:
            return at >= 0
    return False


def _crc16(content: bytes) -> int:
    """Return the checksum with the polynomial x^16 + x^15 + x^2 + 1 and the initial value 0."""
    crc = 0
    for byte in content:
        crc = (crc << 8 & 0xFFFF) ^ _TABLE[crc >> 8 ^ byte]
    return crc


def _entry(byte: int) -> int:
    crc = byte << 8
    for _ in range(8):
        crc = (crc << 1 ^ (0x8005 if crc & 0x8000 else 0)) & 0xFFFF
    return crc


_TABLE = [_entry(byte) for byte in range(256)]
