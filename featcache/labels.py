"""Labels → groups that look alike: the same class, most likely, written in several ways."""

import re
import unicodedata
from collections.abc import Hashable, Iterable
from decimal import Decimal

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d{1,6})?", re.ASCII)


def lookalikes(labels: Iterable[str]) -> list[tuple[str, ...]]:
    """Group labels that differ in blanks, invisible characters, case or the spelling of a number only.

    Examples are ``" W"`` and ``"W"``, ``"Ang"`` and ``"ang"``, ``"0"`` and ``"0.0"``.

    Args:
        labels: Labels; one that occurs several times counts once.

    Returns:
        Groups of at least two different labels, in the order of their first labels. Labels within a group keep their
        order. A label is in one group at most.
    """
    groups: dict[Hashable, list[str]] = {}
    for label in dict.fromkeys(labels):
        groups.setdefault(plain(label), []).append(label)
    return [tuple(group) for group in groups.values() if len(group) > 1]


def plain(label: str) -> Hashable:
    """Return what labels that look alike have in common: a number, or folded text."""
    composed = unicodedata.normalize("NFKC", label)
    visible = "".join(c for c in composed if unicodedata.category(c) not in ("Cc", "Cf") or c.isspace())
    text = " ".join(visible.split()).casefold()
    return Decimal(text) if _NUMBER.fullmatch(text) else text
