"""Content of a file → values of the types that other code relies on, or one line that says what is damaged."""

import json
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import TypeVar

from featcache.errors import StoreError
from featcache.files.disk import reading
from featcache.files.regular import read_regular

T = TypeVar("T")
# No file of featcache's is nested half as deeply.
MOST_LEVELS = 40
TOO_DEEP = "values nested too deeply"


def read_json(path: Path, expected: type[T], hint: str) -> T:
    """Read a JSON file whose outermost value is of one type, whoever wrote it.

    Args:
        path: The file.
        expected: ``dict`` or ``list``.
        hint: What to do when it is damaged.

    Raises:
        StoreError: the file is missing, cannot be read, is no JSON, is nested too deeply, or is of another type.
    """
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
            told = " or ".join(dict.fromkeys(map(_describe, types)))
            raise damaged(where, f"{name}: expected {told}, found {_describe(type(value))}", hint)


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


def _describe(kind: type) -> str:
    names = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "nothing"}
    return names.get(kind, "a number" if issubclass(kind, int | float) else kind.__name__)
