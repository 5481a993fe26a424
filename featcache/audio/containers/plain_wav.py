"""Beginning of a usual WAV file → its header, without a decoder. All other files are left to libsndfile.

Source: Microsoft & IBM 1991 (RIFF); Microsoft 2001 (WAVEFORMATEXTENSIBLE).
"""

import struct

from featcache.audio.containers.view import LOWEST_RATE

HEAD = 512
"""Number of bytes that contain the header of usual WAV files."""
_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
# Code of the format → bits per sample that libsndfile decodes.
_BITS = {_PCM: (8, 16, 24, 32), _FLOAT: (32, 64)}
# The rest of the identifier of PCM and float in an extensible header.
_GUID = b"\x00\x00\x00\x00\x10\x00\x80\x00\x00\xaa\x00\x38\x9b\x71"
_MOST_CHANNELS, _HIGHEST_RATE = 64, 1_000_000


def plain_wav(head: bytes, size: int) -> tuple[int, int, int] | None:
    """Return numbers of samples per channel and of channels, and the sampling rate, of a WAV file without any doubt.

    Args:
        head: First ``HEAD`` bytes of the file, or the whole file if it is shorter.
        size: Size of the file in bytes.

    Returns:
        Number of samples, sampling rate in Hz, and number of channels; None for any other file: no WAV, compressed, of
        unknown or contradictory length, or with anything after the samples.
    """
    if head[:4] != b"RIFF" or head[8:12] != b"WAVE" or struct.unpack_from("<I", head, 4)[0] + 8 != size:
        return None
    at, found = 12, None
    while at + 8 <= len(head):
        name, length = struct.unpack_from("<4sI", head, at)
        at += 8
        if name == b"data":
            known = found is not None and length and length % found[1] == 0 and at + length == size
            return (length // found[1], found[0], found[2]) if known and found else None
        if name == b"fmt " and found is None:
            found = _format(head[at : at + length])
        elif name not in (b"LIST", b"fact", b"PEAK"):
            return None
        at += length + length % 2
    return None


def _format(chunk: bytes) -> tuple[int, int, int] | None:
    """Return sampling rate, number of bytes of all channels of a sample, and channels; None if it is unusual."""
    if len(chunk) not in (16, 18, 40):
        return None
    code, channels, rate, per_second, width, bits = struct.unpack_from("<HHIIHH", chunk)
    if code == _EXTENSIBLE:
        if len(chunk) != 40 or chunk[26:] != _GUID or struct.unpack_from("<H", chunk, 18)[0] != bits:
            return None
        [code] = struct.unpack_from("<H", chunk, 24)
    usual = bits in _BITS.get(code, ()) and 0 < channels <= _MOST_CHANNELS and LOWEST_RATE <= rate <= _HIGHEST_RATE
    if not usual or width != channels * bits // 8 or per_second != rate * width:
        return None
    return rate, width, channels
