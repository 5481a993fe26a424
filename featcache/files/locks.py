"""Lock files. They stay when a lock is released: of two processes, each could else hold a file of the same name."""

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
    """Hold a lock, which ends with the process at the latest.

    Args:
        path: The lock's file; its folder is made when missing.
        taken: What to say when another process holds the lock.
        wait: For so many seconds, when another process holds it; or ``FOREVER``.

    Raises:
        StoreError: another process holds it.
        DiskError: the file cannot be made, or the file system has no locks.
    """
    lock = _acquire(path, taken, wait)
    try:
        yield
    finally:
        with suppress(OSError):  # of a disk that was cut off; what was done under the lock tells
            lock.release()


def _acquire(path: Path, taken: str, wait: float) -> "BaseFileLock":
    import filelock

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # a file that stands for a lock, where there are none, would outlive a process that is killed
        lock = filelock.FileLock(path, fallback_to_soft=False)
        lock.acquire(timeout=wait, poll_interval=0.02)
    except filelock.Timeout:
        raise StoreError(taken) from None
    except OSError as error:
        if error.errno in READ_ONLY:
            raise refused(path.parent, error, "written") from error
        raise refused(path, error, "locked") from error
    return lock
