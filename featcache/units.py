"""Sizes in bytes, large numbers, times, and numbers with nouns → readable text."""

from collections.abc import Sequence

# Singular of verbs for :func:`counted`.
_SINGULAR = {"are": "is", "have": "has", "were": "was"}


def counted(number: int, noun: str, verb: str = "") -> str:
    """Return a number with a noun and a verb in singular or plural: ``1 seed``, ``2 files are``.

    Args:
        number: Number of things.
        noun: Noun in singular, with a regular plural.
        verb: Verb in plural: ``are``, ``have`` or ``were``; empty for none.
    """
    if number == 1:
        return " ".join(filter(None, ["1", noun, _SINGULAR.get(verb, verb)]))
    return " ".join(filter(None, [str(number), f"{noun}s", verb]))


def format_bytes(size: float) -> str:
    """Return a size as readable text with up to four digits, in units of 1000: ``1.5 MB``.

    Args:
        size: Size in bytes.
    """
    if size < 999.5:
        return f"{size:.0f} byte{'' if round(size) == 1 else 's'}"
    return _in_thousands(size, ("kB", "MB", "GB", "TB", "PB", "EB"))


def format_number(number: float) -> str:
    """Return a large number as readable text with up to four digits, in units of 1000: ``94.4 M`` for millions.

    Args:
        number: Number of things.
    """
    if number < 999.5:
        return f"{number:.0f}"
    return _in_thousands(number, ("k", "M", "B"))


def _in_thousands(number: float, units: Sequence[str]) -> str:
    """Return a number of at least 1000 in the first unit in which it is below 1000, or in the last unit."""
    number /= 1000
    unit, *larger = units
    if number < 999.95 or not larger:  # A larger number would be printed as 1000.0.
        return f"{number:.1f} {unit}"
    return _in_thousands(number, larger)


def format_seconds(seconds: float) -> str:
    """Return a time as readable text: ``9.5 s``, ``16 min 34 s``, ``2 h 05 min``.

    Args:
        seconds: Time in seconds.
    """
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02} min"
