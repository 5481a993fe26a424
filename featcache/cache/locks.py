"""Who may write a store: one process, or the parts of one extraction; never two with the same shards in mind."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from featcache.errors import StoreError
from featcache.files import remove_unfinished


@contextmanager
def locked(folder: Path, part: tuple[int, int] = (0, 1)) -> Iterator[None]:
    """Keep other processes from writing the same part, and parts and the whole from being written together.

    Args:
        folder: The store; made when missing.
        part: Index and number of the parts.

    Raises:
        StoreError: another process is writing.
    """
    import filelock

    index, of = part
    folder.mkdir(parents=True, exist_ok=True)
    own = folder / (".lock" if of == 1 else f".lock-{index}-of-{of}")
    try:
        with filelock.FileLock(own, timeout=0):
            for other in folder.glob(".lock-*-of-*" if of == 1 else ".lock"):
                with filelock.FileLock(other, timeout=0):
                    pass
            if of == 1:
                remove_unfinished(folder)
            yield
    except filelock.Timeout:
        raise StoreError(f"{folder} is being written by another process; wait for it to end") from None


def finishing(folder: Path) -> AbstractContextManager[object]:
    """Let parts that end at the same time list their failures and write the index in turn."""
    import filelock

    return filelock.FileLock(folder / ".lock-finish")
