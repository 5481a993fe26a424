"""Runs → a table of scores on the terminal or in a file: text, Markdown, LaTeX or CSV."""

import sys
from collections.abc import Sequence
from pathlib import Path

from featcache.errors import PredictionsError, StoreError
from featcache.files.regular import replace_file, resolved
from featcache.report.grid_formats import FORMATS, grid_table, text_notes
from featcache.report.score_grid import score_grid
from featcache.runs.chosen import chosen_runs
from featcache.runs.reader import RunFolder, find_run
from featcache.terminal.console import Console, print_line
from featcache.terminal.escape import escaped, fitting
from featcache.workspace import Workspace

# Suffix of a file → format, if none is given.
SUFFIXES = {".txt": "text", ".md": "markdown", ".tex": "latex", ".csv": "csv"}


def print_score_grid(
    names: Sequence[str],
    *,
    rows: Sequence[str],
    columns: Sequence[str],
    metric: str | None,
    part: str,
    reference: str | None,
    form: str | None,
    out: Path | None,
) -> None:
    """Print a table of scores, or write it to a file.

    Args:
        names: Names, folders or patterns of runs.
        rows, columns: Names of settings.
        metric: Name of the score, or None.
        part: ``test`` or ``validation``.
        reference: Name of the run with which all others are compared, or None.
        form: Format, or None for that of the file's suffix.
        out: File, or None for the terminal.

    Raises:
        FeatcacheError: see :func:`~featcache.report.score_grid.score_grid`.
    """
    chosen = form or SUFFIXES.get("" if out is None else out.suffix.lower(), "text")
    if out is not None and SUFFIXES.get(out.suffix.lower(), chosen) != chosen:
        suffix = next(suffix for suffix, name in SUFFIXES.items() if name == chosen)
        raise StoreError(f"--out {out}: its suffix is of another format than --format {chosen}; name one with {suffix}")
    runs = chosen_runs(names)
    grid = score_grid(
        runs,
        rows=rows,
        columns=columns,
        metric=metric,
        part=part,
        reference=None if reference is None else _among(runs, reference),
    )
    if out is not None:
        replace_file(out, FORMATS[chosen](grid).encode())
        print_line(str(out))
    elif chosen == "text":
        Console().print(grid_table(grid))
        print_line()
        for note in text_notes(grid):
            print_line(note)
    else:
        # Its lines are not folded, because it is copied or piped.
        sys.stdout.write(fitting(escaped(FORMATS[chosen](grid), keep="\n"), sys.stdout.encoding or "utf-8"))


def _among(runs: Sequence[RunFolder], name: str) -> RunFolder:
    wanted = resolved(find_run(Workspace.at(), name).path)
    for run in runs:
        if resolved(run.path) == wanted:
            return run
    raise PredictionsError(f"--reference {name}: it is not among the runs of the table; give it as RUN too")
