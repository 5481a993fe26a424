"""``--figure-width`` or ``$FEATCACHE_FIGURE_WIDTH`` → width of figures for one or two columns of a paper."""

import os

from featcache.errors import StoreError, unknown_name

VARIABLE = "FEATCACHE_FIGURE_WIDTH"
# Inches: the narrowest usual columns. Figures are printed in this size, so the font sizes are those on paper.
SINGLE, DOUBLE = 3.4, 7.0
WIDTHS = {"single": SINGLE, "double": DOUBLE}


def figure_width(needed: float = SINGLE) -> float:
    """Return the width of a figure in inches.

    Args:
        needed: Width that the content needs. It decides if the user has not chosen a width: one column if it fits,
            else two columns, else the needed width.

    Raises:
        StoreError: the environment variable has another value.
    """
    chosen = chosen_width()
    if chosen is not None:
        return WIDTHS[chosen]
    return next((width for width in WIDTHS.values() if needed <= width), needed)


def chosen_width() -> str | None:
    """Return ``single`` or ``double`` if the user has chosen it.

    Raises:
        StoreError: the environment variable has another value.
    """
    chosen = os.environ.get(VARIABLE) or None
    if chosen is not None and chosen not in WIDTHS:
        raise StoreError(f"${VARIABLE}: {unknown_name('width', chosen, WIDTHS)}")
    return chosen
