"""Archive from anybody → files below one new folder.

Only regular files and folders are written, each of them once, below the folder. Names that lead out of it, links,
devices, encrypted files, and archives that unpack to far more bytes than they have are refused. Modes and owners of the
archive are not used.
"""

import gzip
import lzma
import re
import shutil
import stat
import struct
import tarfile
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any

from featcache.errors import CorpusError, DiskError, StoreError
from featcache.files.disk import writing
from featcache.files.regular import is_hidden, link_or_copy, open_regular
from featcache.units import format_bytes
from featcache.workspace import check_name

# Limits: bytes after unpacking as a multiple of those of the archive, and in addition; number of entries, bytes of a
# path, and bytes that tarfile may read at once, because the length of a header comes from the archive. Speech shrinks
# to a half or a third.
_MOST_TIMES, _MOST_MORE = 20, 2**24
_MOST_ENTRIES, _LONGEST_PATH, _MOST_AT_ONCE = 500_000, 1000, 2**22
_PIECE = 2**20
_DAMAGES = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    OSError,
    OverflowError,
    ValueError,
    NotImplementedError,
)


class _RefusedError(Exception):
    """The archive is refused; the message says why."""


@dataclass(frozen=True, kw_only=True)
class _Entry:
    """A file or folder of an archive, its size in bytes, and a function that opens it; None for a folder."""

    name: str
    size: int
    opened: Callable[[], IO[bytes]] | None


class Unpacking:
    """Files of one or several archives below one folder.

    Args:
        root: Empty folder, in which nobody else writes.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._kinds: dict[str, tuple[str, bool]] = {}
        self._files: set[str] = set()
        self._entries = 0

    def add(self, path: Path, folder: str = "") -> None:
        """Unpack an archive, or add another file as it is.

        Args:
            path: ``.zip``, ``.tar``, ``.tar.gz``, ``.tgz``, ``.tar.xz``, or any other file.
            folder: Folder below the root into which it is put; empty for the root itself.

        Raises:
            CorpusError: the archive is damaged, or contains something that is refused.
            DiskError: the files cannot be written, or the disk has too little space.
        """
        name = path.name.lower()
        try:
            if name.endswith(".zip"):
                self._unpack(path, folder, _zip_entries(path))
            elif name.endswith((".tar", ".tar.gz", ".tgz", ".tar.xz")):
                self._unpack(path, folder, _tar_entries(path, _most_bytes(path)))
            else:
                link_or_copy(path, self._place("/".join(filter(None, [folder, path.name])), is_folder=False))
        except _RefusedError as error:
            raise CorpusError(f"{path.name}: {error}; nothing of it is kept") from error

    def _unpack(self, path: Path, folder: str, entries: Iterator[_Entry]) -> None:
        allowed = _most_bytes(path)
        written = 0
        for entry in _undamaged(entries):
            self._entries += 1
            if self._entries > _MOST_ENTRIES:
                raise _RefusedError(f"it has more than {_MOST_ENTRIES} entries")
            inner = _inner_path(entry.name)
            if inner is None:
                continue
            target = self._place("/".join(filter(None, [folder, inner])), is_folder=entry.opened is None)
            if entry.opened is None:
                continue
            if written + entry.size > allowed:
                raise _RefusedError(f"it unpacks to more than {format_bytes(allowed)}, far more than its own size")
            self._check_space(entry.size)
            written += _copy(entry.name, entry.size, entry.opened, target)

    def _check_space(self, size: int) -> None:
        free = shutil.disk_usage(self._root).free
        if size > free:
            raise DiskError(
                f"{self._root} cannot be written: {format_bytes(size)} are needed, {format_bytes(free)} are free; free "
                "disk space, then run the same command again to continue"
            )

    def _place(self, inner: str, *, is_folder: bool) -> Path:
        """Return the path of a new entry below the root, whose folders exist now."""
        parts = inner.split("/")
        for number in range(1, len(parts)):
            self._claim("/".join(parts[:number]), is_folder=True)
        self._claim(inner, is_folder=is_folder)
        path = self._root.joinpath(*parts)
        with writing(path):
            (path if is_folder else path.parent).mkdir(parents=True, exist_ok=True)
        return path

    def _claim(self, inner: str, *, is_folder: bool) -> None:
        """Refuse a second file of a name, also if only case or the encoding of accents differ."""
        key = unicodedata.normalize("NFC", inner).casefold()
        known, was_folder = self._kinds.setdefault(key, (inner, is_folder))
        if known != inner:
            raise _RefusedError(f"{_shown(inner)} and {_shown(known)} are one name on some systems")
        if (not is_folder and key in self._files) or was_folder != is_folder:
            raise _RefusedError(f"it contains {_shown(inner)} twice")
        if not is_folder:
            self._files.add(key)


def _most_bytes(path: Path) -> int:
    return _MOST_TIMES * path.stat().st_size + _MOST_MORE


def _shown(name: str) -> str:
    return repr(name if len(name) <= 100 else f"{name[:100]}…")


def _inner_path(name: str) -> str | None:
    """Return the path of an entry below the folder, or None for hidden files, which no corpus needs.

    Raises:
        _RefusedError: the name leads out of the folder, or some system does not accept it.
    """
    if "\\" in name or "\0" in name:
        raise _RefusedError(f"the name {_shown(name)} contains a backslash or a NUL character")
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or re.match(r"[A-Za-z]:", name) or ".." in parts:
        raise _RefusedError(f"the name {_shown(name)} leads out of the folder")
    if not parts or any(map(is_hidden, parts)):
        return None
    try:
        inner = "/".join(check_name("file", part, advice="unpack it by hand") for part in parts)
        if len(inner.encode()) <= _LONGEST_PATH:
            return inner
    except (StoreError, UnicodeEncodeError) as error:
        raise _RefusedError(str(error) if isinstance(error, StoreError) else f"{_shown(name)} is not text") from error
    raise _RefusedError(f"the name {_shown(name)} has more than {_LONGEST_PATH} bytes")


def _undamaged(entries: Iterator[_Entry]) -> Iterator[_Entry]:
    """Yield entries; damages of the archive become one line."""
    while True:
        try:
            entry = next(entries)
        except StopIteration:
            return
        except _DAMAGES as error:
            raise _RefusedError(_damage(error)) from error
        yield entry


def _damage(error: Exception) -> str:
    return f"it is no archive, or it is damaged ({str(error)[:150] or type(error).__name__})"


def _copy(name: str, size: int, opened: Callable[[], IO[bytes]], target: Path) -> int:
    """Write a file, and return its size in bytes."""
    done = 0
    try:
        source = opened()
    except _DAMAGES as error:
        raise _RefusedError(_damage(error)) from error
    with source, writing(target), open(target, "xb") as file:
        while True:
            try:
                piece = source.read(_PIECE)
            except _DAMAGES as error:
                raise _RefusedError(_damage(error)) from error
            if not piece:
                break
            done += len(piece)
            if done > size:
                break
            file.write(piece)
    if done != size:
        raise _RefusedError(f"it is damaged: {_shown(name)} has not the length that the archive lists")
    return done


def _zip_entries(path: Path) -> Iterator[_Entry]:
    with open_regular(path) as file, zipfile.ZipFile(file) as archive:
        for info in archive.infolist():
            name = info.orig_filename  # zipfile cuts names at a NUL character
            kind = stat.S_IFMT(info.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise _RefusedError(f"{_shown(name)} is a link or a device")
            if info.flag_bits & 1:
                raise _RefusedError(f"{_shown(name)} is encrypted")
            yield _Entry(name=name, size=info.file_size, opened=None if info.is_dir() else partial(archive.open, info))


def _tar_entries(path: Path, most: int) -> Iterator[_Entry]:
    with ExitStack() as stack:
        file: Any = stack.enter_context(open_regular(path))
        name = path.name.lower()
        if name.endswith((".gz", ".tgz")):
            file = stack.enter_context(gzip.GzipFile(fileobj=file))
        elif name.endswith(".xz"):
            file = stack.enter_context(lzma.LZMAFile(file))
        stream = _Bounded(file, most)
        archive = stack.enter_context(tarfile.open(fileobj=stream, mode="r:"))  # type: ignore[call-overload]
        while (member := archive.next()) is not None:
            if not (member.isreg() or member.isdir()) or member.issparse():
                raise _RefusedError(f"{_shown(member.name)} is a link, a device or a sparse file")
            yield _Entry(
                name=member.name, size=member.size, opened=None if member.isdir() else partial(_member, archive, member)
            )
            archive.members = []  # tarfile would keep all entries in memory
        while stream.read(_PIECE):  # The checksum of a compressed file is at its end.
            pass


def _member(archive: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    file = archive.extractfile(member)
    if file is None:
        raise tarfile.ReadError("no content")
    return file


class _Bounded:
    """A file for tarfile, with a limit of all bytes that can be read, and of bytes read at once."""

    def __init__(self, file: Any, most: int) -> None:
        self._file = file
        self._most = most

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _MOST_AT_ONCE:
            raise _RefusedError("it is damaged: a header is too long")
        found: bytes = self._file.read(size)
        if self._file.tell() > self._most:
            raise _RefusedError(f"it unpacks to more than {format_bytes(self._most)}, far more than its own size")
        return found

    def seek(self, position: int) -> int:
        if position > self._most:
            raise _RefusedError(f"it unpacks to more than {format_bytes(self._most)}, far more than its own size")
        return int(self._file.seek(position))

    def tell(self) -> int:
        return int(self._file.tell())
