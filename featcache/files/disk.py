"""What a disk refuses, or a file holds in place of what it should → one line: what, where, and what to do."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from featcache.errors import DiskError, FeatcacheError

READ_ONLY = (errno.EROFS, errno.EACCES, errno.EPERM)
_FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))
_NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS)
_IN_THE_WAY = (errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.ENOTEMPTY, errno.ELOOP)
_REST = "and the same command does the rest"
_ADVICE = {
    **dict.fromkeys(READ_ONLY, "allow it there, or move the data folder and name it in FEATCACHE_HOME"),
    **dict.fromkeys(_FULL, f"make room, {_REST}"),
    **dict.fromkeys(_IN_THE_WAY, "rename or remove what has this name"),
    errno.EFBIG: f"raise the limit on the size of files ('ulimit -f unlimited'), {_REST}",
    errno.EMFILE: f"raise the limit on open files ('ulimit -n 4096'), {_REST}",
    errno.ENFILE: f"close other programs, {_REST}",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.EIO: f"check the disk, {_REST}",
    getattr(errno, "ESTALE", errno.EIO): f"mount the network disk again, {_REST}",
    **dict.fromkeys(_NO_LOCKS, "move the data folder to a file system with locks, and name it in FEATCACHE_HOME"),
}


@contextmanager
def writing(path: str | os.PathLike[str], kept: str = "") -> Iterator[None]:
    """Have what the system refuses while a file or folder is written be an error of one line.

    Args:
        path: What is written.
        kept: What the reader must know beside it, such as what is safe.

    Raises:
        DiskError: the disk is full, read-only or cut off, a limit is reached, or something else has this name.
    """
    try:
        yield
    except FeatcacheError:  # some are OSErrors too
        raise
    except OSError as error:
        if error.errno is None:  # not the system's
            raise
        raise refused(path, error, "written", kept) from error


@contextmanager
def reading(path: str | os.PathLike[str]) -> Iterator[None]:
    """As :func:`writing`, of what is read."""
    try:
        yield
    except FeatcacheError:
        raise
    except OSError as error:
        if error.errno is None:
            raise
        raise refused(path, error, "read") from error


@contextmanager
def disk_errors(folder: str | os.PathLike[str]) -> Iterator[None]:
    """As :func:`writing`, of a whole task: errors that do not tell of the machine stay as they are.

    Args:
        folder: What is written to, for errors that name no file.
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
    """The error of one line for what the system said.

    Args:
        path: What was written, read or locked.
        error: What the system said.
        what: ``written``, ``read`` or ``locked``.
        kept: What the reader must know beside it.
    """
    reason = error.strerror or str(error) or type(error).__name__
    if error.errno in _IN_THE_WAY:
        other = next((p for p in (Path(path), *Path(path).parents) if p.exists() or p.is_symlink()), Path(path))
        kind = "a link" if other.is_symlink() else "a folder" if other.is_dir() else "a file"
        reason = f"{other} is {kind}"
    advice = _ADVICE.get(error.errno or 0, f"check the disk, {_REST}")
    return DiskError(f"{path} could not be {what} ({reason}); {kept + ': ' if kept else ''}{advice}")


def is_told(error: OSError) -> bool:
    """Whether the system tells by this error of the machine, and not of a mistake in the program."""
    return error.errno in _ADVICE


def is_read_only(error: DiskError) -> bool:
    """Whether the place may not be written at all: what is there can still be read."""
    return isinstance(error.__cause__, OSError) and error.__cause__.errno in READ_ONLY


def remove(path: Path) -> None:
    """Remove a file, if it is there."""
    with writing(path):
        path.unlink(missing_ok=True)
