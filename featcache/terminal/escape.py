"""External text → text that is safe to show.

File names, utterance ids, labels, speakers, transcripts, attributes of models and stores, and cells of external tables
can contain characters that move the cursor of a terminal, change its title, forge a second line, or reverse the order
of the following text. Tables of data (``manifest.csv``, ``predictions.csv``, ``failures.csv``) keep the text as it is.
"""

import codecs
import unicodedata

# Error handler for Python's codecs: it replaces characters by LOOKALIKES, or by their code points.
LOOKALIKES_HANDLER = "featcache.lookalikes"

# Replacements for characters that featcache prints, for consoles whose encoding does not contain them.
LOOKALIKES = {
    "±": "+/-",
    "–": "-",
    "−": "-",
    "…": "...",
    "×": "x",
    "→": "->",
    "≤": "<=",
    "≥": ">=",
    "·": "*",
    "Σ": "sum",
}

# Control characters, invisible format characters (bidirectional overrides, zero-width blanks), half a character pair
# (bytes of a file name that are not UTF-8), line and paragraph separators.
_ACTING = {"Cc", "Cf", "Cs", "Zl", "Zp"}
# Zero-width joiner and non-joiner, which are part of correct Persian, Hindi and emoji.
_JOINERS = "\u200c\u200d"


def escaped(text: str, *, keep: str = "") -> str:
    r"""Return the text with every control character as its escape sequence: ``\x1b``, ``\n``, ``\u202e``.

    Args:
        text: Any text.
        keep: Characters that are kept, such as the line breaks of text with several lines.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        char if char in keep or not _acts(char, text[i - 1 : i]) else code_point(char) for i, char in enumerate(text)
    )


def fitting(text: str, encoding: str) -> str:
    """Return the text with characters outside an encoding replaced: ``±`` by ``+/-``, others by their code points."""
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return text.encode(encoding, LOOKALIKES_HANDLER).decode(encoding)
    return text


def one_line(text: str) -> str:
    """Return a message as one escaped line; line breaks become spaces."""
    return escaped(" ".join(line.strip() for line in text.replace("\r\n", "\n").split("\n")).strip())


def _acts(char: str, before: str) -> bool:
    if char in _JOINERS:
        return before.isascii() or unicodedata.category(before) in _ACTING
    return unicodedata.category(char) in _ACTING


def code_point(char: str) -> str:
    r"""Return the escape sequence of a character, as in Python's source: ``\x1b``, ``\u6012``."""
    return char.encode("unicode_escape").decode("ascii")


def _replace_lacking(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    return "".join(LOOKALIKES.get(char) or code_point(char) for char in lacking), error.end


codecs.register_error(LOOKALIKES_HANDLER, _replace_lacking)
