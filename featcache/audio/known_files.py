"""Audio files → headers and checksums, remembered in a file beside the stores for as long as the audio is unchanged.

A file counts as unchanged if its size, its inode, and the times of its last change of content (mtime) and of anything
(ctime) are the same. A program that restores the old mtime still changes the ctime. A file that changed within the last
seconds before it was read is not remembered, because a further change might not change its times.

The memory has one line per file, with a checksum of the line. Lines are only appended, so that several processes may
write, and a line that was not written completely is ignored. The memory may be removed at any time.
"""

import math
import os
import stat
import sys
import time
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar

from featcache.audio.containers.view import LOWEST_RATE
from featcache.audio.decoding import SETTLED, read_header
from featcache.audio.header import Header
from featcache.audio.source_file import sha256_of_audio
from featcache.errors import AudioError, DiskError
from featcache.files.audio_shards import row_in_shard
from featcache.files.regular import read_regular, replace_file

KNOWN_FILES = ".audio-files"
"""Name of the memory in the folder of a cache."""
# A change of this number, or of the decoder's version, makes all older memories invalid.
_VERSION = 1
# A larger memory is not read.
_MOST_BYTES = 4 * 2**30

_State = tuple[int, int, int, int]
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class _Known:
    """What is known about a file in a state: size, mtime and ctime in nanoseconds, and inode."""

    state: _State
    sha256: str = ""
    header: Header | None = None
    settled: bool = True


class KnownFiles:
    """Headers and checksums of the files of a folder; each file is read only once while it does not change.

    Args:
        folder: Folder of the audio.
        memory: File that remembers what was read; None for this process only. It is read now, and written by
            :meth:`remember` only.
    """

    def __init__(self, folder: Path, memory: Path | None = None) -> None:
        self._folder = f"{os.fspath(folder)}{os.sep}"
        self._root = folder
        self._memory = memory
        self._known: dict[str, _Known] = {}
        self._faults: dict[str, str] = {}
        self._new: dict[str, None] = {}
        self._turn = Lock()
        self._lines: dict[str, bytes] = {}
        self._superfluous = 0.0  # Number of lines of the memory that later lines replace; infinite if it is invalid.
        if memory is not None:
            self._lines, self._superfluous = _read(memory)

    def checksum(self, path: str) -> str:
        """Return the SHA-256 of a file, in hexadecimal; the file is read only if it changed.

        Raises:
            ContainerError: a shard has no such audio.
            OSError: the file cannot be read.
        """
        known = self._current(path, _stat(self._folder + path))
        return known.sha256 if known is not None and known.sha256 else self.read_checksum(path)

    def read_checksum(self, path: str) -> str:
        """Read a file, and return its SHA-256, in hexadecimal.

        Raises:
            ContainerError: a shard has no such audio.
            OSError: the file cannot be read.
        """
        return self._read(path, lambda: sha256_of_audio(Path(self._folder + path)), "sha256")

    def header(self, path: str) -> Header:
        """Return the header of a file; the file is read only if it changed.

        Raises:
            AudioError: see :func:`featcache.audio.probe`; raised again in every later call for the file.
        """
        known = self._known.get(path)
        if known is not None and known.header is not None:
            return known.header
        if path in self._faults:
            raise AudioError(self._faults[path])
        if known is not None or path in self._lines:
            with suppress(OSError):  # The reason is reported below.
                known = self._current(path, _stat(self._folder + path))
                if known is not None and known.header is not None:
                    return known.header
        try:
            return self._read(path, lambda: read_header(self._root, path), "header")
        except AudioError as error:
            self._faults[path] = str(error)
            raise

    def remember(self) -> None:
        """Append what was read since the last call to the memory; a memory that cannot be written is no error."""
        if self._memory is None or not self._new:
            return
        with self._turn:
            new, self._new = self._new, {}
        lines = [_line(path, self._known[path]) for path in new if self._known[path].settled and _is_plain(path)]
        with suppress(OSError, DiskError):
            if self._superfluous > len(self._lines) + len(self._known):
                known = [_line(path, one) for path, one in self._known.items() if one.settled and _is_plain(path)]
                replace_file(self._memory, _first_line() + b"".join([*self._lines.values(), *known]))
                self._superfluous = 0
            elif lines:
                _append(self._memory, b"".join(lines))

    def _current(self, path: str, status: os.stat_result) -> _Known | None:
        """Return what is known about a file in its present state."""
        known = self._known.get(path)
        if known is None and (line := self._lines.pop(path, None)) is not None:
            known = _parsed(line)
            if known is not None:
                self._known[path] = known
        return known if known is not None and known.state == _state(status) else None

    def _read(self, path: str, read: Callable[[], T], name: str) -> T:
        """Read a property of a file; keep it if the file did not change meanwhile."""
        began = time.time_ns()
        before = _status(self._folder + path)
        found = read()
        after = _status(self._folder + path)
        if before is not None and after is not None and _state(before) == _state(after):
            known = self._current(path, after) or _Known(state=_state(after))
            settled = began - max(after.st_mtime_ns, after.st_ctime_ns) > SETTLED
            with self._turn:
                changed: dict[str, Any] = {name: found, "settled": known.settled and settled}
                self._known[path] = replace(known, **changed)
                self._new[path] = None
        return found


def _stat(path: str) -> os.stat_result:
    """Return the status of a file, or of the shard that contains it."""
    row = row_in_shard(path)
    return os.stat(path if row is None else row[0])


def _status(path: str) -> os.stat_result | None:
    try:
        status = _stat(path)
    except OSError:
        return None
    return status if stat.S_ISREG(status.st_mode) else None


def _state(status: os.stat_result) -> _State:
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


def _is_plain(path: str) -> bool:
    """Return whether a path fits in a line."""
    return path.isprintable()


def _line(path: str, known: _Known) -> bytes:
    header = known.header
    described: tuple[int | str, ...] = ("",) * 5
    if header is not None:
        numbers = (header.num_samples, header.sampling_rate, header.num_channels, int(header.ends_early))
        described = (*numbers, header.decoder)
    content = "\t".join(map(str, (*known.state, known.sha256, *described, path))).encode()
    return b"%08x\t%s\n" % (zlib.crc32(content), content)


def _parsed(line: bytes) -> _Known | None:
    """Return what a line says; None if it is damaged."""
    try:
        checksum, _, content = line.rstrip(b"\n").partition(b"\t")
        if int(checksum, 16) != zlib.crc32(content):
            return None
        size, mtime, ctime, inode, sha256, samples, rate, channels, early, decoder, _ = content.decode().split("\t")
        header = None
        if samples:
            header = Header(
                num_samples=int(samples),
                sampling_rate=int(rate),
                num_channels=int(channels),
                ends_early=early == "1",
                decoder=sys.intern(decoder),
            )
            if header.num_samples < 0 or header.sampling_rate < LOWEST_RATE or header.num_channels <= 0:
                return None
        return _Known(state=(int(size), int(mtime), int(ctime), int(inode)), sha256=sha256, header=header)
    except ValueError:
        return None


def _first_line() -> bytes:
    """Return the line with the versions of this file and of the decoders, which count the samples of some files."""
    import soundfile

    with suppress(PackageNotFoundError):
        return f"featcache {_VERSION} libsndfile {soundfile.__libsndfile_version__} PyAV {version('av')}\n".encode()
    return f"featcache {_VERSION} libsndfile {soundfile.__libsndfile_version__}\n".encode()


def _read(memory: Path) -> tuple[dict[str, bytes], float]:
    """Return path → line, and the number of superfluous lines; infinite if the memory exists and cannot be used."""
    try:
        if os.stat(memory).st_size > _MOST_BYTES:
            return {}, math.inf
        first, *lines = read_regular(memory).split(b"\n")
    except FileNotFoundError:
        return {}, 0
    except OSError:
        return {}, math.inf
    if first != _first_line().rstrip(b"\n"):
        return {}, math.inf
    found = {line[line.rfind(b"\t") + 1 :].decode(errors="replace"): line + b"\n" for line in lines if line}
    return found, len(lines) - len(found)


def _append(memory: Path, content: bytes) -> None:
    """Append lines to the memory; a link is not followed, because the folder may come from other people."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    descriptor = os.open(memory, flags | getattr(os, "O_BINARY", 0), 0o666)
    try:
        status = os.fstat(descriptor)
        if stat.S_ISREG(status.st_mode):
            # The line break ends a line that another process could not write completely.
            os.write(descriptor, b"\n" + content if status.st_size else _first_line() + content)
    finally:
        os.close(descriptor)
