"""Audio file → decoder with a known number of samples. libsndfile decodes, but its guesses of lengths are not used."""

import os
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from featcache.audio.containers import ContainerError, ShownFile, View, counted_mpeg, look_at
from featcache.audio.containers.plain_wav import HEAD, plain_wav
from featcache.errors import AudioError
from featcache.files.content import HEAD_BYTES, describe_content
from featcache.files.regular import open_regular, read_beginning

# Number of samples per channel that are decoded at a time to count them.
_BLOCK = 2**16
_MOST_KNOWN = 4096
# File size in bytes from which the view is kept in memory, because the file may contain many utterances.
_LARGE = 1 << 22

SETTLED = 3_000_000_000
"""Time in nanoseconds after which a further change of a file changes its times, on every file system."""

_Identity = tuple[str, int, int, int, int]
_known: dict[_Identity, View] = {}


@dataclass(frozen=True, kw_only=True, slots=True)
class Header:
    """Properties of an audio file that are known before decoding.

    Attributes:
        num_samples: Number of samples per channel.
        sampling_rate: Sampling rate in Hz.
        ends_early: Whether the end of the stream is missing; ``num_samples`` then counts what can be decoded.
    """

    num_samples: int
    sampling_rate: int
    ends_early: bool = False

    @property
    def duration(self) -> float:
        """Duration in seconds."""
        return self.num_samples / self.sampling_rate


class Decoder:
    """Open audio file, with its position and its ``header``."""

    def __init__(self, file: Any, header: Header) -> None:
        self._file = file
        self._at = 0
        self.header = header

    def seek(self, sample: int) -> None:
        """Move forward to a sample.

        libsndfile cannot seek in some codecs (GSM 6.10, G.72x, NMS ADPCM, DWVW, …), and reports this only when it is
        asked to seek. The samples before the position are then decoded and dropped.

        Args:
            sample: Number of the sample, not before the current position.
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
        """Decode the next samples.

        Args:
            num_samples: Number of samples per channel.

        Returns:
            Samples, (num_samples, num_channels) float32; fewer if decoding ends before.

        Raises:
            MemoryError: the samples do not fit in memory.
        """
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

    content: BinaryIO | None = None
    try:
        with open_regular(folder / path) as content:
            view = _view(folder / path, content)
            with _shown(content, view) as file:
                num_samples = file.frames if view.num_samples is None else view.num_samples
                if view.check_end:
                    _check_end(folder / path, file, view, num_samples)
                header = Header(num_samples=num_samples, sampling_rate=int(file.samplerate), ends_early=view.ends_early)
                yield Decoder(file, header)
    except ContainerError as error:
        raise AudioError(f"{path}: {error}") from error
    except soundfile.LibsndfileError as error:
        raise AudioError(f"{path}: {_describe(error, folder / path)}") from error
    except MemoryError as error:
        raise AudioError(f"{path}: does not fit in memory, or its header is damaged; use --chunk-seconds") from error
    except OSError as error:
        raise AudioError(f"{path}: cannot be read ({error.strerror})") from error


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
            return Header(num_samples=plain[0], sampling_rate=plain[1])
    try:
        mode = os.stat(file).st_mode
    except FileNotFoundError as error:
        raise AudioError(f"{path}: no such file") from error
    except OSError as error:
        raise AudioError(f"{path}: cannot be read ({error.strerror})") from error
    if stat.S_ISDIR(mode):
        raise AudioError(f"{path}: is a folder")
    with opened(folder, path) as decoder:
        return decoder.header


def _shown(content: BinaryIO, view: View) -> Any:
    import soundfile

    # The file is passed as a descriptor, because libsndfile would use the suffix of a name to guess the format. This is
    # impossible on Windows, where libsndfile has its own C runtime and cannot use Python's descriptors.
    if view.is_plain and sys.platform != "win32":
        os.lseek(content.fileno(), 0, os.SEEK_SET)
        return soundfile.SoundFile(content.fileno(), closefd=False)
    return soundfile.SoundFile(ShownFile(content, view))


def _view(path: Path, content: BinaryIO) -> View:
    """Return the view of a file for libsndfile, with the number of samples if libsndfile would only guess it."""
    status = os.fstat(content.fileno())
    identity = (str(path), status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
    known = _known.get(identity)
    if known is not None:
        return known
    view = look_at(content)
    if view is None:
        with _shown(content, View()) as file:
            view = counted_mpeg(status.st_size) if file.format == "MP3" else View()
    if view.counts:
        num_samples = _count(content, view)
        view = replace(view, num_samples=num_samples, counts=False)
        if view.head_for is not None:
            view = replace(view, head=view.head_for(num_samples))
    settled = time.time_ns() - max(status.st_mtime_ns, status.st_ctime_ns) > SETTLED
    if settled and (view.num_samples is not None or status.st_size > _LARGE):
        if len(_known) >= _MOST_KNOWN:
            _known.clear()
        _known[identity] = view
    return view


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
        with open_regular(path) as content:
            decoded = _count(content, view)
        raise ContainerError(f"cut off, {num_samples} samples announced, decoding ended at {decoded}")


def _describe(error: Any, path: Path) -> str:
    """Return why libsndfile cannot read a file, and what the file contains."""
    reason = str(error.error_string).strip().rstrip(".") or "damaged or cut off"
    if reason.startswith("File does not exist"):  # libsndfile reports this if libmpg123 finds too few frames.
        reason = "damaged, or too short to be recognised"
    try:
        with open_regular(path) as file:
            kind = describe_content(file.read(HEAD_BYTES))
    except OSError:
        kind = None
    return f"not readable as audio ({reason})" if kind is None else f"not an audio file but {kind}"
