"""Content of a file → values of the expected types, or an error of one line that describes the damage."""

import json
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import TypeVar

from featcache.errors import StoreError
from featcache.files.disk import reading
from featcache.files.regular import read_regular

T = TypeVar("T")
# Files of featcache have less than half of these levels.
MOST_LEVELS = 40
TOO_DEEP = "values nested too deeply"


def read_json(path: Path, expected: type[T], hint: str) -> T:
    """Read a JSON file and check the type of its outermost value; the file may come from anyone.

    Args:
        path: JSON file.
        expected: Type of the outermost value: ``dict`` or ``list``.
        hint: Advice for the message if the file is damaged.

    Raises:
        StoreError: the file is missing, cannot be read, is not JSON, is nested too deeply, or has another type.
    """
    with reading(path):
        content = read_regular(path)
    return parse_json(content, expected, path, hint)


def parse_json(content: bytes, expected: type[T], where: object, hint: str) -> T:
    """Parse JSON and check the type of its outermost value.

    Args:
        content: Bytes of the file.
        expected: Type of the outermost value: ``dict`` or ``list``.
        where: Name of the file, for the message.
        hint: Advice for the message if the content is damaged.

    Raises:
        StoreError: the content is not JSON, is nested too deeply, or has another type.
    """
    try:
        found = json.loads(content.decode())
    except RecursionError as error:
        raise damaged(where, TOO_DEEP, hint) from error
    except ValueError as error:
        raise damaged(where, f"cannot be read as JSON: {error}", hint) from error
    return checked(found, expected, where, hint)


def checked(found: object, expected: type[T], where: object, hint: str) -> T:
    """Return a value from a file after checking its type and depth.

    Args:
        found: Value that was read.
        expected: Type that the file should contain.
        where: Name of the file, for the message.
        hint: Advice for the message if the file is damaged.

    Raises:
        StoreError: the value has another type or is nested too deeply.
    """
    if not isinstance(found, expected) or (isinstance(found, bool) and expected is not bool):
        raise damaged(where, f"expected {_describe(expected)}, found {_describe(type(found))}", hint)
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
    """Check that the values of a file have the expected types.

    Args:
        found: Values that were read.
        expected: Name → allowed types. A missing name is accepted, unless it is required.
        where: Name of the file, for the message.
        hint: Advice for the message if the file is damaged.
        required: Names that must exist.

    Raises:
        StoreError: a required name is missing, or a value has another type.
    """
    missing = [name for name in required if name not in found]
    if missing:
        raise damaged(where, f"{', '.join(missing)} missing", hint)
    for name, types in expected.items():
        value = found.get(name)
        if name in found and (not isinstance(value, types) or (isinstance(value, bool) and bool not in types)):
            told = " or ".join(dict.fromkeys(map(_describe, types)))
            raise damaged(where, f"{name}: expected {told}, found {_describe(type(value))}", hint)


def damaged(where: object, what: str, hint: str) -> StoreError:
    """Return the error of one line for a file with wrong content.

    Args:
        where: Name of the file.
        what: Fault of its content.
        hint: Advice to the user.
    """
    return StoreError(f"{where} is damaged ({what}); {hint}")


def _is_deep(value: object) -> bool:
    level = {id(value): value}
    for _ in range(MOST_LEVELS):
        # Each value is visited once, because YAML aliases can repeat a few values very often.
        level = {id(item): item for outer in level.values() for item in _items(outer)}
        if not level:
            return False
    return True


def _items(value: object) -> Iterable[object]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _describe(kind: type) -> str:
    names = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "nothing"}
    return names.get(kind, "a number" if issubclass(kind, int | float) else kind.__name__)
