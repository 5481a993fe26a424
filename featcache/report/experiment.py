"""Rows of a pipeline → one table with the published numbers beside ours: terminal, Markdown, LaTeX, CSV and HTML."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING

from featcache.evaluate.scores import digits_of, heading_of
from featcache.files.regular import replace_file
from featcache.report.contrast import Contrast
from featcache.report.cost_table import CAPTION, cost_cells, known_columns
from featcache.report.html import figures_for_page, render
from featcache.report.latex import latex_table, latex_text, preamble
from featcache.report.tables import interval, mean_and_std, table_of_protocols
from featcache.runs.costs import NAMES, Costs
from featcache.terminal.escape import escaped

if TYPE_CHECKING:
    from featcache.terminal.console import Table

PAPER, DIFFERENCE = "Paper", "Diff."


@dataclass(frozen=True, kw_only=True)
class ComparedRow:
    """A score of a run beside the published score.

    Attributes:
        name: Name of the run in the pipeline.
        title: Title of the run in the table.
        protocol: Name of the protocol.
        metric: ``uar``, ``wa`` or ``macro_f1``, in percent; or ``ccc``, ``rmse_<dim>`` and so on.
        published_mean: Published score; None if the paper reports none.
        published_std: Published standard deviation over seeds; None if the paper reports none.
        mean: Our mean score over seeds; None if it is undefined.
        std: Our standard deviation over seeds; None for one seed.
        ci95: Bounds of our 95 % confidence interval; None if there is none.
        notes: Differences from the paper.
        run: Name of the run folder; empty for a published result without a run.
        costs: Parameters, sizes and times of the run.
    """

    name: str
    title: str
    protocol: str
    metric: str
    published_mean: float | None
    published_std: float | None
    mean: float | None
    std: float | None
    ci95: tuple[float, float] | None
    notes: tuple[str, ...]
    run: str
    costs: Costs = field(default_factory=Costs)

    @property
    def digits(self) -> int:
        """Number of decimal places of the score."""
        return digits_of(self.metric)

    @property
    def difference(self) -> float | None:
        """Our score minus the published score; None if either is missing."""
        return None if self.published_mean is None or self.mean is None else self.mean - self.published_mean

    def cells(self) -> dict[str, str]:
        """Return the printed text of each score column."""
        return {
            PAPER: mean_and_std(self.published_mean, self.published_std, self.digits),
            "Ours": mean_and_std(self.mean, self.std, self.digits),
            "95 % CI": interval(self.ci95, self.digits),
            DIFFERENCE: "-" if self.difference is None else f"{self.difference:+.{self.digits}f}",
        }


def columns_of(rows: Sequence[ComparedRow]) -> list[str]:
    """Return the names of the score columns; the published ones only if any row has a published score."""
    compared = any(row.published_mean is not None for row in rows)
    return [column for column in rows[0].cells() if compared or column not in (PAPER, DIFFERENCE)]


def compared_table(rows: Sequence[ComparedRow], numbers: Mapping[str, int]) -> "Table":
    """Return a table for the terminal with one section per protocol.

    Args:
        rows: Rows of a single metric.
        numbers: Number of each note, as returned by :func:`numbered_notes`.
    """
    columns = columns_of(rows)
    told = [
        (
            row.protocol,
            [
                row.title,
                *(row.cells()[column] for column in columns),
                " ".join(str(number) for number in sorted(numbers[note] for note in row.notes)),
            ],
        )
        for row in rows
    ]
    return table_of_protocols([heading_of(rows[0].metric)], columns, told, after=["Notes"])


def numbered_notes(rows: Sequence[ComparedRow]) -> dict[str, int]:
    """Return each note and its number, counted from 1 in the order of the rows."""
    notes = dict.fromkeys(note for row in rows for note in row.notes)
    return {note: number for number, note in enumerate(notes, start=1)}


def _by(attribute: str, rows: Sequence[ComparedRow]) -> list[tuple[str, list[ComparedRow]]]:
    """Return the rows grouped by an attribute, such as the metric or the protocol."""
    values = dict.fromkeys(getattr(row, attribute) for row in rows)
    return [(value, [row for row in rows if getattr(row, attribute) == value]) for value in values]


def compared_markdown(rows: Sequence[ComparedRow]) -> str:
    """Return the rows as Markdown: one table per metric, with the notes in full; the text ends in a line break."""
    return "\n".join(_markdown(of_metric) for _, of_metric in _by("metric", rows))


def _markdown(rows: Sequence[ComparedRow]) -> str:
    columns = columns_of(rows)
    head = ["Protocol", heading_of(rows[0].metric), *columns, "What differs"]
    lines = [head]
    lines += [
        [row.protocol, row.title, *(row.cells()[column] for column in columns), "; ".join(row.notes)] for row in rows
    ]
    return markdown_table(lines, ["---"] * 2 + ["---:"] * len(columns) + ["---"]) + "\n"


def compared_latex(rows: Sequence[ComparedRow], *, title: str) -> str:
    """Return the rows as LaTeX with booktabs: one table per metric, with the notes in its caption.

    Args:
        rows: Rows of the table.
        title: Begin of each caption.
    """
    tables = [_latex(of_metric, title) for _, of_metric in _by("metric", rows)]
    return preamble("".join(tables)) + "\n".join(tables)


def _latex(rows: Sequence[ComparedRow], title: str) -> str:
    columns, numbers = columns_of(rows), numbered_notes(rows)
    protocols = _by("protocol", rows)
    lines = [[heading_of(rows[0].metric), *columns, *(["Notes"] * bool(numbers))]]
    rules = []
    for protocol, of_protocol in protocols:
        if len(protocols) > 1:
            rules += [len(lines)] if len(lines) > 1 else []
            lines.append([protocol, *[""] * (len(lines[0]) - 1)])
        for row in of_protocol:
            cells = row.cells()
            marks = ", ".join(str(number) for number in sorted(numbers[note] for note in row.notes))
            lines.append([row.title, *(cells[column] for column in columns), *([marks] * bool(numbers))])
    about = title if len(protocols) > 1 else f"{title}, {protocols[0][0]}"
    told = [f"{about}.", *(f"{number}: {note}." for note, number in numbers.items())]
    return latex_table(
        [[latex_text(cell) for cell in line] for line in lines],
        texts=1,
        caption=latex_text(" ".join(told)),
        rules=rules,
    )


def markdown_table(lines: Sequence[Sequence[str]], rule: Sequence[str] = ()) -> str:
    """Return a Markdown table without the last line break.

    Args:
        lines: Cells of each line, the header first.
        rule: Line between header and rows; by default all columns but the first are right-aligned.
    """
    cells = [[escaped(cell).replace("|", r"\|") for cell in line] for line in lines]
    cells.insert(1, list(rule) or ["---", *["---:"] * (len(lines[0]) - 1)])
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


def titled_costs(rows: Sequence[ComparedRow]) -> list[tuple[str, Costs]]:
    """Return the title and costs of each run, once for all metrics."""
    # The single layers of a run may have the name of a published result without a run.
    return list({(row.name, row.run): (row.title, row.costs) for row in rows}.values())


def costs_markdown(rows: Sequence[ComparedRow]) -> list[str]:
    """Return a Markdown table of the costs of each run, and its caption; empty if no costs are known."""
    known = [(title, cost_cells(costs)) for title, costs in titled_costs(rows) if costs.entries()]
    if not known:
        return []
    columns = known_columns([costs for _, costs in titled_costs(rows)])
    lines = [["Costs", *columns], *([title, *(cells[column] for column in columns)] for title, cells in known)]
    return [markdown_table(lines), CAPTION]


def compared_csv(rows: Sequence[ComparedRow]) -> str:
    """Return the rows as CSV, with all digits of the numbers; a missing number is an empty cell."""
    columns = "name,title,protocol,metric,published_mean,published_std,mean,std,ci95_low,ci95_high,difference,notes,run"
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*columns.split(","), *NAMES])
    for row in rows:
        paper = row.published_mean, row.published_std
        ours = row.mean, row.std, *(row.ci95 or (None, None)), row.difference
        told = [row.name, row.title, row.protocol, row.metric, *paper, *ours, "; ".join(row.notes), row.run]
        writer.writerow([*told, *asdict(row.costs).values()])
    return text.getvalue()


def write_compared(
    folder: Path,
    rows: Sequence[ComparedRow],
    *,
    title: str,
    paper: str,
    notes: Sequence[str],
    figures: Sequence[tuple[str, str]],
    comparisons: Sequence[tuple[str, Sequence[str]]],
    contrasts: Sequence[Contrast] = (),
) -> None:
    """Write ``results.csv``, ``results.md``, ``results.tex`` and ``report.html``.

    Args:
        folder: Output folder, created if missing; the links to run folders assume that they are beside it.
        rows: Rows of the table.
        title: Heading.
        paper: Source of the published numbers.
        notes: Notes that apply to all rows.
        figures: Name of a PNG file in the folder, without the suffix, and its caption.
        comparisons: Name of each comparison, and its results as sentences.
        contrasts: Runs compared layer by layer.
    """
    replace_file(folder / "results.csv", compared_csv(rows).encode())
    replace_file(folder / "results.tex", compared_latex(rows, title=title).encode())
    lines = [f"# {escaped(title)}", *([escaped(paper)] if paper else [])]
    lines += [compared_markdown(rows).rstrip(), *map(escaped, notes), *costs_markdown(rows)]
    lines += [
        f"{escaped(name)}:\n\n{chr(10).join(f'- {escaped(told)}' for told in sentences)}"
        for name, sentences in comparisons
    ]
    for contrast in contrasts:
        lines += [f"{contrast.heading} of each layer", markdown_table([contrast.columns, *contrast.rows()])]
        lines += map(escaped, contrast.conclusions)
    replace_file(folder / "results.md", ("\n\n".join(lines) + "\n").encode())
    page = render(
        "pipeline.html.jinja",
        title=title,
        paper=paper,
        tables=[
            (heading_of(metric), columns_of(of_metric), _by("protocol", of_metric))
            for metric, of_metric in _by("metric", rows)
        ],
        notes=notes,
        costs=[(title, cost_cells(costs)) for title, costs in titled_costs(rows) if costs.entries()],
        cost_columns=known_columns([costs for _, costs in titled_costs(rows)]),
        several=any(row.std is not None for row in rows),
        cost_caption=CAPTION,
        figures=figures_for_page(folder, figures),
        comparisons=comparisons,
        contrasts=contrasts,
    )
    replace_file(folder / "report.html", page.encode())
