"""Two runs per layer → table and figure of both scores, their difference, its interval and p value."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featcache.evaluate.compare import SIGNIFICANT, Comparison, compare, corrected, p_of, sentence
from featcache.evaluate.scores import digits_of, heading_of
from featcache.files.regular import replace_file
from featcache.report.tables import interval, mean_and_std, score_table
from featcache.runs.reader import RunFolder, load_predictions

if TYPE_CHECKING:
    import pandas as pd

    from featcache.terminal.console import Table

ALL = "all"


@dataclass(frozen=True, kw_only=True)
class LayerContrast:
    """Two runs on the same layer.

    Attributes:
        layer: Number of the layer as text, or ``all``.
        first, second: Score of each run: ``mean``, ``std`` and ``ci95``, as in ``metrics.json``.
        found: Their comparison, with Holm's correction for all layers.
    """

    layer: str
    first: Mapping[str, Any]
    second: Mapping[str, Any]
    found: Comparison

    def cells(self, digits: int) -> list[str]:
        """Return the printed text of each column."""
        return [
            self.layer,
            *(cell for score in (self.first, self.second) for cell in _score_cells(score, digits)),
            f"{self.found.difference:+.{digits}f}",
            interval(self.found.ci95, digits),
            p_text(self.found),
        ]


@dataclass(frozen=True, kw_only=True)
class Contrast:
    """Two runs compared layer by layer, for example with a trained and an untrained model.

    Attributes:
        name: Name of the files.
        labels: Names of the first and the second run.
        metric: Name of the score.
        chance: Chance level of the score; None if it is not known.
        layers: The layers in order, and then all layers together.
    """

    name: str
    labels: tuple[str, str]
    metric: str
    chance: float | None
    layers: tuple[LayerContrast, ...]

    @property
    def columns(self) -> list[str]:
        """Names of the columns."""
        first, second = self.labels
        return ["Layer", first, "95 % CI", second, "95 % CI", "Diff.", "95 % CI", "p"]

    def rows(self) -> list[list[str]]:
        """Return the printed cells, one row per layer."""
        return [one.cells(digits_of(self.metric)) for one in self.layers]

    @property
    def heading(self) -> str:
        """Name of the score, with its unit."""
        return heading_of(self.metric)

    @property
    def conclusions(self) -> list[str]:
        """The result for all layers as a sentence, and what the p values are."""
        together = [f"All layers: {sentence(one.found)}" for one in self.layers if one.layer == ALL]
        return [
            *together,
            f"p values have Holm's correction for the {len(self.layers)} rows; one that cannot be below "
            f"{SIGNIFICANT} is not shown.",
        ]


def contrast_of(
    name: str,
    labels: tuple[str, str],
    pairs: Mapping[str, tuple[RunFolder, RunFolder]],
    *,
    metric: str,
    scores: Mapping[str, tuple[Mapping[str, Any], Mapping[str, Any]]],
) -> Contrast:
    """Compare two runs on each layer.

    Args:
        name: Name of the files.
        labels: Names of the first and the second run.
        pairs: Layer → the two runs.
        metric: Name of the score.
        scores: Layer → the score of each run, from its ``metrics.json``.

    Raises:
        PredictionsError: Two runs were not tested on the same utterances, or have no such score.
    """
    found = []
    for layer, runs in pairs.items():
        told = [label if layer == ALL else f"{label}, layer {layer}" for label in labels]
        tested = {label: load_predictions(run) for label, run in zip(told, runs, strict=True)}
        found += compare(tested, score=metric)
    chance = next(iter(pairs.values()))[0].metrics.get("chance_uar") if metric == "uar" else None
    return Contrast(
        name=name,
        labels=labels,
        metric=metric,
        chance=chance,
        layers=tuple(
            LayerContrast(layer=layer, first=scores[layer][0], second=scores[layer][1], found=one)
            for layer, one in zip(pairs, corrected(found), strict=True)
        ),
    )


def contrast_table(contrast: Contrast) -> "Table":
    """Return the table for the terminal."""
    table = score_table(*contrast.columns)
    for cells in contrast.rows():
        table.add_row(*cells)
    return table


def write_contrast(contrast: Contrast, path: Path) -> None:
    """Draw the scores of each layer (PNG and SVG), and write all numbers as CSV.

    Args:
        contrast: The comparison.
        path: Output path without a suffix.
    """
    from featcache.report.figures import save
    from featcache.report.layer_figures import layer_contrast

    figure = layer_contrast(_drawn(contrast), labels=contrast.labels, chance=contrast.chance, ylabel=contrast.heading)
    save(figure, path)
    replace_file(path.with_name(f"{path.name}.csv"), contrast_csv(contrast).encode())


def _drawn(contrast: Contrast) -> "pd.DataFrame":
    """Return the columns that the figure needs; a missing bound is NaN."""
    import pandas as pd

    names = ["first", "first_low", "first_high", "second", "second_low", "second_high", "difference", "low", "high"]
    rows = [
        [
            *(number for score in (one.first, one.second) for number in (score["mean"], *_bounds(score["ci95"]))),
            one.found.difference,
            *_bounds(one.found.ci95),
        ]
        for one in contrast.layers
    ]
    layers = [one.layer for one in contrast.layers]
    return pd.DataFrame(rows, columns=names, index=layers, dtype=float).rename_axis("layer").reset_index()


def contrast_csv(contrast: Contrast) -> str:
    """Return all numbers as CSV; a missing number is an empty cell."""
    of_run = [f"{run}_{value}" for run in ("first", "second") for value in ("mean", "std", "ci95_low", "ci95_high")]
    of_pair = ["difference", "ci95_low", "ci95_high", "p", "p_holm", "unit", "count"]
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["layer", "first", "second", "metric", *of_run, *of_pair])
    for one in contrast.layers:
        found = one.found
        scores = [
            value
            for score in (one.first, one.second)
            for value in (score["mean"], score["std"], *_bounds(score["ci95"]))
        ]
        p = found.p_utterances if found.p_speakers is None else found.p_speakers
        pair = [found.difference, *_bounds(found.ci95), p, p_of(found), found.unit, found.count]
        writer.writerow([one.layer, *contrast.labels, contrast.metric, *scores, *pair])
    return text.getvalue()


def _bounds(ci95: Sequence[float] | None) -> Sequence[float | None]:
    return (None, None) if ci95 is None else ci95


def _score_cells(score: Mapping[str, Any], digits: int) -> list[str]:
    return [mean_and_std(score["mean"], score["std"], digits), interval(score["ci95"], digits)]


def p_text(found: Comparison) -> str:
    """Return the corrected p value as text; a dash if too few speakers make a significant one impossible."""
    least = found.least_p_speakers_holm
    return "-" if least is not None and least >= SIGNIFICANT else f"{p_of(found):.2g}"
