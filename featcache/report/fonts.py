"""Labels of figures → installed fonts that contain their characters; characters in no font are shown as code points."""

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
MOST_CHARACTERS = 60
"""Maximum number of characters of a text in a figure."""
# "Last Resort" draws a box for every character; mathematical fonts have other signs in place of letters.
_NOT_FOR_TEXT = re.compile("Last Resort|STIX|.*Math|cm[a-z]+10")
_REGULAR = (400, "normal", "regular", "book")


def families_for(texts: Iterable[str]) -> list[str]:
    """Return matplotlib's default family, and installed families with the characters that it does not contain.

    Characters that no installed font contains are logged once.
    """
    families, unknown = _beside_default(_lacking(texts))
    if unknown:
        _tell(unknown)
    return [DEFAULT, *families]


def drawable(text: str) -> str:
    r"""Return a text for a figure: control characters and characters in no installed font are code points.

    Long texts are cut, because a figure that is wide enough for them could not be drawn.
    """
    text = text[: MOST_CHARACTERS + 1]
    unknown = _beside_default(_lacking([text]))[1]
    shown = "".join(code_point(char) if char in unknown else char for char in escaped(text))
    return shown if len(shown) <= MOST_CHARACTERS else f"{shown[: MOST_CHARACTERS - 1]}…"


def num_columns(text: str) -> int:
    """Return the width of a text in letters; Chinese, Japanese and Korean characters count as two."""
    return sum(2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text)


def _lacking(texts: Iterable[str]) -> frozenset[str]:
    characters = {char for text in texts if not text.isascii() for char in escaped(text)}
    return frozenset(char for char in characters if not char.isascii()) - _characters(DEFAULT)


@lru_cache(maxsize=64)
def _beside_default(lacking: frozenset[str]) -> tuple[tuple[str, ...], frozenset[str]]:
    """Return further families, and the characters that are in no installed family."""
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
    """Return the upright families of regular weight, sans-serif families first."""
    return sorted(_regular(), key=lambda name: ("Sans" not in name, name))


def _regular() -> dict[str, str]:
    """Return the file of the regular font of each family."""
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
    except (OSError, RuntimeError):  # the font file cannot be read
        return frozenset()


@lru_cache(maxsize=64)
def _tell(unknown: frozenset[str]) -> None:
    # The first word of a character's Unicode name is its script: CJK, DEVANAGARI, HANGUL.
    scripts = sorted({unicodedata.name(char, "unnamed").split()[0].partition("-")[0] for char in unknown})
    log.warning(
        "no installed font contains the characters %s (%s): figures show their code points; install a font that "
        "contains them, such as one of the Noto fonts",
        " ".join(sorted(unknown)[:10]) + (" …" if len(unknown) > 10 else ""),
        ", ".join(scripts),
    )
