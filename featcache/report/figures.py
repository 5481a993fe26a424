"""Confusion counts, predicted values, training histories → figures as PNG, SVG and PDF; and the style of all figures.

Figures are made without pyplot, so no figure stays open and no display is needed. They start from matplotlib's default
style, so they look the same with any user settings. They have the width of one or two columns of a paper, and no text
is smaller than 7 points in this size.
"""

import logging
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.style
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike, NDArray

from featcache.evaluate.scores import heading_of, name_of_main_score
from featcache.files.regular import replacing
from featcache.report.figure_width import figure_width
from featcache.report.fonts import drawable, families_for, num_columns

PNG_DPI = 200
SMALLEST = 7  # points: the smallest text of all figures
# With more trainings than this, the lines of training curves are thinner.
_FEW_LINES = 10
# Inches, in a confusion matrix: colour bar, smallest cells, and one digit.
_COLOUR_BAR, _NARROWEST_CELL, _LOWEST_CELL, _DIGIT = 0.55, 0.25, 0.31, 0.062

# Okabe & Ito 2008: distinct for all common kinds of colour blindness. Markers and line styles distinguish the groups
# in greyscale.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#882255")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<")
LINES: tuple[Any, ...] = ("-", "--", "-.", (0, (1, 1)), (0, (5, 1, 1, 1, 1, 1)), (0, (3, 2)), (0, (7, 2)), (0, (2, 1)))

# The lighter half of "Blues", so that black text is readable on every cell.
_LIGHT_BLUES = ListedColormap(matplotlib.colormaps["Blues"](np.linspace(0, 0.55, 256)))

_STYLE: dict[str, Any] = {
    "font.size": 7.5,
    "axes.labelsize": 7.5,
    "xtick.labelsize": SMALLEST,
    "ytick.labelsize": SMALLEST,
    "legend.fontsize": SMALLEST,
    "legend.frameon": False,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "lines.linewidth": 1.1,
    "lines.markersize": 3,
    "svg.hashsalt": "featcache",
    "pdf.fonttype": 42,  # TrueType, which publishers accept and whose text can be searched
}


def confusion_matrix(counts: ArrayLike, classes: Sequence[str]) -> Figure:
    """Draw a confusion matrix: recall in percent in each cell, and the number of utterances below it, if it fits.

    Args:
        counts: (num_classes, num_classes) numbers of utterances, one row per target class and one column per predicted
            class; may be means over seeds. The row of a class without utterances stays empty.
        classes: Labels of the rows and columns.

    Returns: the figure.
    """
    counts = np.asarray(counts, dtype=np.float64)
    totals = counts.sum(axis=1, keepdims=True)
    percent = np.divide(100 * counts, totals, out=np.zeros_like(counts), where=totals > 0)
    names = list(map(drawable, classes))
    longest = 0.06 * max(map(num_columns, names))
    beside = 0.4 + longest + _COLOUR_BAR
    width = figure_width(beside + _NARROWEST_CELL * len(classes))
    cell = (width - beside) / len(classes)
    slanted = longest > cell
    height = len(classes) * min(max(cell, _LOWEST_CELL), 0.45) + (0.35 + 0.75 * longest if slanted else 0.5)
    with style(classes):
        figure = Figure(figsize=(width, height), layout="constrained")
        axes = figure.add_subplot()
        image = axes.imshow(percent, cmap=_LIGHT_BLUES, vmin=0, vmax=100, aspect="auto")
        _print_cells(axes, percent, counts, cell)
        positions = range(len(classes))
        slant: dict[str, Any] = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"} if slanted else {}
        axes.set_xticks(positions, names, parse_math=False, **slant)
        axes.set_yticks(positions, names, parse_math=False)
        axes.set_xlabel("Predicted")
        axes.set_ylabel("Target")
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        borders = np.arange(len(classes) + 1) - 0.5
        axes.hlines(borders, -0.5, len(classes) - 0.5, color="white", linewidth=1)
        axes.vlines(borders, -0.5, len(classes) - 0.5, color="white", linewidth=1)
        bar = figure.colorbar(image, ax=axes, ticks=range(0, 101, 25), fraction=0.05, pad=0.02)
        bar.set_label("Recall (%)")
        bar.outline.set_visible(False)
    return figure


def _print_cells(axes: Axes, percent: NDArray[np.float64], counts: NDArray[np.float64], width: float) -> None:
    """Print the recall in each cell, and the count below it if the cells are wide enough (in inches)."""
    decimals = 0 if (counts == counts.round()).all() else 1
    fitting = [places for places in (decimals, 0) if _DIGIT * len(f"{counts.max():.{places}f}") < width]
    centred: dict[str, Any] = {"textcoords": "offset points", "ha": "center", "va": "center"}
    for row, column in np.argwhere(np.broadcast_to(counts.sum(axis=1, keepdims=True) > 0, counts.shape)):
        recall = f"{percent[row, column]:.0f}"
        axes.annotate(recall, (column, row), (0, 4 if fitting else 0), fontsize=8 if fitting else SMALLEST, **centred)
        if fitting:
            count = f"{counts[row, column]:.{fitting[0]}f}"
            axes.annotate(count, (column, row), (0, -5.5), fontsize=SMALLEST, color="0.3", **centred)


def predicted_values(predictions: pd.DataFrame, ranges: Mapping[str, Sequence[float]]) -> Figure:
    """Draw predictions against targets, one panel per dimension; predictions are averaged over seeds.

    Args:
        predictions: Rows of ``predictions.csv`` of a regression.
        ranges: Dimension → lowest and highest label.

    Returns: the figure.
    """
    means = predictions.drop(columns=["seed", "fold", "speaker_id"]).groupby("utterance_id").mean(numeric_only=True)
    columns = min(len(ranges), 3)
    rows = math.ceil(len(ranges) / columns)
    width = figure_width()
    side = width / columns if columns > 1 else 2.3
    with style(ranges):
        figure = Figure(figsize=(width, (side + 0.25) * rows), layout="constrained")
        for number, (name, bounds) in enumerate(ranges.items(), start=1):
            axes = figure.add_subplot(rows, columns, number)
            target, predicted = means[f"target_{name}"], means[f"prediction_{name}"]
            alpha = min(0.7, max(0.08, 200 / len(means)))
            axes.plot(target, predicted, ".", color=COLORS[0], markersize=3, markeredgewidth=0, alpha=alpha)
            axes.plot(bounds, bounds, color="0.5", linewidth=0.6, linestyle=(0, (4, 3)), zorder=0)
            axes.set_title(drawable(name), fontsize=7.5, parse_math=False)
            axes.set_aspect("equal")
            low, high = min(bounds[0], predicted.min()), max(bounds[1], predicted.max())
            axes.set(xlim=(low, high), ylim=(low, high))
            for axis in (axes.xaxis, axes.yaxis):
                axis.set_major_locator(MaxNLocator(4))
            axes.set_xlabel("Target")
            if number % columns == 1 or columns == 1:
                axes.set_ylabel("Predicted")
    return figure


def line_with_bars(axes: Axes, number: int, x: Any, mean: Any, std: Any) -> Line2D:
    """Draw a line with error bars, and return the line.

    Args:
        axes: Where to draw.
        number: Number of the line, from 0 on; it determines color, marker and line style.
        x: (num_points,) positions.
        mean: (num_points,) values.
        std: (num_points,) half lengths of the bars.
    """
    which = number % len(COLORS)
    bars = axes.errorbar(
        x,
        mean,
        yerr=std,
        color=COLORS[which],
        marker=MARKERS[which],
        linestyle=LINES[which],
        capsize=1.5,
        elinewidth=0.7,
        capthick=0.7,
    )
    line: Line2D = bars.lines[0]
    return line


def training_curves(history: pd.DataFrame, *, stop_on: str = "loss") -> Figure:
    """Draw the losses over epochs and, below them, the validation score: one thin line per seed and fold.

    A dot marks the epoch with the lowest validation loss or highest score, whose weights are kept. If evaluations are a
    number of training steps apart, the horizontal axis shows training steps.

    Args:
        history: Rows of ``history.csv``: seed, fold, epoch, train_loss, validation_loss, ``validation_uar`` or
            ``validation_ccc``, and step if evaluations are a number of training steps apart.
        stop_on: Criterion by which the weights were chosen: ``loss``, or the score.

    Returns: the figure.
    """
    losses: dict[str, tuple[str, str, Any]] = {
        "train_loss": ("training", COLORS[1], "--"),
        "validation_loss": ("validation", COLORS[0], "-"),
    }
    score = name_of_main_score(history, "validation_")
    time = "step" if "step" in history else "epoch"
    runs = [run.assign(time=run[time]) for _, run in history.sort_values(time).groupby(["seed", "fold"])]
    criterion = "validation_loss" if stop_on == "loss" else f"validation_{stop_on}"
    # Many lines on top of each other are readable only if each is faint.
    look = {"linewidth": 0.8 if len(runs) <= _FEW_LINES else 0.5, "alpha": max(0.2, min(0.9, 3 / len(runs)))}
    with style():
        figure = Figure(figsize=(figure_width(), 2.3 if score is None else 3.2), layout="constrained")
        panels = figure.subplots(1 if score is None else 2, 1, sharex=True, squeeze=False)[:, 0]
        for column, (_, color, line) in losses.items():
            _draw_epochs(panels[0], runs, column, {"color": color, "linestyle": line, **look}, criterion)
        panels[0].update_datalim([(0, 0)])
        panels[0].autoscale_view()
        panels[0].set(xlim=(0, None), ylim=(0, None), ylabel="Loss")
        if score is not None:
            shown = [run.assign(score=run[f"validation_{score}"] * (100 if score == "uar" else 1)) for run in runs]
            _draw_epochs(panels[1], shown, "score", {"color": losses["validation_loss"][1], **look}, criterion)
            panels[1].set_ylabel(f"Validation {heading_of(score)}")
        lines = [Line2D([], [], color=color, linestyle=line) for _, color, line in losses.values()]
        best = "lowest validation loss" if stop_on == "loss" else f"highest validation {heading_of(stop_on)}"
        dot = Line2D([], [], color="black", marker=".", markersize=5, linestyle="none")
        labels = [*(label for label, _, _ in losses.values()), best]
        figure.legend([*lines, dot], labels, loc="outside upper center", ncols=3)
        panels[-1].xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
        panels[-1].set_xlabel("Epoch" if time == "epoch" else "Training step")
        figure.align_ylabels()
    return figure


def _draw_epochs(
    axes: Axes, runs: Sequence[pd.DataFrame], column: str, look: Mapping[str, Any], criterion: str
) -> None:
    """Draw a column of the history over time; dots mark the evaluations with the lowest loss or highest score."""
    size, alpha = (6, 1.0) if len(runs) <= _FEW_LINES else (4, 0.6)
    dot: dict[str, Any] = {"color": "black", "markersize": size, "markeredgewidth": 0, "alpha": alpha}
    for run in runs:
        marker = "." if len(run) == 1 else None  # a line with a single point is invisible
        axes.plot(run["time"], run[column], marker=marker, **look)
        if column != "train_loss":
            finite = run.dropna(subset=["validation_loss"])
            find = finite.nsmallest if criterion == "validation_loss" else finite.nlargest
            best = find(1, criterion)
            if not best.empty:  # else the training diverged
                axes.plot(best["time"], best[column], ".", **dot)


def relative_gains(gains: pd.DataFrame, *, metric: str) -> Figure:
    """Draw the relative gain of each pair of runs in percent, with its interval.

    Args:
        gains: Columns title, gain, low, high and published, in percent; undefined values are NaN and are not drawn.
        metric: Name of the score, for the axis label.

    Returns: the figure.

    Source: de Oliveira et al. 2023, Figure 3, which has no intervals.
    """
    names = list(map(drawable, gains["title"]))
    with style(gains["title"]):
        width = figure_width(0.06 * max(map(num_columns, names), default=0) + 0.9)
        figure = Figure(figsize=(width, 1.0 + 0.28 * len(gains)), layout="constrained")
        axes = figure.add_subplot()
        places = np.arange(len(gains))
        axes.barh(places, gains["gain"], height=0.6, color=COLORS[0], alpha=0.85)
        known = gains["low"].notna().to_numpy()
        axes.hlines(places[known], gains["low"][known], gains["high"][known], color="0.15", linewidth=0.9)
        axes.plot(gains["low"][known], places[known], "|", color="0.15", markersize=4)
        axes.plot(gains["high"][known], places[known], "|", color="0.15", markersize=4)
        axes.axvline(0, color="0.3", linewidth=0.6)
        if gains["published"].notna().any():
            axes.plot(gains["published"], places, "D", color=COLORS[1], markersize=4, label="published")
            figure.legend(loc="outside upper center")
        axes.set_yticks(places, names, parse_math=False)
        axes.set_ylim(len(gains) - 0.5, -0.5)
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel(f"Relative gain in {metric} (%)")
    return figure


def save(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write ``<path>.png`` (200 dpi), ``<path>.svg`` and ``<path>.pdf``; the same figure gives the same bytes.

    Args:
        figure: Figure to write.
        path: Output path without a suffix.
    """
    path = Path(path)
    # A version or a date would change the bytes.
    metadata = {"png": {"Software": None}, "svg": {"Date": None}, "pdf": {"CreationDate": None, "Producer": None}}
    logging.getLogger("fontTools").setLevel(logging.ERROR)  # it reports each table of an embedded font
    with style():
        figure.draw_without_rendering()  # with square cells a single layout pass leaves labels outside of the figure
        for suffix, without in metadata.items():
            with replacing(path.with_name(f"{path.name}.{suffix}")) as temporary:
                figure.savefig(temporary, format=suffix, dpi=PNG_DPI, metadata=without)


def style(texts: Iterable[str] = ()) -> AbstractContextManager[None]:
    """Return the style for making and saving figures, with fonts that can show the texts."""
    return matplotlib.style.context(["default", {**_STYLE, "font.family": families_for(texts)}])
