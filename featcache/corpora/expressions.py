"""Regular expression that somebody wrote → pattern with a time limit, or why it is refused."""

import re
from math import prod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import regex

MOST_CHARACTERS = 1000
MOST_REPEATS = 100_000
"""Largest product of all repetition counts of an expression, because compiling writes repetitions out."""
_COUNTS = re.compile(r"\{\s*(\d*)\s*(?:,\s*(\d*)\s*)?\}")


def compile_expression(text: str, before: str = "") -> "regex.Pattern[str]":
    """Compile a regular expression whose matching can be interrupted after a time limit.

    The author may be anyone. Python's ``re`` has no time limit, and some expressions need centuries for a name of a
    few dozen characters; therefore the package regex matches, and ``re`` only checks the syntax.

    Args:
        text: Regular expression of Python.
        before: Expression that is put before it.

    Raises:
        ValueError: the expression is too long, repeats too often, or is not valid.
    """
    import regex

    if len(text) > MOST_CHARACTERS:
        raise ValueError(f"more than {MOST_CHARACTERS} characters")
    counts = [max(int(number[:9] or 1), 1) for pair in _COUNTS.findall(text) for number in [pair[1] or pair[0]]]
    if prod(counts) > MOST_REPEATS:
        raise ValueError(f"its repetition counts multiply to more than {MOST_REPEATS}; use smaller ones")
    try:
        re.compile(text)
        # V0 behaves as re does; without it, a global setting of the package would decide.
        pattern: regex.Pattern[str] = regex.compile(before + text, regex.V0)
    except (re.error, regex.error, RecursionError, OverflowError) as error:
        raise ValueError(" ".join(str(error).split())) from None
    return pattern
