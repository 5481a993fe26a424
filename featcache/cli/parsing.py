"""Text of options → values: what typer does not read itself, such as lists separated by commas."""

import math
from collections.abc import Mapping, Sequence
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


def label_range(text: str | None) -> tuple[float, float] | None:
    """Return the two numbers of ``1,7``; None where nothing was given.

    Raises:
        BadParameter: it is something else, or the first number is not the lower one.
    """
    if text is None:
        return None
    try:
        low, high = (float(word) for word in text.split(","))
        if not -math.inf < low < high < math.inf:
            raise ValueError
    except ValueError:
        raise BadParameter(f"{text!r}: expected two numbers, as in 1,7", param_hint="--label-range") from None
    return low, high


def layer_settings(text: str) -> list[str]:
    """Return the settings that an option names: ``all,last`` are two, ``0,4-8`` is one."""
    parts = text.split(",")
    return parts if set(parts) <= {"all", "local", "last"} else [text]


def selection(pairs: Sequence[str] | None) -> dict[str, list[str]]:
    """Return label → chosen values.

    Args:
        pairs: Each ``LABEL=VALUE``, or ``LABEL=VALUE,VALUE``.

    Raises:
        BadParameter: one that has no ``=``.
    """
    found: dict[str, list[str]] = {}
    for pair in pairs or ():
        column, separator, values = pair.partition("=")
        if not separator:
            raise BadParameter(f"{pair!r}: expected LABEL=VALUE, or LABEL=VALUE,VALUE", param_hint="--select")
        found.setdefault(column, []).extend(values.split(","))
    return found
