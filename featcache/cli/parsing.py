"""Text of options and arguments → values, and messages about text that has another form."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from typer import BadParameter

from featcache.errors import did_you_mean

NAME = "NAME"
_WORDS = {int: "integer", float: "number"}


def split(text: str | None) -> list[str] | None:
    """Return the parts of ``a,b``, or None without text."""
    return text.split(",") if text else None


def sizes(text: str | None) -> list[int] | None:
    """Return the integers of ``3,5``, or None without text.

    Raises:
        BadParameter: The text contains something else.
    """
    if text is None:
        return None
    try:
        return [int(word) for word in text.split(",")]
    except ValueError:
        raise BadParameter(
            f"takes integers separated by commas, such as 3,5, got {text!r}", param_hint="--size"
        ) from None


def layer_settings(text: str) -> list[str]:
    """Return the selections of layers in a text: ``all,last`` are two selections, ``0,4-8`` is one."""
    parts = text.split(",")
    return parts if set(parts) <= {"all", "local", "last"} else [text]


def metavar_of(kind: Any, text: str = "TEXT") -> str:
    """Return how the help shows the value of an option: ``INTEGER``, ``PATH`` or ``a|b``.

    Args:
        kind: Type of the value.
        text: Result for text.
    """
    if get_origin(kind) is Literal:
        return "|".join(get_args(kind))
    return {int: "INTEGER", float: "NUMBER", Path: "PATH"}.get(kind, text)


def read_value(option: str, text: str, kind: Any, minimum: float | None = None, maximum: float | None = None) -> Any:
    """Return the value of an option.

    Args:
        option: Name of the option, for messages.
        text: Text from the command line.
        kind: ``int``, ``float``, ``Path``, ``str``, or a ``Literal`` of several names.
        minimum: Smallest accepted number.
        maximum: Largest accepted number.

    Raises:
        BadParameter: The text is not of this type, or the number is out of bounds.
    """
    if get_origin(kind) is Literal:
        return read_choice(option, text, get_args(kind))
    if kind not in _WORDS:
        return Path(text) if kind is Path else text
    try:
        number = kind(text)
    except ValueError:
        raise BadParameter(f"takes one {_WORDS[kind]}, got {text!r}", param_hint=option) from None
    if minimum is not None and number < minimum:
        raise BadParameter(f"takes {_WORDS[kind]}s from {minimum:g}, got {text}", param_hint=option)
    if maximum is not None and number > maximum:
        raise BadParameter(f"takes {_WORDS[kind]}s up to {maximum:g}, got {text}", param_hint=option)
    return number


def read_choice(option: str, text: str, choices: Sequence[str]) -> str:
    """Return the text if it is one of several names.

    Raises:
        BadParameter: It is another name.
    """
    if text in choices:
        return text
    names = f"{', '.join(choices[:-1])} or {choices[-1]}"
    raise BadParameter(f"takes {names}, got {text!r}{did_you_mean(text, choices, at_most=1)}", param_hint=option)
