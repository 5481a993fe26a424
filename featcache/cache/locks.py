"""Who may write a store: one process, or the parts of one extraction; never two with the same shards in mind."""

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

from featcache.errors import DiskError
from featcache.files.locks import FOREVER, held
from featcache.files.regular import remove_unfinished

# Whoever begins looks for others for some milliseconds.
BEGINNING_SECONDS = 60.0


@contextmanager
def locked(folder: Path, part: tuple[int, int] = (0, 1)) -> Iterator[None]:
    """Keep other processes from writing the same part, and parts and the whole from being written together.

    Args:
        folder: The store; made when missing.
        part: Index and number of the parts.

    Raises:
        StoreError: another process is writing.
        DiskError: the folder cannot be written, or its file system has no locks.
    """
    index, of = part
    taken = f"{folder} is being written by another process; wait for it to end"
    with ExitStack() as stack:
        # one after the other: two that look for others' locks at the same time would take each other for these
        with held(folder / ".lock-begin", taken, wait=BEGINNING_SECONDS):
            stack.enter_context(held(folder / (".lock" if of == 1 else f".lock-{index}-of-{of}"), taken))
            for other in folder.glob(".lock-*-of-*" if of == 1 else ".lock"):
                with held(other, taken):
                    pass
            if of == 1:
                remove_unfinished(folder)
        yield


def lock_if_writable(stack: ExitStack, folders: Iterable[Path], part: tuple[int, int] = (0, 1)) -> DiskError | None:
    """Lock stores until the stack is closed; return what keeps one from being written: perhaps nothing is to be."""
    try:
        for folder in folders:
            stack.enter_context(locked(folder, part))
    except DiskError as error:
        return error
    return None


def finishing(folder: Path) -> AbstractContextManager[None]:
    """Let parts that end at the same time list their failures and write the index in turn."""
    return held(folder / ".lock-finish", f"{folder} is being finished by another process", wait=FOREVER)
