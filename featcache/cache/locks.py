"""Folder of a store → lock, so that only one process, or the parts of one extraction, write it at a time."""

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

from featcache.errors import DiskError
from featcache.files.locks import FOREVER, held
from featcache.files.regular import remove_unfinished

# Longest wait for another process that is taking its lock, which takes some milliseconds.
BEGINNING_SECONDS = 60.0


@contextmanager
def locked(folder: Path, part: tuple[int, int] = (0, 1)) -> Iterator[None]:
    """Lock a part of a store; a part and the whole store cannot be locked at the same time.

    Args:
        folder: Folder of the store; created if it is missing.
        part: Index of the part, and number of parts.

    Raises:
        StoreError: another process is writing the store.
        DiskError: the folder cannot be written, or its file system has no locks.
    """
    index, of = part
    taken = f"{folder} is being written by another process; wait for it to end"
    with ExitStack() as stack:
        # One process at a time: two that test for locks at the same time would refuse each other.
        with held(folder / ".lock-begin", taken, wait=BEGINNING_SECONDS):
            stack.enter_context(held(folder / (".lock" if of == 1 else f".lock-{index}-of-{of}"), taken))
            for other in folder.glob(".lock-*-of-*" if of == 1 else ".lock"):
                with held(other, taken):
                    pass
            if of == 1:
                remove_unfinished(folder)
        yield


def lock_if_writable(stack: ExitStack, folders: Iterable[Path], part: tuple[int, int] = (0, 1)) -> DiskError | None:
    """Lock stores until the stack is closed.

    Returns:
        The error if a store cannot be written; the caller raises it only if something has to be written.

    Raises:
        StoreError: another process is writing a store.
    """
    try:
        for folder in folders:
            stack.enter_context(locked(folder, part))
    except DiskError as error:
        return error
    return None


def finishing(folder: Path) -> AbstractContextManager[None]:
    """Return a lock under which parts that end at the same time write failures and index one after the other."""
    return held(folder / ".lock-finish", f"{folder} is being finished by another process", wait=FOREVER)
