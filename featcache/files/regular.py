"""Reading regular files alone, and writing so that an unfinished file never looks finished.

What is written has a temporary name, is flushed to disk, and is then renamed.
"""

import csv
import errno
import glob
import hashlib
import os
import shutil
import stat
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from io import BufferedReader
from pathlib import Path
from typing import Any, TextIO

from featcache.files.disk import remove, writing

_KINDS = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}


def open_regular(path: str | os.PathLike[str]) -> BufferedReader:
    """Open a regular file for reading in binary mode.

    A named pipe would make the reader wait for a writer, and a device such as ``/dev/zero`` never ends. The kind of
    the file is checked after it is opened, so that nothing can take its place in between.

    Raises:
        OSError: the file cannot be opened, or is not a regular file; ``strerror`` says which.
    """
    file = open(path, "rb", opener=_open_without_waiting)  # noqa: SIM115, the caller closes it
    try:
        mode = os.fstat(file.fileno()).st_mode
        if not stat.S_ISREG(mode):
            kind = _KINDS.get(stat.S_IFMT(mode), "something else")
            raise OSError(errno.EINVAL, f"expected a regular file, found {kind}", str(path))
    except BaseException:
        file.close()
        raise
    return file


def _open_without_waiting(path: str, flags: int) -> int:
    try:
        # Windows has neither flag, and no named pipes among its files.
        return os.open(path, flags | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0))
    except OSError as error:
        if error.errno == errno.ENXIO:
            raise OSError(errno.EINVAL, "expected a regular file, found a socket or a device", path) from error
        raise


def read_regular(path: str | os.PathLike[str], at_most: int = -1) -> bytes:
    """Read a regular file, or so many bytes from its beginning.

    Raises:
        OSError: as of :func:`open_regular`.
    """
    with open_regular(path) as file:
        return file.read(at_most)


def resolved(path: str | os.PathLike[str]) -> Path:
    """A path without links; of links that lead in a circle, one that cannot be opened (``Path.resolve`` may raise)."""
    return Path(os.path.realpath(path))


def is_hidden(name: str) -> bool:
    """Check whether a file or folder is hidden, or is what macOS adds to archives and foreign disks."""
    return name.startswith(".") or name == "__MACOSX"


def is_left_by_macos(path: str) -> bool:
    """Check whether a path names a file that macOS adds beside the user's own: ``._a.wav``, ``__MACOSX/a.wav``."""
    *folders, name = path.replace("\\", "/").split("/")
    return name.startswith("._") or name == ".DS_Store" or "__MACOSX" in folders


@contextmanager
def temporary_beside(path: str | os.PathLike[str], kept: str = "") -> Iterator[Path]:
    """Give a temporary path beside ``path``; it is removed in the end, unless it got another name.

    The arguments and errors are those of :func:`replacing`.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")  # unique among machines too
    with writing(path, kept):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
        finally:
            with suppress(OSError):  # what went wrong before tells more
                temporary.unlink(missing_ok=True)


@contextmanager
def replacing(path: str | os.PathLike[str], kept: str = "") -> Iterator[Path]:
    """Give a temporary path beside ``path``; on success it takes the place of ``path``, on failure it is removed.

    Args:
        path: The file.
        kept: What the reader of an error must know beside it, such as what is safe.

    Raises:
        DiskError: the file cannot be written.
    """
    path = Path(path)
    with temporary_beside(path, kept) as temporary:
        yield temporary
        _sync_file(temporary)
        os.replace(temporary, path)
        _sync_folder(path.parent)


def name_exclusively(temporary: Path, path: Path) -> bool:
    """Give a whole file its name, unless a file has that name already; at most one of several processes succeeds.

    A hard link fails where the name exists. Where there are no hard links, the processes first create an empty file in
    turn whose existence says that somebody takes the name.

    Returns:
        Whether it has the name now; else the name is taken, and nothing has changed.
    """
    _sync_file(temporary)
    try:
        os.link(temporary, path)
    except FileExistsError:
        return False
    except OSError:
        if not _claim(temporary, path):
            return False
    _sync_folder(path.parent)
    return True


def _claim(temporary: Path, path: Path) -> bool:
    claim = path.with_name(f".{path.name}.claim.tmp")
    try:
        os.close(os.open(claim, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    except FileExistsError:
        return False
    try:
        if os.path.lexists(path):
            return False
        os.replace(temporary, path)
        return True
    finally:
        claim.unlink(missing_ok=True)


def replace_file(path: str | os.PathLike[str], content: bytes, kept: str = "") -> None:
    """Write a whole file, or leave the one that is there as it was; the arguments are those of :func:`replacing`."""
    with replacing(path, kept) as temporary:
        temporary.write_bytes(content)


def link_or_copy(source: Path, target: Path, kept: str = "") -> None:
    """Give a file that never changes a second, new name; as a copy of it where a hard link cannot be.

    Args:
        source: The file.
        target: Its new name.
        kept: As for :func:`replacing`.

    Raises:
        FileExistsError: there is a file of that name.
        DiskError: it cannot be written.
    """
    try:
        os.link(source, target)
    except FileExistsError:
        raise
    except OSError:  # another file system, or one without hard links
        with temporary_beside(target, kept) as temporary:
            shutil.copyfile(source, temporary)
            taken = not name_exclusively(temporary, target)
        if taken:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target)) from None
    else:
        _sync_folder(target.parent)


def remove_unfinished(folder: Path, name: str | None = None) -> None:
    """Remove what processes that were killed inside :func:`replacing` left; nobody may be writing there.

    Args:
        folder: Where.
        name: Of the file that they were writing; None is any.
    """
    of_name = "*" if name is None else f"{glob.escape(name)}.{'[0-9a-f]' * 32}"
    for path in folder.glob(f".{of_name}.tmp"):
        remove(path)


class CsvRows:
    r"""Rows of a CSV file that are read back as they were: a field with a line break of any kind is quoted.

    Python's ``csv`` quotes a lone ``\r`` only where rows end in ``\r\n``; here they end in ``\n`` all the same.

    Args:
        file: Opened with ``newline=""``.
    """

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._writer = csv.writer(self, lineterminator="\r\n")

    def add(self, rows: Iterable[Iterable[Any]]) -> None:
        """Write rows."""
        self._writer.writerows(rows)

    def write(self, row: str) -> int:
        """Write one row as ``csv`` has made it."""
        return self._file.write(row.removesuffix("\r\n") + "\n")


def sha256_of_file(path: str | os.PathLike[str]) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync_file(path: Path) -> None:
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:  # Windows cannot open a folder
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EBADF, errno.ENOTSUP):  # some file systems sync files alone
            raise
    finally:
        os.close(descriptor)
