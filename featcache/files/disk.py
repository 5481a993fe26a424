"""Errors of the operating system for files → errors of one line with the file, the reason and advice."""

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from featcache.errors import DiskError, FeatcacheError

READ_ONLY = (errno.EROFS, errno.EACCES, errno.EPERM)
_FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))
_NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS)
_IN_THE_WAY = (errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.ENOTEMPTY, errno.ELOOP)
_REST = "then run the same command again to continue"
_ADVICE = {
    **dict.fromkeys(READ_ONLY, "allow writing there, or move the data folder and set FEATCACHE_HOME to it"),
    **dict.fromkeys(_FULL, f"free disk space, {_REST}"),
    **dict.fromkeys(_IN_THE_WAY, "rename or remove it"),
    errno.EFBIG: f"raise the limit on the size of files ('ulimit -f unlimited'), {_REST}",
    errno.EMFILE: f"raise the limit on open files ('ulimit -n 4096'), {_REST}",
    errno.ENFILE: f"close other programs, {_REST}",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.EIO: f"check the disk, {_REST}",
    getattr(errno, "ESTALE", errno.EIO): f"mount the network disk again, {_REST}",
    **dict.fromkeys(_NO_LOCKS, "move the data folder to a file system with locks, and set FEATCACHE_HOME to it"),
}


@contextmanager
def writing(path: str | os.PathLike[str], kept: str = "") -> Iterator[None]:
    """Convert errors of the operating system in the ``with`` block, which writes a file or folder, to a DiskError.

    Args:
        path: File or folder that the block writes.
        kept: Further information for the message, for example which results are safe.

    Raises:
        DiskError: the disk is full, read-only or disconnected, a limit is reached, or the name is already used by
            another kind of file.
    """
    try:
        yield
    except FeatcacheError:  # Some of them are also OSErrors.
        raise
    except OSError as error:
        if error.errno is None:  # The error does not come from the operating system.
            raise
        raise refused(path, error, "written", kept) from error


@contextmanager
def reading(path: str | os.PathLike[str]) -> Iterator[None]:
    """Convert errors of the operating system in the ``with`` block, which reads a file or folder, to a DiskError."""
    try:
        yield
    except FeatcacheError:
        raise
    except OSError as error:
        if error.errno is None:
            raise
        raise refused(path, error, "read") from error


@contextmanager
def writing_tensors() -> Iterator[None]:
    """Convert errors of the operating system in the ``with`` block, which safetensors reports, to an OSError.

    An error of safetensors has the number of the error only in its message.
    """
    from safetensors import SafetensorError

    try:
        yield
    except SafetensorError as error:
        found = re.search(r"\(os error (\d+)\)", str(error))
        if found is None:
            raise
        raise OSError(int(found[1]), os.strerror(int(found[1]))) from error


@contextmanager
def disk_errors(folder: str | os.PathLike[str]) -> Iterator[None]:
    """Convert errors about the disk in the ``with`` block, which is a whole task, to a DiskError.

    Other errors stay as they are, because they may be bugs.

    Args:
        folder: Folder that the task writes to, for errors that name no file.

    Raises:
        DiskError: the error has advice, see :func:`is_told`.
    """
    try:
        yield
    except FeatcacheError:
        raise
    except OSError as error:
        if not is_told(error):
            raise
        where = error.filename if isinstance(error.filename, str | os.PathLike) else folder
        raise refused(where, error, "written") from error


def refused(path: str | os.PathLike[str], error: OSError, what: str, kept: str = "") -> DiskError:
    """Return the error of one line for an error of the operating system.

    Args:
        path: File or folder that was written, read or locked.
        error: Error of the operating system.
        what: ``written``, ``read`` or ``locked``.
        kept: Further information for the message.
    """
    reason = error.strerror or str(error) or type(error).__name__
    if error.errno in _IN_THE_WAY:
        other = next((p for p in (Path(path), *Path(path).parents) if p.exists() or p.is_symlink()), Path(path))
        kind = "a link" if other.is_symlink() else "a folder" if other.is_dir() else "a file"
        reason = f"{other} is {kind}"
    advice = _ADVICE.get(error.errno or 0, f"check the disk, {_REST}")
    return DiskError(f"{path} could not be {what} ({reason}); {kept + ': ' if kept else ''}{advice}")


def is_told(error: OSError) -> bool:
    """Check whether an error is about the machine, such as a full disk, and not a bug of the program."""
    return error.errno in _ADVICE


def is_read_only(error: DiskError) -> bool:
    """Check whether an error says that a place cannot be written at all, although it may be readable."""
    return isinstance(error.__cause__, OSError) and error.__cause__.errno in READ_ONLY


def remove(path: Path) -> None:
    """Remove a file, if it exists.

    Raises:
        DiskError: the file cannot be removed.
    """
    with writing(path):
        path.unlink(missing_ok=True)
