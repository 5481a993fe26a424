"""YAML text → nodes, within bounds: a few lines of aliases can stand for more than fits in any memory."""

from typing import Any

import yaml

MOST_NODES = 100_000
"""Number of values, counted as often as aliases repeat them, that a file may have."""
OF_VALUES = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
"""What PyYAML raises over values that are not what their tag or form says, such as ``!!bool x`` or 30 February."""


class YamlError(ValueError):
    """A text that is not YAML, or too much of it; the message is one line and names no file.

    Attributes:
        line: Where, counted from 1; None where no line tells.
    """

    def __init__(self, message: str, line: int | None = None) -> None:
        super().__init__(message)
        self.line = line


def compose(text: str, loader: type[yaml.BaseLoader] | type[yaml.SafeLoader] = yaml.SafeLoader) -> yaml.Node | None:
    """Parse YAML into nodes.

    Args:
        text: The YAML.
        loader: Says what values mean; never one that makes other objects than texts, numbers, lists and dictionaries.

    Returns:
        The node of the whole text; None for an empty one.

    Raises:
        YamlError: no YAML, too many values, an alias inside of what it names, or too many levels.
    """
    try:
        node = yaml.compose(text, Loader=loader)
        if node is not None:
            _count(node, {})
        return node
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise YamlError(f"not YAML: {error.problem or error.context}", mark.line + 1 if mark else None) from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise YamlError(f"not YAML: the character {error.character!r} may not stand there", line) from error
    except yaml.YAMLError as error:
        raise YamlError(f"not YAML: {' '.join(str(error).split())}") from error
    except RecursionError as error:
        raise YamlError("too many levels, one inside the other; write it with fewer") from error


def load(text: str) -> Any:
    """Parse YAML into texts, numbers, lists and dictionaries.

    Raises:
        YamlError: as of :func:`compose`, or values that cannot be made.
    """
    node = compose(text)
    loader = yaml.SafeLoader("")
    try:
        return None if node is None else loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else None
        raise YamlError(f"not YAML: {error.problem}", line) from error
    except RecursionError as error:
        raise YamlError("too many levels, one inside the other; write it with fewer") from error
    except OF_VALUES as error:
        raise YamlError(f"not YAML: {' '.join(str(error).split())}") from error
    finally:
        loader.dispose()


def _count(node: yaml.Node, known: dict[int, int | None]) -> int:
    """Number of values below a node, those of aliases included."""
    if id(node) in known:
        number = known[id(node)]
        if number is None:
            raise YamlError("an alias stands inside what it names; write it out", node.start_mark.line + 1)
        return number
    known[id(node)] = None
    number = 1
    if isinstance(node, yaml.SequenceNode):
        number += sum(_count(item, known) for item in node.value)
    elif isinstance(node, yaml.MappingNode):
        number += sum(_count(key, known) + _count(value, known) for key, value in node.value)
    if number > MOST_NODES:
        raise YamlError(
            f"more than {MOST_NODES} values, aliases counted as often as they stand; write fewer",
            node.start_mark.line + 1,
        )
    known[id(node)] = number
    return number
