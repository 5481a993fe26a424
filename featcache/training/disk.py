"""Errors of a disk while runs are trained and written → one line: what is wrong with it, and what to do."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from featcache.errors import FeatcacheError, StoreError

_WRITABLE = "give the folder to your user, or take another one with $FEATCACHE_HOME"
# By name, because not every system has each of them.
_REMEDIES = {
    "ENOSPC": "make room on the disk",
    "EDQUOT": "make room, or ask for more",
    "EFBIG": "raise the limit on the size of files (ulimit -f)",
    "EROFS": _WRITABLE,
    "EACCES": _WRITABLE,
    "EPERM": _WRITABLE,
    "EIO": "check the disk",
    "ESTALE": "check the network disk",
    "ENOTDIR": "remove the file that stands where a folder is expected",
    "EISDIR": "remove the folder that stands where a file is expected",
}
REMEDIES = {getattr(errno, name): remedy for name, remedy in _REMEDIES.items() if hasattr(errno, name)}


@contextmanager
def disk_errors(folder: Path) -> Iterator[None]:
    """Tell errors of the disk in one line.

    Args:
        folder: What is written to, for errors that name no file.

    Raises:
        StoreError: in place of such an ``OSError``, also of one that another process raised.
    """
    try:
        yield
    except FeatcacheError:
        raise
    except OSError as error:
        remedy = REMEDIES.get(error.errno or 0)
        if remedy is None:
            raise
        where = error.filename if isinstance(error.filename, str | os.PathLike) else folder
        raise StoreError(f"{where}: {os.strerror(error.errno or 0)}; {remedy}") from error
