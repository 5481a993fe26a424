"""Table of predictions → CSV, JSON or the form of a challenge, on the terminal or in a file."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd


def write_predictions(table: "pd.DataFrame", *, format: str, out: Path | None, task: str) -> None:
    """Write a table of predictions.

    Args:
        table: The table.
        format: ``csv``, ``json`` or ``msp``.
        out: File to write; None for the terminal.
        task: ``classification`` or ``regression``.
    """
    table.to_csv(sys.stdout if out is None else out, index=False)
