"""External text → text that Markdown shows as it is: names of classes, corpora, models and runs in a model card."""

import re

from featcache.terminal.escape import escaped

# A backslash before ASCII punctuation shows the character itself (CommonMark 0.31, 2.4). The colon and @ prevent links
# that GitHub's Markdown makes from addresses, the dollar sign formulas, and the dot after www links again. A full stop
# or bracket after digits at the beginning of a line would begin a list; no text of a card is at such a place.
_SPECIAL = re.compile(r"[\\`*_{}\[\]()<>#+!|&~$:@^]|(?<=www)\.", re.IGNORECASE)


class MarkdownText(str):
    """Text that is Markdown already, and is not escaped again."""


def as_markdown(text: object) -> MarkdownText:
    r"""Return a text with all characters escaped that Markdown or HTML would read as markup.

    Control characters, line breaks among them, become escape sequences such as ``\n``.

    Args:
        text: Any value; Markdown is returned unchanged.
    """
    if isinstance(text, MarkdownText):
        return text
    return MarkdownText(_SPECIAL.sub(r"\\\g<0>", escaped(str(text))))
