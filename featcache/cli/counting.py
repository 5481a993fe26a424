"""Numbers with nouns → text."""


def counted(number: int, noun: str) -> str:
    """Return a number with a noun in singular or plural: ``1 seed``, ``2 seeds``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
