"""``results.csv``, ``layer_weights.csv`` → scores and layer weights that papers report, for comparison with ours."""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from featcache.errors import PipelineError, unknown_name

WEIGHT_COLUMNS = ("source", "corpus", "features")
COLUMNS = ("source", "corpus", "protocol", "features", "layers", "head", "norm", "metric")


@dataclass(frozen=True, kw_only=True)
class PublishedResult:
    """Result that a paper reports.

    Corpus, protocol, features, layers, head and normalisation have their names in featcache, or the name in the paper
    if featcache has none.

    Attributes:
        source: Name of the paper.
        corpus: Corpus.
        protocol: Protocol, which assigns utterances to training, validation and test parts.
        features: Model or acoustic feature set.
        layers: Layers of the model.
        head: Head or classifier.
        norm: Normalisation scope.
        metric: Metric: ``uar``, ``wa``, ``ccc-arousal``, ….
        mean: Mean in percent, or a CCC in [-1, 1].
        std: Standard deviation over seeds; None if the paper does not report it.
        note: Further information.
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
    """Return all published results, in the order of the table."""
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
    """Return the only published result with these values.

    Args:
        wanted: Column → value, for enough columns to select a single row.

    Raises:
        PipelineError: the table has no such column, or no row or several rows match.
    """
    _check_columns(wanted)
    rows = published_results()
    for column, value in wanted.items():
        fitting = [row for row in rows if getattr(row, column) == value]
        if not fitting:
            there = ", ".join(sorted({getattr(row, column) or "''" for row in rows}))
            raise PipelineError(
                f"no published result has {column} {value!r} and the values given before it; available: {there}"
            )
        rows = tuple(fitting)
    if len(rows) > 1:
        told = ", ".join(f"{column} {value}" for column, value in wanted.items()) or "an empty selection"
        differing = [column for column in COLUMNS if len({getattr(row, column) for row in rows}) > 1]
        raise PipelineError(f"{len(rows)} published results match {told}; also give {' or '.join(differing)}")
    return rows[0]


def find_layer_weights(wanted: Mapping[str, str]) -> dict[int, float]:
    """Return the only published layer weights with these values.

    Args:
        wanted: Column → value for source, corpus and features; other columns are ignored, because a figure is not
            about a single score.

    Returns:
        Layer → weight; the weights of all layers sum to 1, except for rounding.

    Raises:
        PipelineError: no weights match, or those of several figures.
    """
    text = files("featcache.published").joinpath("layer_weights.csv").read_text(encoding="utf-8")
    _check_columns(wanted)
    chosen = {column: value for column, value in wanted.items() if column in WEIGHT_COLUMNS}
    rows = [row for row in csv.DictReader(text.splitlines()) if chosen.items() <= row.items()]
    told = ", ".join(f"{column} {value}" for column, value in chosen.items()) or "an empty selection"
    number = len({tuple(row[column] for column in WEIGHT_COLUMNS) for row in rows})
    if number != 1:
        raise PipelineError(f"{number or 'no'} published layer weights match {told}; expected exactly one figure line")
    return {int(row["layer"]): float(row["weight"]) for row in rows}


def _check_columns(wanted: Mapping[str, str]) -> None:
    for column in wanted:
        if column not in COLUMNS:
            raise PipelineError(unknown_name("column of published results", column, COLUMNS))
