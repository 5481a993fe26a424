"""Labels → groups of similar labels, which are probably different spellings of one class."""

import re
import unicodedata
from collections.abc import Hashable, Iterable
from decimal import Decimal

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d{1,6})?", re.ASCII)


def lookalikes(labels: Iterable[str]) -> list[tuple[str, ...]]:
    """Group labels that differ only in spaces, invisible characters, case or the spelling of a number.

    Examples are ``" W"`` and ``"W"``, ``"Ang"`` and ``"ang"``, ``"0"`` and ``"0.0"``.

    Args:
        labels: Labels; repeated labels count once.

    Returns:
        Groups of at least two different labels, in the order of their first labels. Labels within a group keep their
        order. A label is in at most one group.
    """
    groups: dict[Hashable, list[str]] = {}
    for label in dict.fromkeys(labels):
        groups.setdefault(plain(label), []).append(label)
    return [tuple(group) for group in groups.values() if len(group) > 1]


def plain(label: str) -> Hashable:
    """Return the common form of similar labels: a number, or case-folded text."""
    composed = unicodedata.normalize("NFKC", label)
    visible = "".join(c for c in composed if unicodedata.category(c) not in ("Cc", "Cf") or c.isspace())
    text = " ".join(visible.split()).casefold()
    return Decimal(text) if _NUMBER.fullmatch(text) else text
