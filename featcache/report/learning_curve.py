"""Scores of runs with several sizes of the training part → learning curves (PNG, SVG, PDF) and their table (CSV)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from featcache.evaluate.scores import heading_of
from featcache.files.regular import replace_file
from featcache.report.figure_width import figure_width
from featcache.report.figures import COLORS, SMALLEST, line_with_bars, save, style
from featcache.report.fonts import drawable
from featcache.report.layers import drawing
from featcache.runs.reader import RunFolder

NAME = "learning_curve"
# Settings that tell lines apart.
LINE_SETTINGS = ("features", "head", "norm", "layers")
_HEIGHT, _LEGEND_ROW = 2.3, 0.14  # inches
# Inches: a character of the axis labels, and the least distance between two labels.
_CHARACTER, _BETWEEN_LABELS = 0.06, 0.08


def curve_path(runs: Sequence[RunFolder]) -> Path:
    """Return the path of the learning curve of some runs, without suffix: beside the first run folder."""
    return runs[0].path.parent / NAME


def draw_learning_curve(table: pd.DataFrame, path: Path) -> None:
    """Draw learning curves: one line per combination of features, head, normalisation and layers.

    Error bars are the standard deviation over seeds. The shaded band is the 95 % interval of the mean over speakers and
    seeds.

    Args:
        table: One row per run: features, head, norm, layers, fraction, speakers and utterances (of the training part,
            mean over folds), score, mean, std (ddof = 1 over seeds; NaN for one seed), ci95_low, ci95_high, chance,
            num_seeds, run.
        path: Output path without a suffix; ``.png``, ``.svg``, ``.pdf`` and ``.csv`` are added.

    Raises:
        DiskError: The files cannot be written.
    """
    with drawing(required=False):
        save(learning_curve(table), path)
        replace_file(path.with_name(f"{path.name}.csv"), table.to_csv(index=False).encode())


def lines_of(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return label → rows of each line; the label has the settings in which the lines differ.

    Args:
        table: See :func:`draw_learning_curve`.
    """
    differing = [name for name in LINE_SETTINGS if table[name].nunique() > 1]
    if not differing:
        return {"": table}
    groups: Mapping[Any, pd.DataFrame] = dict(list(table.groupby(differing, sort=False)))
    return {", ".join(_told(differing, key)): rows for key, rows in groups.items()}


def _told(names: Sequence[str], values: Sequence[str]) -> list[str]:
    words = {"norm": "{} normalisation", "layers": "layers {}"}
    return [words.get(name, "{}").format(value) for name, value in zip(names, values, strict=True)]


def learning_curve(table: pd.DataFrame) -> Figure:
    """Draw learning curves, see :func:`draw_learning_curve`.

    Returns: the figure.
    """
    lines = lines_of(table)
    width = figure_width()
    columns = max(1, min(len(lines), int(width / (0.5 + 0.06 * max(map(len, lines))))))
    rows = -(-len(lines) // columns) if len(lines) > 1 else 0
    with style(lines):
        figure = Figure(figsize=(width, _HEIGHT + _LEGEND_ROW * rows), layout="constrained")
        axes = figure.add_subplot()
        drawn = [_draw_line(axes, number, rows) for number, rows in enumerate(lines.values())]
        chance = float(table["chance"].iloc[0])
        axes.axhline(chance, color="0.5", linewidth=0.6, linestyle=(0, (4, 3)), zorder=0)
        axes.text(1.01, chance, "chance", transform=axes.get_yaxis_transform(), va="center", fontsize=SMALLEST)
        axes.set_ylabel(heading_of(table["score"].iloc[0]))
        _size_axis(axes, table, width)
        if len(lines) > 1:
            legend = figure.legend(drawn, list(map(drawable, lines)), loc="outside upper center", ncols=columns)
            for text in legend.get_texts():
                text.set_parse_math(False)
    return figure


def _draw_line(axes: Axes, number: int, rows: pd.DataFrame) -> Any:
    """Draw a line with error bars and a band; return the line."""
    rows, color = rows.sort_values("speakers"), COLORS[number % len(COLORS)]
    bounds = rows[["ci95_low", "ci95_high"]].astype(float)
    axes.fill_between(rows["speakers"], bounds["ci95_low"], bounds["ci95_high"], color=color, alpha=0.12, lw=0)
    mean, std = (rows[name].astype(float) for name in ("mean", "std"))
    return line_with_bars(axes, number, rows["speakers"], mean, std.fillna(0))


def _size_axis(axes: Axes, table: pd.DataFrame, width: float) -> None:
    """Label the axis with the numbers of speakers and, below them, of utterances."""
    sizes = table.groupby("speakers")["utterances"].mean()
    low, high = float(sizes.index.min()), float(sizes.index.max())
    longest = max(len(f"{number:.0f}") for number in sizes)
    label = max(0.3, _CHARACTER * longest + _BETWEEN_LABELS)
    shown: list[float] = []
    for size in sorted(sizes.index, reverse=True):  # the complete training part is always shown
        if not shown or (shown[-1] - size) / max(high - low, 1e-9) * (width - 1) >= label:
            shown.append(size)
    axes.set_xticks(shown, [f"{_number(size)}\n{sizes[size]:.0f}" for size in shown])
    axes.set_xlabel("Training speakers, and utterances below (mean over folds)")


def _number(value: float) -> str:
    return f"{np.round(value, 1):g}" if value < 100 else f"{value:.0f}"
