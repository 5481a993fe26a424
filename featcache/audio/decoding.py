"""Audio file → decoder with a known number of samples.

libsndfile decodes, but its guesses of lengths are not used. FFmpeg decodes the formats that libsndfile does not read.
"""

import io
import os
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
import numpy.typing as npt

from featcache.audio.containers import ContainerError, ShownFile, View, check_rate, counted_mpeg, demuxer_of, look_at
from featcache.audio.containers.plain_wav import HEAD, plain_wav
from featcache.audio.header import Header
from featcache.audio.media_decoder import opened_media
from featcache.audio.source_file import FileIdentity, identity_of, open_audio, size_of
from featcache.errors import AudioError
from featcache.files.audio_shards import row_in_shard
from featcache.files.content import HEAD_BYTES, describe_content
from featcache.files.regular import read_beginning

# Number of samples per channel that are decoded at a time to count them.
_BLOCK = 2**16
_MOST_KNOWN = 4096
# File size in bytes from which the view is kept in memory, because the file may contain many utterances.
_LARGE = 1 << 22

SETTLED = 3_000_000_000
"""Time in nanoseconds after which a further change of a file changes its times, on every file system."""

_known: dict[FileIdentity, View | Header] = {}


class Decoder(Protocol):
    """Open audio file, with its position and its ``header``."""

    header: Header

    def seek(self, sample: int) -> None:
        """Move forward to a sample.

        Args:
            sample: Number of the sample, not before the current position.
        """

    def read(self, num_samples: int) -> npt.NDArray[np.float32]:
        """Decode the next samples.

        Args:
            num_samples: Number of samples per channel.

        Returns:
            Samples, (num_samples, num_channels) float32; fewer if decoding ends before.

        Raises:
            MemoryError: the samples do not fit in memory.
        """


class SndfileDecoder:
    """Audio file that libsndfile decodes."""

    def __init__(self, file: Any, header: Header) -> None:
        self._file = file
        self._at = 0
        self.header = header

    def seek(self, sample: int) -> None:
        """Move forward to a sample.

        libsndfile cannot seek in some codecs (GSM 6.10, G.72x, NMS ADPCM, DWVW, …), and reports this only when it is
        asked to seek. The samples before the position are then decoded and dropped.
        """
        import soundfile

        if sample == self._at:
            return
        try:
            self._file.seek(sample)
            self._at = sample
        except soundfile.LibsndfileError:
            while self._at < sample and len(self.read(min(_BLOCK, sample - self._at))):
                pass

    def read(self, num_samples: int) -> npt.NDArray[np.float32]:
        try:
            samples: npt.NDArray[np.float32] = self._file.read(num_samples, dtype="float32", always_2d=True)
        except (ValueError, OverflowError) as error:  # The number is too large for numpy.
            raise MemoryError(str(error)) from error
        self._at += len(samples)
        return samples


@contextmanager
def opened(folder: Path, path: str) -> Iterator[Decoder]:
    """Open an audio file and yield its decoder.

    Args:
        folder: Corpus folder.
        path: Path of the file, relative to the corpus folder.

    Raises:
        AudioError: the file cannot be read, is not audio, or contradicts the length in its container; also while it is
            being decoded.
    """
    import soundfile

    try:
        with open_audio(folder / path) as content:
            demuxer = demuxer_of(content)
            if demuxer is None:
                with _opened_by_libsndfile(folder / path, content) as decoder:
                    yield decoder
            else:
                identity = identity_of(folder / path, content)
                known = _known.get(identity)
                with opened_media(content, demuxer, known if isinstance(known, Header) else None) as media:
                    _remember(identity, media.header)
                    yield media
    except ContainerError as error:
        raise AudioError(f"{path}: {error}") from error
    except soundfile.LibsndfileError as error:
        raise AudioError(f"{path}: {_describe(error, folder / path)}") from error
    except MemoryError as error:
        raise AudioError(f"{path}: does not fit in memory, or its header is damaged; use --chunk-seconds") from error
    except OSError as error:
        raise AudioError(f"{path}: cannot be read ({error.strerror})") from error


@contextmanager
def _opened_by_libsndfile(path: Path, content: BinaryIO) -> Iterator[Decoder]:

    view = _view(path, content)
    with _shown(content, view) as file:
        num_samples = file.frames if view.num_samples is None else view.num_samples
        check_rate(int(file.samplerate))
        if view.check_end:
            _check_end(path, file, view, num_samples)
        yield SndfileDecoder(
            file,
            _header(num_samples, int(file.samplerate), file.channels, ends_early=view.ends_early),
        )


def read_header(folder: Path, path: str) -> Header:
    """Read the header of an audio file; the samples are decoded only if the header does not state their number.

    Args:
        folder: Corpus folder.
        path: Path of the file, relative to the corpus folder.

    Raises:
        AudioError: see :func:`opened`.
    """
    file = os.path.join(folder, path)
    with suppress(OSError):  # The reason is reported below.
        plain = plain_wav(*read_beginning(file, HEAD))
        if plain is not None:
            return _header(*plain)
    try:
        mode = os.stat((row_in_shard(file) or (file,))[0]).st_mode
    except FileNotFoundError as error:
        raise AudioError(f"{path}: no such file") from error
    except OSError as error:
        raise AudioError(f"{path}: cannot be read ({error.strerror})") from error
    if stat.S_ISDIR(mode):
        raise AudioError(f"{path}: is a folder")
    with opened(folder, path) as decoder:
        return decoder.header


def _header(num_samples: int, sampling_rate: int, num_channels: int, *, ends_early: bool = False) -> Header:
    """Return the header of a file that libsndfile decodes."""
    import soundfile

    return Header(
        num_samples=num_samples,
        sampling_rate=sampling_rate,
        num_channels=num_channels,
        ends_early=ends_early,
        decoder=f"libsndfile {soundfile.__libsndfile_version__}",
    )


def _shown(content: BinaryIO, view: View) -> Any:
    import soundfile

    # The file is passed as a descriptor, because libsndfile would use the suffix of a name to guess the format. This is
    # impossible on Windows, where libsndfile has its own C runtime and cannot use Python's descriptors.
    if view.is_plain and sys.platform != "win32" and not isinstance(content, io.BytesIO):
        os.lseek(content.fileno(), 0, os.SEEK_SET)
        return soundfile.SoundFile(content.fileno(), closefd=False)
    return soundfile.SoundFile(ShownFile(content, view))


def _view(path: Path, content: BinaryIO) -> View:
    """Return the view of a file for libsndfile, with the number of samples if libsndfile would only guess it."""
    identity, size = identity_of(path, content), size_of(content)
    known = _known.get(identity)
    if isinstance(known, View):
        return known
    view = look_at(content)
    if view is None:
        with _shown(content, View()) as file:
            view = counted_mpeg(size) if file.format == "MP3" else View()
    if view.counts:
        num_samples = _count(content, view)
        view = replace(view, num_samples=num_samples, counts=False)
        if view.head_for is not None:
            view = replace(view, head=view.head_for(num_samples))
    if view.num_samples is not None or size > _LARGE:
        _remember(identity, view)
    return view


def _remember(identity: FileIdentity, found: View | Header) -> None:
    if time.time_ns() - identity.changed <= SETTLED:
        return
    if len(_known) >= _MOST_KNOWN:
        _known.clear()
    _known[identity] = found


def _count(content: BinaryIO, view: View) -> int:
    """Count the samples per channel that can be decoded."""
    import soundfile

    with _shown(content, view) as file:
        block = np.empty((_BLOCK, file.channels), dtype=np.float32)
        total = 0
        while True:
            block.fill(np.nan)  # After an error, NaN marks the samples that were not decoded.
            try:
                decoded = len(file.read(out=block))
            except soundfile.LibsndfileError:
                return total + int(np.isfinite(block).all(axis=1).sum())
            total += decoded
            if decoded < _BLOCK:
                return total


def _check_end(path: Path, file: Any, view: View, num_samples: int) -> None:
    """Raise an error if the last sample of a file cannot be decoded."""
    import soundfile

    try:
        file.seek(max(0, num_samples - 1))
        there = len(file.read(1)) or num_samples == 0
        file.seek(0)
    except soundfile.LibsndfileError:
        there = False
    if not there:
        with open_audio(path) as content:
            decoded = _count(content, view)
        raise ContainerError(f"cut off, {num_samples} samples announced, decoding ended at {decoded}")


def _describe(error: Any, path: Path) -> str:
    """Return why libsndfile cannot read a file, and what the file contains."""
    reason = str(error.error_string).strip().rstrip(".") or "damaged or cut off"
    if reason.startswith("File does not exist"):  # libsndfile reports this if libmpg123 finds too few frames.
        reason = "damaged, or too short to be recognised"
    try:
        with open_audio(path) as file:
            kind = describe_content(file.read(HEAD_BYTES))
    except OSError:
        kind = None
    return f"not readable as audio ({reason})" if kind is None else f"not an audio file but {kind}"
