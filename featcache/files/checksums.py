"""Files of a folder → list of their SHA-256, and the files that changed since they were written.

The list ``checksums.sha256`` has one line per file, ``<64 hexadecimal digits>  <name>``, sorted by name. The command
``sha256sum --check checksums.sha256`` can read it too. Names are relative to the folder, with ``/`` between parts.
A file and the list cannot be replaced in one step. Writers therefore remove the line of a file before they replace the
file, and add the new line afterwards. A process that is killed in between leaves a file without a checksum, never with
a wrong one. A folder without a list comes from an earlier release, and all its files count as correct.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from featcache.files.regular import replace_file, resolved, sha256_of_file

CHECKSUMS = "checksums.sha256"
# No command writes a larger list. A larger file is not read into memory.
MOST_BYTES = 16 * 2**20

_LINE = re.compile(r"([0-9a-f]{64})  ([^\x00-\x1f\x7f\\]+)")


def write_checksums(folder: Path, names: Iterable[str]) -> None:
    """Record the current SHA-256 of files; the lines of other files stay unchanged.

    Args:
        folder: Folder of the files and the list.
        names: Names of the files, relative to the folder, with ``/`` between parts.

    Raises:
        ValueError: a name leads out of the folder.
        OSError: a file is missing or cannot be read.
    """
    found = {name: sha256_of_file(_inside(folder, name)) for name in names}
    _write(folder, {**(recorded_checksums(folder) or {}), **found})


def forget_checksums(folder: Path, names: Iterable[str]) -> None:
    """Remove the lines of files that will be replaced or removed."""
    there = recorded_checksums(folder)
    kept = {name: value for name, value in (there or {}).items() if name not in set(names)}
    if there is None or kept != there:
        _write(folder, kept)


@contextmanager
def replacing_checksums(folder: Path, *names: str) -> Iterator[None]:
    """Remove the checksums of files while the ``with`` block replaces them, then record the new checksums."""
    forget_checksums(folder, names)
    yield
    write_checksums(folder, [name for name in names if (folder / name).is_file()])


def recorded_checksums(folder: Path) -> dict[str, str] | None:
    """Return the list of a folder: name → SHA-256 in hexadecimal. Empty if there is no list; None if it is damaged."""
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
    # The content must equal the text that would be written: no extra, repeated or unsorted line. Lists are never empty.
    return found if content and _text(found) == content and all(map(_is_relative, found)) else None


def wrong_files(folder: Path) -> dict[str, str]:
    """Compare the files of a folder with the list.

    Returns:
        Name → fault in a few words, for files that are missing, changed or unreadable, and for a damaged list. Empty if
        all files are correct or there is no list.
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
            wrong[name] = "is outside the folder"
        except OSError as error:
            wrong[name] = f"cannot be read ({error.strerror})"
    return wrong


def unrecorded_files(folder: Path, names: Iterable[str]) -> list[str]:
    """Return the names whose files exist but have no checksum."""
    recorded = recorded_checksums(folder) or {}
    return [name for name in names if name not in recorded and (folder / name).is_file()]


def _inside(folder: Path, name: str) -> Path:
    path = folder / name
    if not _is_relative(name) or not resolved(path).is_relative_to(resolved(folder)):
        raise ValueError(f"{name!r} is outside of {folder}")
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
