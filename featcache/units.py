"""Sizes in bytes, and numbers with nouns → readable text."""

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
    units = ("kB", "MB", "GB", "TB", "PB", "EB")
    size /= 1000
    for unit in units[:-1]:
        if size < 999.95:  # A larger size would be printed as 1000.0.
            return f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} {units[-1]}"
