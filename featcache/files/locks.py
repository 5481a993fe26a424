"""Lock files. They stay after release, because otherwise two processes could lock two files of the same name."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from featcache.errors import StoreError
from featcache.files.disk import READ_ONLY, refused

if TYPE_CHECKING:
    from filelock import BaseFileLock

FOREVER = -1.0


@contextmanager
def held(path: Path, taken: str, *, wait: float = 0.0) -> Iterator[None]:
    """Hold a lock during the ``with`` block; the system also releases it when the process ends.

    Args:
        path: Lock file; a missing folder is created.
        taken: Error message if another process holds the lock.
        wait: Maximum time in seconds to wait for another process; or ``FOREVER``.

    Raises:
        StoreError: another process holds the lock.
        DiskError: the file cannot be created, or the file system has no locks.
    """
    lock = _acquire(path, taken, wait)
    try:
        yield
    finally:
        with suppress(OSError):  # The disk was disconnected; the work inside the block reports this itself.
            lock.release()


def _acquire(path: Path, taken: str, wait: float) -> "BaseFileLock":
    import filelock

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # A fallback for file systems without locks would leave its lock file behind when a process is killed.
        lock = filelock.FileLock(path, fallback_to_soft=False)
        lock.acquire(timeout=wait, poll_interval=0.02)
    except filelock.Timeout:
        raise StoreError(taken) from None
    except OSError as error:
        if error.errno in READ_ONLY:
            raise refused(path.parent, error, "written") from error
        raise refused(path, error, "locked") from error
    return lock
