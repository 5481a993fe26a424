"""What a disk refuses, or a file holds in place of what it should → one line: what, where, and what to do."""

import errno
import json
import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from featcache.errors import DiskError, FeatcacheError, StoreError

T = TypeVar("T")

# No file of featcache's is nested half as deeply.
MOST_LEVELS = 40
TOO_DEEP = "values nested too deeply"

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


def read_json(path: Path, expected: type[T], hint: str) -> T:
    """Read a JSON file whose outermost value is of one type, whoever wrote it.

    Args:
        path: The file.
        expected: ``dict`` or ``list``.
        hint: What to do when it is damaged.

    Raises:
        StoreError: the file is missing, cannot be read, is no JSON, is nested too deeply, or is of another type.
    """
    from featcache.files.regular import read_regular  # which imports this module

    with reading(path):
        content = read_regular(path)
    return parse_json(content, expected, path, hint)


def parse_json(content: bytes, expected: type[T], where: object, hint: str) -> T:
    """As :func:`read_json`, of bytes that were read already from ``where``."""
    try:
        found = json.loads(content.decode())
    except RecursionError as error:
        raise damaged(where, TOO_DEEP, hint) from error
    except ValueError as error:
        raise damaged(where, f"cannot be read as JSON: {error}", hint) from error
    return checked(found, expected, where, hint)


def checked(found: object, expected: type[T], where: object, hint: str) -> T:
    """A value that was read from a file, if it is of the type that the file should hold, and not nested too deeply."""
    if not isinstance(found, expected) or (isinstance(found, bool) and expected is not bool):
        raise damaged(where, f"expected {_told(expected)}, found {_told(type(found))}", hint)
    if _is_deep(found):
        raise damaged(where, TOO_DEEP, hint)
    return found


def check_types(
    found: Mapping[str, object],
    expected: Mapping[str, tuple[type, ...]],
    where: object,
    hint: str,
    required: Collection[str] = (),
) -> None:
    """Refuse a file whose values are not of the types that other code relies on.

    Args:
        found: What was read.
        expected: Name → types; a name that is not there is none of this function's business, unless it is required.
        where: The file.
        hint: What to do when it is damaged.
        required: Names that must be there.
    """
    missing = [name for name in required if name not in found]
    if missing:
        raise damaged(where, f"{', '.join(missing)} missing", hint)
    for name, types in expected.items():
        value = found.get(name)
        if name in found and (not isinstance(value, types) or (isinstance(value, bool) and bool not in types)):
            told = " or ".join(dict.fromkeys(map(_told, types)))
            raise damaged(where, f"{name}: expected {told}, found {_told(type(value))}", hint)


def damaged(where: object, what: str, hint: str) -> StoreError:
    """The error of one line for a file whose content is not what it should be."""
    return StoreError(f"{where} is damaged ({what}); {hint}")


def _is_deep(value: object) -> bool:
    level = {id(value): value}
    for _ in range(MOST_LEVELS):
        # each once: by aliases of YAML few values can stand in very many places
        level = {id(item): item for outer in level.values() for item in _items(outer)}
        if not level:
            return False
    return True


def _items(value: object) -> Iterable[object]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _told(kind: type) -> str:
    names = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "nothing"}
    return names.get(kind, "a number" if issubclass(kind, int | float) else kind.__name__)
