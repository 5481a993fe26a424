"""Metrics of several runs → one table like the papers', for the terminal or as Markdown."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table

TEXT_COLUMNS = ("Features", "Layers", "Head", "Norm")
SCORE_COLUMNS = ("UAR (%)", "95 % CI", "WA (%)")


@dataclass(frozen=True, kw_only=True)
class ResultRow:
    """One run in a table.

    Attributes:
        features: The feature stores, e.g. ``wav2vec2-base + egemaps``.
        layers: Which layers, e.g. ``all`` or ``12``.
        head: The name of the head.
        norm: The normalisation scope.
        protocol: The name of the protocol.
        uar_mean: Unweighted average recall in percent, mean over seeds.
        uar_std: Its standard deviation over seeds; None for one seed.
        uar_ci95: Lower and upper bound of its confidence interval, in percent.
        wa_mean: Weighted accuracy in percent, mean over seeds.
        wa_std: Its standard deviation over seeds; None for one seed.
    """

    features: str
    layers: str
    head: str
    norm: str
    protocol: str
    uar_mean: float
    uar_std: float | None
    uar_ci95: tuple[float, float]
    wa_mean: float
    wa_std: float | None

    @classmethod
    def from_metrics(
        cls, metrics: Mapping[str, Any], *, features: str, layers: str, head: str, norm: str, protocol: str
    ) -> "ResultRow":
        """The row of a run, from the content of its ``metrics.json``."""
        uar, wa = metrics["uar"], metrics["wa"]
        return cls(
            features=features,
            layers=layers,
            head=head,
            norm=norm,
            protocol=protocol,
            uar_mean=uar["mean"],
            uar_std=uar["std"],
            uar_ci95=(uar["ci95"][0], uar["ci95"][1]),
            wa_mean=wa["mean"],
            wa_std=wa["std"],
        )


def results_table(rows: Sequence[ResultRow]) -> "Table":
    """A table for the terminal, one section per protocol, no wider than 80 columns."""
    return table_of_protocols(TEXT_COLUMNS, SCORE_COLUMNS, [(row.protocol, _cells(row)) for row in rows])


def table_of_protocols(
    texts: Sequence[str], scores: Sequence[str], rows: Sequence[tuple[str, Sequence[str]]], *, after: Sequence[str] = ()
) -> "Table":
    """A table for the terminal, one section per protocol, or with the only one as its title.

    Args:
        texts: Names of the columns that may be folded.
        scores: Names of the columns of numbers.
        rows: The protocol and the cells of each row.
        after: Names of further columns.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False, title_justify="left", title_style="bold")
    for name in texts:
        table.add_column(name, overflow="fold")
    for name in scores:
        table.add_column(name, justify="right", no_wrap=True)
    for name in after:
        table.add_column(name)
    protocols = list(dict.fromkeys(protocol for protocol, _ in rows))
    for protocol in protocols:
        # Text, because rich reads square brackets in a plain string as markup
        if len(protocols) == 1:
            table.title = Text(protocol)
        else:
            table.add_row(Text(protocol, style="bold"))
        for tested, cells in rows:
            if tested == protocol:
                table.add_row(*map(Text, cells))
        table.add_section()
    return table


def to_markdown(rows: Sequence[ResultRow]) -> str:
    """The same table as Markdown, with the protocol as first column; ends in a line break."""
    head = ["Protocol", *TEXT_COLUMNS, *SCORE_COLUMNS]
    lines = [head, ["---"] * 5 + ["---:"] * 3, *([row.protocol, *_cells(row)] for row in rows)]
    escaped = [[cell.replace("|", r"\|") for cell in line] for line in lines]
    return "".join(f"| {' | '.join(line)} |\n" for line in escaped)


def mean_and_std(mean: float | None, std: float | None, digits: int = 1) -> str:
    """``67.2 ± 0.7``, ``67.2`` where one seed gives no standard deviation, or ``-`` for a score without meaning."""
    if mean is None:
        return "-"
    return f"{mean:.{digits}f}" if std is None else f"{mean:.{digits}f} ± {std:.{digits}f}"


def interval(bounds: Sequence[float] | None, digits: int = 1) -> str:
    """``65.1–69.4``, or ``-0.12 to 0.34`` where a bound is negative; ``-`` for none."""
    if bounds is None:
        return "-"
    low, high = bounds
    between = " to " if low < 0 else "–"
    return f"{low:.{digits}f}{between}{high:.{digits}f}"


def _cells(row: ResultRow) -> tuple[str, ...]:
    scores = mean_and_std(row.uar_mean, row.uar_std), interval(row.uar_ci95), mean_and_std(row.wa_mean, row.wa_std)
    return row.features, row.layers, row.head, row.norm, *scores
