r"""Text and cells → LaTeX tables with the package booktabs. All text is escaped."""

import re
from collections.abc import Sequence

from featcache.terminal.escape import escaped

_ESCAPES = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "_": r"\_",
    "%": r"\%",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": "$<$",
    ">": "$>$",
    "|": "$|$",
    '"': "''",
    "[": "{[}",  # else it could be the option of \\ in the line before
    "]": "{]}",
    "±": r"$\pm$",
    "−": "$-$",
    "–": r"\textendash{}",
    "…": r"\ldots{}",
    "×": r"$\times$",
    "·": r"$\cdot$",
    "→": r"$\rightarrow$",
    "≤": r"$\leq$",
    "≥": r"$\geq$",
    "†": r"$^{\dagger}$",
}
# Letters of European languages, which pdfLaTeX knows with its default fonts.
_LAST_LATIN = "\u017f"


def latex_text(text: str) -> str:
    r"""Return text with all special characters of LaTeX escaped; control characters are shown as ``\x1b``."""
    latex = "".join(_ESCAPES.get(character, character) for character in escaped(text))
    return re.sub("-(?=-)", "-{}", latex)  # two hyphens would become a dash


def bold(latex: str) -> str:
    r"""Return LaTeX source in bold; mathematics in it too."""
    return rf"\textbf{{\boldmath {latex}}}"


def latex_table(
    lines: Sequence[Sequence[str]],
    *,
    texts: int,
    caption: str,
    above: Sequence[str] = (),
    rules: Sequence[int] = (),
) -> str:
    """Return a table for a paper; the text ends in a line break.

    Args:
        lines: Cells of each line as LaTeX source, the header first.
        texts: Number of left-aligned columns at the left; the others are right-aligned.
        caption: LaTeX source of the caption.
        above: Lines of LaTeX source above the header.
        rules: Numbers of the lines above which there is a rule; the header is line 0.
    """
    alignment = "".join("l" if i < texts else "r" for i in range(len(lines[0])))
    rows = [rf"{' & '.join(cells)} \\" for cells in lines]
    for i in sorted(rules, reverse=True):
        rows.insert(i, r"\midrule")
    body = [r"\toprule", *above, rows[0], r"\midrule", *rows[1:], r"\bottomrule"]
    table = [r"\begin{table}", r"\centering", rf"\caption{{{caption}}}", rf"\begin{{tabular}}{{{alignment}}}"]
    return "\n".join([*table, *body, r"\end{tabular}", r"\end{table}"]) + "\n"


def preamble(latex: str) -> str:
    r"""Return comments that say what a document needs to contain the tables: packages, and the engine."""
    told = r"% in the preamble: \usepackage{booktabs}"
    if any(character > _LAST_LATIN for character in latex):
        told += "\n% compile with LuaLaTeX or XeLaTeX and a font that has all characters of the table"
    return f"{told}\n"
