"""Labels of figures → installed fonts that have their characters, or code points where none has."""

import logging
import re
import unicodedata
from collections.abc import Iterable
from functools import lru_cache

from matplotlib import font_manager
from matplotlib.font_manager import FontProperties

from featcache.terminal.escape import code_point, escaped

log = logging.getLogger(__name__)

DEFAULT = "sans-serif"
# One has a box for every character; those of mathematics have other signs in the places of letters.
_NOT_FOR_TEXT = re.compile("Last Resort|STIX|.*Math|cm[a-z]+10")
_REGULAR = (400, "normal", "regular", "book")


def families_for(texts: Iterable[str]) -> list[str]:
    """Return matplotlib's default family, and the installed ones that have what it lacks of these texts.

    What none has is told in one line, once.
    """
    families, unknown = _beside_default(_lacking(texts))
    if unknown:
        _tell(unknown)
    return [DEFAULT, *families]


def drawable(text: str) -> str:
    r"""Return the text as a figure can show it: what acts, and what no installed font has, as code points."""
    unknown = _beside_default(_lacking([text]))[1]
    return "".join(code_point(char) if char in unknown else char for char in escaped(text))


def num_columns(text: str) -> int:
    """Return the width of a text in letters; Chinese, Japanese and Korean characters are two wide."""
    return sum(2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text)


def _lacking(texts: Iterable[str]) -> frozenset[str]:
    characters = {char for text in texts if not text.isascii() for char in escaped(text)}
    return frozenset(char for char in characters if not char.isascii()) - _characters(DEFAULT)


@lru_cache(maxsize=64)
def _beside_default(lacking: frozenset[str]) -> tuple[tuple[str, ...], frozenset[str]]:
    """Further families, and the characters that are in no installed one."""
    chosen = []
    for family in _families() if lacking else ():
        here = lacking & _characters(family)
        if here:
            chosen.append(family)
            lacking -= here
        if not lacking:
            break
    return tuple(chosen), lacking


def _families() -> list[str]:
    """The families that come upright and in a regular weight, those without serifs first."""
    return sorted(_regular(), key=lambda name: ("Sans" not in name, name))


def _regular() -> dict[str, str]:
    """Family → the file of its regular font."""
    return {
        font.name: font.fname
        for font in font_manager.fontManager.ttflist
        if font.style == "normal" and font.weight in _REGULAR and not _NOT_FOR_TEXT.match(font.name)
    }


@lru_cache(maxsize=512)
def _characters(family: str) -> frozenset[str]:
    path = font_manager.findfont(FontProperties(family=[family])) if family == DEFAULT else _regular()[family]
    try:
        return frozenset(map(chr, font_manager.get_font(path).get_charmap()))
    except (OSError, RuntimeError):  # a font file that cannot be read
        return frozenset()


@lru_cache(maxsize=64)
def _tell(unknown: frozenset[str]) -> None:
    # the first word of a character's name is its script: CJK, DEVANAGARI, HANGUL
    scripts = sorted({unicodedata.name(char, "unnamed").split()[0].partition("-")[0] for char in unknown})
    log.warning(
        "no installed font has the characters %s (%s): figures show their code points; install a font that has them, "
        "such as one of the Noto fonts",
        " ".join(sorted(unknown)[:10]) + (" …" if len(unknown) > 10 else ""),
        ", ".join(scripts),
    )
