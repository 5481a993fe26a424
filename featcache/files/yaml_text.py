"""YAML text → nodes, with a limit on their number, because a few lines of aliases can fill any memory."""

from typing import Any

import yaml

MOST_NODES = 100_000
"""Maximum number of values in a file; values repeated by aliases count each time."""
OF_VALUES = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
"""Exceptions of PyYAML for values that contradict their tag or form, such as ``!!bool x`` or 30 February."""


class YamlError(ValueError):
    """Text that is not valid YAML or has too many values. The message is one line and does not name the file.

    Attributes:
        line: Line number of the fault, counted from 1; None if unknown.
    """

    def __init__(self, message: str, line: int | None = None) -> None:
        super().__init__(message)
        self.line = line


def compose(text: str, loader: type[yaml.BaseLoader] | type[yaml.SafeLoader] = yaml.SafeLoader) -> yaml.Node | None:
    """Parse YAML into nodes.

    Args:
        text: YAML text.
        loader: Loader that resolves the types of values. It must not create other objects than texts, numbers, lists
            and dictionaries.

    Returns:
        Node of the whole text; None for an empty text.

    Raises:
        YamlError: the text is not YAML, has too many values or levels, gives a key twice, has an alias that refers
            to a value around it, or an escape that is no character.
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
        raise YamlError(f"not YAML: the character {error.character!r} is not allowed there", line) from error
    except yaml.YAMLError as error:
        raise YamlError(f"not YAML: {' '.join(str(error).split())}") from error
    except RecursionError as error:
        raise YamlError("too many levels of nesting; use fewer") from error


def load(text: str) -> Any:
    """Parse YAML into texts, numbers, lists and dictionaries.

    Args:
        text: YAML text.

    Raises:
        YamlError: see :func:`compose`; or a value contradicts its tag or form.
    """
    node = compose(text)
    loader = yaml.SafeLoader("")
    try:
        return None if node is None else loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else None
        raise YamlError(f"not YAML: {error.problem}", line) from error
    except RecursionError as error:
        raise YamlError("too many levels of nesting; use fewer") from error
    except OF_VALUES as error:
        raise YamlError(f"not YAML: {' '.join(str(error).split())}") from error
    finally:
        loader.dispose()


def _count(node: yaml.Node, known: dict[int, int | None]) -> int:
    """Return the number of values in a node, including values repeated by aliases."""
    if id(node) in known:
        number = known[id(node)]
        if number is None:
            raise YamlError("an alias refers to a value that contains it; write it out", node.start_mark.line + 1)
        return number
    known[id(node)] = None
    number = 1
    if isinstance(node, yaml.ScalarNode) and not _is_text(node.value):
        raise YamlError("an escape stands for half of a character; remove it", node.start_mark.line + 1)
    if isinstance(node, yaml.SequenceNode):
        number += sum(_count(item, known) for item in node.value)
    elif isinstance(node, yaml.MappingNode):
        _check_keys(node)
        number += sum(_count(key, known) + _count(value, known) for key, value in node.value)
    if number > MOST_NODES:
        raise YamlError(
            f"more than {MOST_NODES} values, aliases counted each time they are used; use fewer",
            node.start_mark.line + 1,
        )
    known[id(node)] = number
    return number


def _is_text(value: str) -> bool:
    """Return whether a text can be written to a file; an escape for half of a character cannot."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _check_keys(node: yaml.MappingNode) -> None:
    """Raise an error for a key that is given twice, because PyYAML drops all values but the last."""
    found: set[tuple[str, str]] = set()
    for key, _ in node.value:
        if isinstance(key, yaml.ScalarNode):
            if (key.tag, key.value) in found:
                raise YamlError(f"{key.value!r:.80} is given twice; keep one", key.start_mark.line + 1)
            found.add((key.tag, key.value))
