"""Table of scores → text for the terminal, Markdown, LaTeX or CSV."""

import csv
from collections.abc import Callable, Sequence
from io import StringIO
from typing import TYPE_CHECKING

from featcache.evaluate.scores import digits_of
from featcache.report.experiment import markdown_table
from featcache.report.latex import bold, latex_table, latex_text, preamble
from featcache.report.score_grid import BEST, MARK, GridCell, Key, ScoreGrid
from featcache.report.tables import interval, mean_and_std, score_table
from featcache.terminal.escape import escaped

if TYPE_CHECKING:
    from featcache.terminal.console import Table


def cell_text(cell: GridCell | None, digits: int) -> str:
    """Return the printed score: ``67.2 ± 0.7 [65.1–69.4] †``; a dash for an empty cell."""
    if cell is None:
        return "-"
    found = mean_and_std(cell.mean, cell.std, digits)
    bounds = f" [{interval(cell.ci95, digits)}]" if cell.ci95 else ""
    return f"{found}{bounds}{f' {MARK}' if cell.differs else ''}"


def _name(settings: Sequence[str]) -> str:
    return ", ".join(setting.rpartition(".")[2] for setting in settings)


def _value(key: Key) -> str:
    return ", ".join(key)


def _corner(grid: ScoreGrid) -> str:
    """Return the text above the names of the rows: the settings of the rows, and those of the columns."""
    return " / ".join(_name(names) for names in (grid.row_settings, grid.column_settings) if names)


def _headers(grid: ScoreGrid) -> list[str]:
    return [_value(column) if column else grid.heading for column in grid.columns]


def _lines(grid: ScoreGrid, shown: Callable[[GridCell | None], str]) -> list[list[str]]:
    return [[_value(row), *(shown(grid.cells.get((row, column))) for column in grid.columns)] for row in grid.rows]


def _marked(grid: ScoreGrid, mark: str) -> list[list[str]]:
    """Return the cells of each row as text; ``mark`` stands around the best scores."""
    digits = digits_of(grid.metric)

    def shown(cell: GridCell | None) -> str:
        return f"{mark}{cell_text(cell, digits)}{mark}" if cell and cell.best else cell_text(cell, digits)

    return _lines(grid, shown)


def text_notes(grid: ScoreGrid) -> list[str]:
    """Return the notes for plain text, in which asterisks stand for bold."""
    return [note.replace(BEST, f"*…*: {BEST.removeprefix('Bold: ')}") for note in grid.notes]


def grid_table(grid: ScoreGrid) -> "Table":
    """Return the table for the terminal; the best scores stand between asterisks, because not all output has bold."""
    table = score_table(_corner(grid), *_headers(grid))
    for cells in _marked(grid, "*"):
        table.add_row(*cells)
    return table


def grid_text(grid: ScoreGrid) -> str:
    """Return the table as plain text, with its notes; the best scores stand between asterisks."""
    lines = [[escaped(cell) for cell in line] for line in ([_corner(grid), *_headers(grid)], *_marked(grid, "*"))]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    texts = ["  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]).rstrip() for line in lines]
    texts.insert(1, "-" * max(map(len, texts)))
    return "\n".join([*texts, "", *map(escaped, text_notes(grid))]) + "\n"


def grid_markdown(grid: ScoreGrid) -> str:
    """Return the table as Markdown, with its notes."""
    table = markdown_table([[_corner(grid), *_headers(grid)], *_marked(grid, "**")])
    return f"{table}\n\n{chr(10).join(f'- {escaped(note)}' for note in grid.notes)}\n"


def grid_latex(grid: ScoreGrid) -> str:
    """Return the table as LaTeX with booktabs; the notes are its caption."""
    digits = digits_of(grid.metric)

    def shown(cell: GridCell | None) -> str:
        if cell is None:
            return "--"
        score = latex_text(mean_and_std(cell.mean, cell.std, digits))
        bounds = f" {{\\footnotesize {latex_text(f'[{interval(cell.ci95, digits)}]')}}}" if cell.ci95 else ""
        return f"{bold(score) if cell.best else score}{bounds}{latex_text(MARK) if cell.differs else ''}"

    names = [_name(grid.row_settings), *_headers(grid)]
    lines = [[latex_text(name) for name in names]]
    for row in grid.rows:
        cells = [shown(grid.cells.get((row, column))) for column in grid.columns]
        lines.append([latex_text(_value(row)), *cells])
    above = []
    if grid.column_settings:
        number = len(grid.columns)
        above = [
            rf" & \multicolumn{{{number}}}{{c}}{{{latex_text(_name(grid.column_settings))}}} \\",
            rf"\cmidrule(lr){{2-{number + 1}}}",
        ]
    table = latex_table(lines, texts=1, caption=latex_text(" ".join(grid.notes)), above=above)
    return preamble(table) + table


def grid_csv(grid: ScoreGrid) -> str:
    """Return one line per run, with all digits of the numbers; a missing number is an empty cell."""
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    scores = ["run", "metric", "part", "mean", "std", "ci95_low", "ci95_high", "num_seeds", "best"]
    writer.writerow([*grid.row_settings, *grid.column_settings, *scores, "p_holm", "compared_with"])
    for row in grid.rows:
        for column in grid.columns:
            cell = grid.cells.get((row, column))
            if cell is None:
                continue
            numbers = [cell.mean, cell.std, *(cell.ci95 or (None, None)), cell.num_seeds, str(cell.best).lower()]
            told = [cell.label, grid.metric, grid.part, *numbers, cell.p, cell.reference]
            writer.writerow([*row, *column, *told])
    return text.getvalue()


FORMATS: dict[str, Callable[[ScoreGrid], str]] = {
    "text": grid_text,
    "markdown": grid_markdown,
    "latex": grid_latex,
    "csv": grid_csv,
}
