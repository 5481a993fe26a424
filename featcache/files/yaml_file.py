"""YAML file that a user wrote → texts, lists and dictionaries with their lines; faults → one message."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from featcache.errors import FeatcacheError
from featcache.files.regular import read_regular
from featcache.files.yaml_text import YamlError, compose
from featcache.units import counted

YamlPath = tuple[str | int, ...]
MOST_BYTES = 1 << 20
_TOLD_AT_ONCE = 3


def read_yaml_file(path: Path, kind: str, error_class: type[FeatcacheError]) -> tuple[Any, dict[YamlPath, int]]:
    """Return the content as strings, lists and dictionaries, and the line of each; pydantic converts the strings.

    YAML's own conversion is not used, because it reads ``no`` as false and ``1e-4`` as a string.

    Args:
        path: The file.
        kind: What the file contains, for messages: ``pipeline``.
        error_class: Class of the errors.

    Raises:
        FeatcacheError: the file cannot be read, is empty, too large or not YAML. The class is ``error_class``.
    """
    try:
        content = read_regular(path, MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            raise error_class(f"{path}: more than {MOST_BYTES} bytes; expected a {kind}, which is smaller")
        node = compose(content.decode("utf-8-sig"), yaml.BaseLoader)
        if node is None:
            raise error_class(f"{path} is empty; expected a {kind}")
        lines: dict[YamlPath, int] = {(): 1}
        return _plain(node, (), lines), lines
    except YamlError as error:
        place = "" if error.line is None else f", line {error.line}"
        raise error_class(f"{path}{place}: {error}") from error
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise error_class(f"{path}, line {line}: cannot be read as UTF-8 text ({error.reason})") from error
    except OSError as error:
        raise error_class(f"{path}: cannot be read ({error.strerror})") from error
    except RecursionError as error:
        raise error_class(f"{path}: too many levels of nesting; use fewer") from error


def describe_faults(path: Path | str, faults: Sequence[tuple[YamlPath, str]], lines: dict[YamlPath, int]) -> str:
    """Return one line about the first faults of a file, with their line numbers.

    Args:
        path: The file, or its name for messages.
        faults: Place and description of each fault.
        lines: Line of each place.
    """
    told = [f"line {_line(place, lines)}: {fault}" for place, fault in faults[:_TOLD_AT_ONCE]]
    more = f"; and {counted(len(faults) - _TOLD_AT_ONCE, 'more fault')}" if len(faults) > _TOLD_AT_ONCE else ""
    return f"{path}, {'; '.join(told)}{more}"


def _line(place: YamlPath, lines: dict[YamlPath, int]) -> int:
    """Return the line of a place, or of the closest place that contains it."""
    while place not in lines:
        place = place[:-1]
    return lines[place]


def _plain(node: yaml.Node, place: YamlPath, lines: dict[YamlPath, int]) -> Any:
    lines.setdefault(place, node.start_mark.line + 1)
    if isinstance(node, yaml.ScalarNode):
        return node.value
    if isinstance(node, yaml.SequenceNode):
        return [_plain(item, (*place, number), lines) for number, item in enumerate(node.value)]
    content: dict[str, Any] = {}
    for key, value in node.value:
        line = key.start_mark.line + 1
        if not isinstance(key, yaml.ScalarNode):
            raise YamlError("expected a name before the colon", line)
        lines[(*place, key.value)] = line
        content[key.value] = _plain(value, (*place, key.value), lines)
    return content
