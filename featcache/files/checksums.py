"""Files of a folder → their SHA-256 in one list beside them, and which of them are not as they were written.

The list ``checksums.sha256`` has one line per file, ``<64 hexadecimal digits>  <name>``, sorted by name, which
``sha256sum --check checksums.sha256`` reads as well. Names are relative to the folder, with ``/`` between their parts.
A file and the list cannot be replaced in one step. Writers therefore remove a file's line before they replace the file
and add the new line afterwards: a process that is killed in between leaves a file without a checksum, never a wrong
one. A folder without a list is one of an earlier release: nothing in it counts as wrong.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from featcache.files.regular import replace_file, resolved, sha256_of_file

CHECKSUMS = "checksums.sha256"
# No command writes a larger list; a file that pretends to be one is not read into memory.
MOST_BYTES = 16 * 2**20

_LINE = re.compile(r"([0-9a-f]{64})  ([^\x00-\x1f\x7f\\]+)")


def write_checksums(folder: Path, names: Iterable[str]) -> None:
    """Record the SHA-256 of files as they are now; the lines of other files stay.

    Args:
        folder: Where the files and the list are.
        names: Relative to the folder, with ``/`` between parts.

    Raises:
        ValueError: a name that leads out of the folder.
        OSError: a file that is missing or cannot be read.
    """
    found = {name: sha256_of_file(_inside(folder, name)) for name in names}
    _write(folder, {**(recorded_checksums(folder) or {}), **found})


def forget_checksums(folder: Path, names: Iterable[str]) -> None:
    """Remove the lines of files that are about to be replaced or removed."""
    there = recorded_checksums(folder)
    kept = {name: value for name, value in (there or {}).items() if name not in set(names)}
    if there is None or kept != there:
        _write(folder, kept)


@contextmanager
def replacing_checksums(folder: Path, *names: str) -> Iterator[None]:
    """Forget the checksums of files while they are replaced in the block, then record those of the new files."""
    forget_checksums(folder, names)
    yield
    write_checksums(folder, [name for name in names if (folder / name).is_file()])


def recorded_checksums(folder: Path) -> dict[str, str] | None:
    """The list of a folder: name → SHA-256 in hexadecimal. Empty where there is none; None where it is damaged."""
    path = folder / CHECKSUMS
    if not path.exists():
        return {}
    if not path.is_file() or path.stat().st_size > MOST_BYTES:
        return None
    content = path.read_bytes()
    try:
        matches = [_LINE.fullmatch(line) for line in content.decode().removesuffix("\n").split("\n")]
    except UnicodeDecodeError:
        return None
    found = {match[2]: match[1] for match in matches if match}
    # equal to what would be written: no line is left over, twice, or out of place; an empty list is never written
    return found if content and _text(found) == content and all(map(_is_relative, found)) else None


def wrong_files(folder: Path) -> dict[str, str]:
    """Compare files with the list.

    Returns:
        Name → what is wrong with it, in a few words: of files that are missing, were changed, or cannot be read, and of
        the list itself where it is damaged. Empty where all is well, or where there is no list.
    """
    recorded = recorded_checksums(folder)
    if recorded is None:
        return {CHECKSUMS: "is damaged"}
    wrong = {}
    for name, expected in recorded.items():
        try:
            path = _inside(folder, name)
            if not path.is_file():
                wrong[name] = "is not a file" if path.exists() else "is missing"
            elif sha256_of_file(path) != expected:
                wrong[name] = "has changed since it was written"
        except ValueError:
            wrong[name] = "leads out of the folder"
        except OSError as error:
            wrong[name] = f"cannot be read ({error.strerror})"
    return wrong


def unrecorded_files(folder: Path, names: Iterable[str]) -> list[str]:
    """Those of these names whose files exist and have no checksum."""
    recorded = recorded_checksums(folder) or {}
    return [name for name in names if name not in recorded and (folder / name).is_file()]


def _inside(folder: Path, name: str) -> Path:
    path = folder / name
    if not _is_relative(name) or not resolved(path).is_relative_to(resolved(folder)):
        raise ValueError(f"{name!r} leads out of {folder}")
    return path


def _is_relative(name: str) -> bool:
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts and ":" not in name and str(path) == name != "."


def _write(folder: Path, checksums: Mapping[str, str]) -> None:
    if checksums:
        replace_file(folder / CHECKSUMS, _text(checksums))
    else:
        (folder / CHECKSUMS).unlink(missing_ok=True)


def _text(checksums: Mapping[str, str]) -> bytes:
    return "".join(f"{checksums[name]}  {name}\n" for name in sorted(checksums)).encode()
