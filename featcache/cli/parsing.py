"""Text of options → values: what typer does not read itself, such as lists separated by commas."""

from collections.abc import Mapping
from enum import Enum
from typing import Any

from typer import BadParameter


def plain(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options as the functions take them.

    Args:
        options: Name → value, as the parameters of a command hold them.

    Returns:
        The same, with the values of enums in place of the enums.
    """
    return {name: value.value if isinstance(value, Enum) else value for name, value in options.items()}


def split(text: str | None) -> list[str] | None:
    """Return the words of ``a,b``; None where nothing was given."""
    return text.split(",") if text else None


def sizes(text: str | None) -> list[int] | None:
    """Return the numbers of ``3,5``; None where nothing was given.

    Raises:
        BadParameter: it is something else.
    """
    if text is None:
        return None
    try:
        return [int(word) for word in text.split(",")]
    except ValueError:
        raise BadParameter(f"{text!r}: expected numbers, as in 3,5", param_hint="--size") from None


def layer_settings(text: str) -> list[str]:
    """Return the settings that an option names: ``all,last`` are two, ``0,4-8`` is one."""
    parts = text.split(",")
    return parts if set(parts) <= {"all", "local", "last"} else [text]
