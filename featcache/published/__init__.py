"""``results.csv`` → what papers report, row by row, to stand beside what is found here."""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from featcache.errors import PipelineError

COLUMNS = ("source", "corpus", "protocol", "features", "layers", "head", "norm", "metric")


@dataclass(frozen=True, kw_only=True)
class PublishedResult:
    """A number that a paper reports.

    Attributes:
        source: The paper.
        corpus: Where it was found, as are the next ones: the paper's own words where it has no other.
        protocol: Which utterances trained and tested.
        features: The model, or the descriptors.
        layers: Of the model.
        head: What was trained.
        norm: The scope of normalisation.
        metric: ``uar``, ``wa``, or ``ccc-arousal`` and so on.
        mean: In percent, or a CCC in [-1, 1].
        std: Over seeds; None where it is not told.
        note: What else is known.
    """

    source: str
    corpus: str
    protocol: str
    features: str
    layers: str
    head: str
    norm: str
    metric: str
    mean: float
    std: float | None
    note: str


@cache
def published_results() -> tuple[PublishedResult, ...]:
    """All rows, in the order of the table."""
    text = files("featcache.published").joinpath("results.csv").read_text(encoding="utf-8")
    rows = csv.DictReader(text.splitlines())
    return tuple(
        PublishedResult(
            **{column: row[column] for column in (*COLUMNS, "note")},
            mean=float(row["mean"]),
            std=float(row["std"]) if row["std"] else None,
        )
        for row in rows
    )


def find_published(wanted: Mapping[str, str]) -> PublishedResult:
    """The row that has these values.

    Args:
        wanted: Column → value; as many as it takes to tell the row from the others.

    Raises:
        PipelineError: a column that the table has not; no row, or several.
    """
    strange = sorted(wanted.keys() - set(COLUMNS))
    if strange:
        raise PipelineError(f"published results have no column {strange[0]!r}; expected some of {', '.join(COLUMNS)}")
    rows = published_results()
    for column, value in wanted.items():
        fitting = [row for row in rows if getattr(row, column) == value]
        if not fitting:
            there = ", ".join(sorted({getattr(row, column) or "''" for row in rows}))
            raise PipelineError(
                f"no published result has {column} {value!r} beside the columns before it; found: {there}"
            )
        rows = tuple(fitting)
    if len(rows) > 1:
        told = ", ".join(f"{column} {value}" for column, value in wanted.items()) or "nothing"
        differing = [column for column in COLUMNS if len({getattr(row, column) for row in rows}) > 1]
        raise PipelineError(f"{len(rows)} published results have {told}; tell them apart by {' or '.join(differing)}")
    return rows[0]
