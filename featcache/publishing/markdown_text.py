"""External text → text that Markdown shows as it is: names of classes, corpora, models and runs in a model card."""

import re

from featcache.terminal.escape import escaped

# A backslash before ASCII punctuation shows the character itself (CommonMark 0.31, 2.4). GitHub's Markdown also makes
# links of addresses without brackets (http://, mailto:, www., a@b) and formulas of $. Brackets, digits and hyphens act
# at the beginning of a line only, where no text of a card is.
_SPECIAL = re.compile(r"[\\`*_\[\]<>#|&~$@]|:(?=\S)|(?<=www)\.", re.IGNORECASE)


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
