"""Reading of regular files only, and writing so that an unfinished file never looks finished.

A new file first has a temporary name, is flushed to disk, and is then renamed.
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

from featcache.errors import DiskError
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
    file is checked after opening, so that the file cannot be replaced in between.

    Raises:
        OSError: the file cannot be opened, or is not a regular file; ``strerror`` gives the reason.
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
        # Windows has neither of these flags, and its named pipes are not files.
        return os.open(path, flags | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0))
    except OSError as error:
        if error.errno == errno.ENXIO:
            raise OSError(errno.EINVAL, "expected a regular file, found a socket or a device", path) from error
        raise


def read_regular(path: str | os.PathLike[str], at_most: int = -1) -> bytes:
    """Read a regular file, or the beginning of it.

    Args:
        path: File.
        at_most: Maximum number of bytes; -1 reads the whole file.

    Raises:
        OSError: see :func:`open_regular`.
    """
    with open_regular(path) as file:
        return file.read(at_most)


def read_beginning(path: str, at_most: int) -> tuple[bytes, int]:
    """Return the first bytes of a regular file, and its size; faster than :func:`open_regular` for many small files.

    Args:
        path: File.
        at_most: Maximum number of bytes.

    Raises:
        OSError: the file cannot be opened or read, or is not a regular file.
    """
    descriptor = _open_without_waiting(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "expected a regular file", path)
        return os.read(descriptor, at_most), status.st_size
    finally:
        os.close(descriptor)


def resolved(path: str | os.PathLike[str]) -> Path:
    """Return a path without symbolic links. For circular links it cannot be opened; ``Path.resolve`` may raise."""
    return Path(os.path.realpath(path))


def places_of_files(folder: Path) -> list[Path]:
    """Return the folders to which files of a folder may link: itself, and the blobs of its repository.

    In a cache of the Hugging Face hub, the files of a snapshot link to the blobs of the same repository.
    """
    home = resolved(folder)
    snapshots = (one.parent for one in (home, *home.parents) if one.parent.name == "snapshots")
    return [home, *(one.parent / "blobs" for one in list(snapshots)[:1])]


def is_hidden(name: str) -> bool:
    """Check whether a file or folder is hidden, or is the folder that macOS adds to archives and foreign disks."""
    return name.startswith(".") or name == "__MACOSX"


def is_left_by_macos(path: str) -> bool:
    """Check whether a path is a file that macOS adds to the files of the user: ``._a.wav``, ``__MACOSX/a.wav``."""
    *folders, name = path.replace("\\", "/").split("/")
    return name.startswith("._") or name == ".DS_Store" or "__MACOSX" in folders


@contextmanager
def temporary_beside(path: str | os.PathLike[str], kept: str = "") -> Iterator[Path]:
    """Yield a temporary path in the folder of ``path``; it is removed at the end, unless it was renamed.

    The arguments and errors are the same as in :func:`replacing`.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")  # The name is unique across machines.
    with writing(path, kept):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
        finally:
            with suppress(OSError):  # An earlier error is more informative.
                temporary.unlink(missing_ok=True)


@contextmanager
def replacing(path: str | os.PathLike[str], kept: str = "") -> Iterator[Path]:
    """Yield a temporary path in the folder of ``path``; on success it replaces ``path``, on failure it is removed.

    Args:
        path: File to write; a missing folder is created.
        kept: Further information for an error message, for example which results are safe.

    Raises:
        DiskError: the file cannot be written.
    """
    path = Path(path)
    with temporary_beside(path, kept) as temporary:
        _check_replaceable(path)
        yield temporary
        _sync_file(temporary)
        os.replace(temporary, path)
        _sync_folder(path.parent)


def _check_replaceable(path: Path) -> None:
    """Check that a path is no device or pipe: the rename would remove it, and root may do so with ``/dev/null``.

    Raises:
        DiskError: the path is a device, a named pipe or a socket, or a name in ``/dev``, such as ``/dev/stdout``.
    """
    with suppress(FileNotFoundError):
        kind = _KINDS.get(stat.S_IFMT(os.stat(path).st_mode))
        if kind is None and resolved(path.parent) == Path("/dev"):
            kind = "a device"
        if kind is not None:
            raise DiskError(f"{path} is {kind}, which cannot be replaced by a file; give the name of a file")


def name_exclusively(temporary: Path, path: Path) -> bool:
    """Give a finished file its name, unless a file of this name exists; at most one of several processes succeeds.

    A hard link fails if the name exists. Without hard links, each process first tries to create an empty file whose
    existence means that some process is taking the name.

    Args:
        temporary: Finished file with a temporary name.
        path: New name.

    Returns:
        True if the file has the name now; False if the name was taken and nothing changed.
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
    """Write a whole file, or leave the existing file unchanged if writing fails.

    Args:
        path: File to write; a missing folder is created.
        content: Content of the file.
        kept: Further information for an error message, for example which results are safe.

    Raises:
        DiskError: the file cannot be written.
    """
    with replacing(path, kept) as temporary:
        temporary.write_bytes(content)


def link_or_copy(source: Path, target: Path, kept: str = "") -> None:
    """Give a file that never changes a second name, by a hard link or, if that is impossible, by a copy.

    Args:
        source: Existing file.
        target: New name.
        kept: Further information for an error message, for example which results are safe.

    Raises:
        FileExistsError: a file of the new name exists.
        DiskError: the file cannot be written.
    """
    try:
        os.link(source, target)
    except FileExistsError:
        raise
    except OSError:  # The target is on another file system, or there are no hard links.
        with temporary_beside(target, kept) as temporary:
            shutil.copyfile(source, temporary)
            taken = not name_exclusively(temporary, target)
        if taken:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target)) from None
    else:
        _sync_folder(target.parent)


def remove_unfinished(folder: Path, name: str | None = None) -> None:
    """Remove temporary files of processes that were killed inside :func:`replacing`.

    No other process may be writing there at the same time.

    Args:
        folder: Folder to search.
        name: Name of the final file; None removes the temporary files of all files.
    """
    of_name = "*" if name is None else f"{glob.escape(name)}.{'[0-9a-f]' * 32}"
    for path in folder.glob(f".{of_name}.tmp"):
        remove(path)


class CsvRows:
    r"""Writer of CSV rows that quotes every field with a line break, so that all fields are read back unchanged.

    Python's ``csv`` quotes a single ``\r`` only if rows end with ``\r\n``; here rows nevertheless end with ``\n``.

    Args:
        file: Text file, opened with ``newline=""``.
    """

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._writer = csv.writer(self, lineterminator="\r\n")

    def add(self, rows: Iterable[Iterable[Any]]) -> None:
        """Write rows."""
        self._writer.writerows(rows)

    def write(self, row: str) -> int:
        r"""Write one row that ``csv`` has formatted, with the line end ``\n``."""
        return self._file.write(row.removesuffix("\r\n") + "\n")


def sha256_of_file(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of the bytes of a file, in hexadecimal."""
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync_file(path: Path) -> None:
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:  # Windows cannot open folders.
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EBADF, errno.ENOTSUP):  # Some file systems only sync files.
            raise
    finally:
        os.close(descriptor)
