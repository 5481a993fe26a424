"""Metrics of several runs → one results table for the terminal, in the format of papers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from featcache.errors import StoreError
from featcache.evaluate.scores import digits_of, find_score
from featcache.terminal.escape import escaped

if TYPE_CHECKING:
    from pathlib import Path

    from featcache.report.whole_words import WholeWordTable
    from featcache.terminal.console import Table

TEXT_COLUMNS = ("Features", "Layers", "Head", "Norm")
VALIDATION = "Validation"


@dataclass(frozen=True, kw_only=True)
class ResultRow:
    """One run of a results table.

    Attributes:
        features: Names of the feature stores, e.g. ``wav2vec2-base + egemaps``.
        layers: Selected layers, e.g. ``all`` or ``12``.
        head: Name of the head.
        norm: Normalisation scope.
        protocol: Name of the protocol.
        metrics: Content of the run's ``metrics.json``.
        validation: Validation scores of the run, by name.
    """

    features: str
    layers: str
    head: str
    norm: str
    protocol: str
    metrics: Mapping[str, Any]
    validation: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def scores(self) -> list[dict[str, str]]:
        """Printed lines, each as column → text: mean and standard deviation over seeds, and the confidence interval.

        A regression with several dimensions has one line for their mean and one line for each dimension. A run without
        a test part has validation scores only.
        """
        if "micro_f1" in self.metrics or "micro_f1" in self.validation:
            return [self._line("uar", beside=("macro_f1",))]
        if "uar" in self.metrics or "uar" in self.validation:
            return [self._line("uar", beside=("wa",))]
        dimensions = self.metrics["dimensions"]
        names = {"mean": "ccc", **{name: f"ccc_{name}" for name in dimensions}} if len(dimensions) > 1 else {"": "ccc"}
        return [({"Target": target} if target else {}) | self._line(name) for target, name in names.items()]

    def _line(self, name: str, *, beside: Sequence[str] = ()) -> dict[str, str]:
        """Return the columns of a score; ``beside`` names scores without an interval."""
        if name not in self.metrics and name in self.validation:
            shown = (find_score(one)[0].heading for one in (name, *beside))
            found = (_mean(self.validation[one], one) for one in (name, *beside))
            return {f"{VALIDATION} {heading}": text for heading, text in zip(shown, found, strict=True)}
        mean, *others = ({find_score(one)[0].heading: _mean(self.metrics[one], one)} for one in (name, *beside))
        cells = mean | {"95 % CI": interval(self.metrics[name]["ci95"], digits_of(name))}
        for other in others:
            cells |= other
        return cells | ({VALIDATION: _mean(self.validation[name], name)} if name in self.validation else {})


def _mean(score: Mapping[str, Any], name: str) -> str:
    return mean_and_std(score["mean"], score["std"], digits_of(name))


def results_table(rows: Sequence[ResultRow], *, validation: bool = True) -> "WholeWordTable":
    """Return a table for the terminal with one section per protocol.

    Args:
        rows: One per run.
        validation: Whether a column shows the validation score beside the test score.
    """
    columns = list(dict.fromkeys(column for row in rows for line in row.scores for column in line))
    columns = [column for column in columns if validation or column != VALIDATION]
    told = []
    for row in rows:
        names = [row.features, row.layers, row.head, row.norm]
        for line in row.scores:
            told.append((row.protocol, [*names, *(line.get(column, "-") for column in columns)]))
            names = [""] * len(names)
    return table_of_protocols(TEXT_COLUMNS, columns, told)


def table_of_protocols(
    texts: Sequence[str], scores: Sequence[str], rows: Sequence[tuple[str, Sequence[str]]], *, after: Sequence[str] = ()
) -> "WholeWordTable":
    """Return a table for the terminal with one section per protocol; a single protocol is the title of the table.

    Args:
        texts: Names of the text columns, which may continue on a second line.
        scores: Names of the score columns.
        rows: Protocol and cells of each row.
        after: Names of text columns to the right of the scores.
    """
    from rich import box
    from rich.text import Text

    from featcache.report.whole_words import WholeWordTable

    table = WholeWordTable(
        box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False, title_justify="left", title_style="bold"
    )
    for name in texts:
        table.add_column(name, overflow="fold")
    for name in scores:
        table.add_column(name, justify="right", no_wrap=True)
    for name in after:
        table.add_column(name)
    protocols = list(dict.fromkeys(protocol for protocol, _ in rows))
    for protocol in protocols:
        if len(protocols) == 1:
            table.title = escaped(protocol)
        else:
            table.add_row(Text(protocol, style="bold"))
        for tested, cells in rows:
            if tested == protocol:
                table.add_row(*cells)
        table.add_section()
    return table


def plain_table(*columns: str) -> "Table":
    """Return an empty table for the terminal without ruled lines."""
    from featcache.report.whole_words import WholeWordTable

    table = WholeWordTable(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def mean_and_std(mean: float | None, std: float | None, digits: int = 1) -> str:
    """Return ``67.2 ± 0.7``; ``67.2`` without a standard deviation (one seed); or ``-`` for an undefined score."""
    if mean is None:
        return "-"
    return f"{mean:.{digits}f}" if std is None else f"{mean:.{digits}f} ± {std:.{digits}f}"


def interval(bounds: Sequence[float] | None, digits: int = 1) -> str:
    """Return ``65.1–69.4``; ``-0.12 to 0.34`` if the lower bound is negative; or ``-`` if there is no interval."""
    if bounds is None:
        return "-"
    low, high = bounds
    between = " to " if low < 0 else "–"
    return f"{low:.{digits}f}{between}{high:.{digits}f}"


def score_table(*columns: str) -> "Table":
    """Return an empty table of scores for the terminal: a text column first, then right-aligned score columns."""
    from rich import box

    from featcache.report.whole_words import WholeWordTable

    table = WholeWordTable(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    table.add_column(columns[0], overflow="fold")
    for column in columns[1:]:
        table.add_column(column, justify="right", no_wrap=True)
    return table


def check_suffix(path: "Path | None", suffix: str) -> None:
    """Check that the suffix of an output file matches the format that is written.

    Args:
        path: Path given with ``--out``; a path without a suffix is accepted.
        suffix: Expected suffix.

    Raises:
        StoreError: The path has another suffix.
    """
    if path is not None and path.suffix.lower() not in ("", suffix):
        raise StoreError(f"--out {path}: this command writes {suffix} files only; name one that ends in {suffix}")
