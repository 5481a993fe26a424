"""Predictions for the windows of a recording → a figure of classes or dimensional labels over time."""

import math
import re
import textwrap
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from featcache.errors import PredictionsError, listed
from featcache.report.figure_width import DOUBLE, SINGLE, figure_width
from featcache.report.figures import COLORS, LINES, MARKERS, save, style
from featcache.report.fonts import drawable, num_columns
from featcache.targets.targets import REGRESSION

Outputs = Sequence[str] | Mapping[str, Sequence[float]]

# With more windows, the figure spans both columns; with more, the windows have no markers.
_MOST_OF_NARROW, _MOST_MARKED = 60, 40
# Inches: line beside a label, character of a label, row of the legend, character of the caption.
_LEGEND_LINE, _LEGEND_CHARACTER, _LEGEND_ROW, _CAPTION_CHARACTER = 0.4, 0.06, 0.14, 0.055
_ALPHA = 0.18  # of the bands
_MOST_OF_NAME = 100  # characters of a recording's path in the name of its figure


def draw_timeline(table: pd.DataFrame, *, outputs: Outputs, task: str) -> Figure:
    """Draw what is predicted for each window of one recording over time.

    A point is the mean over the heads, at the middle of its window; the band is the mean ± the standard deviation over
    the heads. The line is interrupted where the recording has no window.

    Args:
        table: Rows of one recording: path; start, end in seconds; ``p_<class>``, ``std_<class>`` for each class, or
            ``<dimension>``, ``std_<dimension>`` for each dimension.
        outputs: Classes, or dimension → lowest and highest label. Dimensions with different ranges have a panel each.
        task: ``classification``, ``regression`` or ``multilabel``.

    Returns: the figure.

    Raises:
        PredictionsError: the rows are of several recordings, or a row has no start or end.
    """
    paths = sorted(set(table["path"]))
    if len(paths) != 1:
        raise PredictionsError(f"a figure over time shows one recording, found {len(paths)}: {listed(paths)}")
    _check_times(table)
    table = table.sort_values(["start", "end"])
    panels = _panels(outputs)
    width = figure_width(SINGLE if len(table) <= _MOST_OF_NARROW else DOUBLE)
    with style(outputs):
        height = 1.25 * len(panels) + 0.8 + _LEGEND_ROW * (_legend_rows(outputs, width) if len(panels) == 1 else 0)
        figure = Figure(figsize=(width, max(2.2, height)), layout="constrained")
        shown = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
        lines: dict[str, Line2D] = {}
        for axes, (names, limits) in zip(shown, panels, strict=True):
            columns = [name if task == REGRESSION else f"p_{name}" for name in names]
            for name, column in zip(names, columns, strict=True):
                lines[name] = _draw(axes, table, column, f"std_{name}", number=len(lines))
            predicted = table[columns].to_numpy(np.float64)  # a head may predict values outside of the labels' range
            axes.set_ylim(min(limits[0], predicted.min()), max(limits[1], predicted.max()))
            ylabel = "Predicted value" if task == REGRESSION else "Probability"
            axes.set_ylabel(drawable(names[0]) if len(panels) > 1 else ylabel, parse_math=False)
        shown[-1].set_xlim(float(table["start"].min()), float(table["end"].max()))
        shown[-1].xaxis.set_major_locator(MaxNLocator(6 if width == SINGLE else 12))
        shown[-1].set_xlabel("Time (s)")
        stds = table[[f"std_{name}" for name in outputs]].to_numpy(np.float64)
        caption = textwrap.fill(_caption(table, bands=bool((stds > 0).any())), int(width / _CAPTION_CHARACTER))
        figure.supxlabel(caption, fontsize=7, color="0.35")
        if len(panels) == 1:
            _legend(figure, lines, width)
        figure.align_ylabels()
    return figure


def write_timelines(table: pd.DataFrame, path: Path, *, outputs: Outputs, task: str) -> list[Path]:
    """Draw one figure per recording, as PNG, SVG and PDF.

    Args:
        table: Predictions of any number of recordings, see :func:`draw_timeline`.
        path: Output path without a suffix. With several recordings, the path of each recording is added to the name.
        outputs: Classes, or dimension → lowest and highest label.
        task: ``classification``, ``regression`` or ``multilabel``.

    Returns:
        Paths without a suffix, in the order of the recordings in the table.

    Raises:
        PredictionsError: a row has no start or end. No figure is written then.
        DiskError: a figure cannot be written.
    """
    _check_times(table)
    of_recording = dict(list(table.groupby("path", sort=False)))
    names = _file_names([str(recording) for recording in of_recording], path)
    for name, rows in zip(names, of_recording.values(), strict=True):
        save(draw_timeline(rows, outputs=outputs, task=task), name)
    return names


def _check_times(table: pd.DataFrame) -> None:
    untimed = table[table["start"].isna() | table["end"].isna()]
    if len(untimed):
        raise PredictionsError(
            f"a figure over time needs windows, but {untimed['path'].iloc[0]!r} is predicted as a whole; "
            "add --window 4 --hop 1"
        )


def _file_names(recordings: Sequence[str], path: Path) -> list[Path]:
    if len(recordings) == 1:
        return [path]
    plain = [re.sub(r"[^\w.-]+", "-", str(PurePosixPath(one).with_suffix("")))[-_MOST_OF_NAME:] for one in recordings]
    counts = Counter(name.casefold() for name in plain)  # some disks do not distinguish upper and lower case
    numbered = (f"{number}-{name}" if counts[name.casefold()] > 1 else name for number, name in enumerate(plain, 1))
    return [path.with_name(f"{path.name}-{name}") for name in numbered]


def _panels(outputs: Outputs) -> list[tuple[list[str], tuple[float, float]]]:
    """Return the outputs of each panel and the limits of its axis."""
    if not isinstance(outputs, Mapping):
        return [(list(outputs), (0.0, 1.0))]
    ranges = {name: (float(bounds[0]), float(bounds[1])) for name, bounds in outputs.items()}
    if len(set(ranges.values())) == 1:
        return [(list(ranges), next(iter(ranges.values())))]
    return [([name], bounds) for name, bounds in ranges.items()]


def _draw(axes: Axes, table: pd.DataFrame, column: str, std: str, *, number: int) -> Line2D:
    """Draw one output with its band, and return its line."""
    middle = (table["start"] + table["end"]).to_numpy() / 2
    mean, deviation = table[column].to_numpy(np.float64), table[std].to_numpy(np.float64)
    gaps = np.flatnonzero(table["start"].to_numpy()[1:] > np.maximum.accumulate(table["end"].to_numpy())[:-1]) + 1
    middle, mean, deviation = (np.insert(values, gaps, np.nan) for values in (middle, mean, deviation))
    # A colour occurs again after eight outputs, then with another kind of line.
    color, kind = COLORS[number % len(COLORS)], LINES[(number + number // len(COLORS)) % len(LINES)]
    marker = MARKERS[number % len(MARKERS)] if len(table) <= _MOST_MARKED else None
    (line,) = axes.plot(middle, mean, color=color, linestyle=kind, marker=marker, clip_on=False, zorder=3)
    axes.fill_between(middle, mean - deviation, mean + deviation, color=color, alpha=_ALPHA, linewidth=0)
    return line


def _caption(table: pd.DataFrame, *, bands: bool) -> str:
    """Return the length of the windows, the time between them, and the meaning of the bands."""
    length = float((table["end"] - table["start"]).median())
    text = f"Windows of {length:.3g} s" if len(table) > 1 else f"One window of {length:.3g} s"
    if len(table) > 1:
        text += f", one every {float(table['start'].diff().median()):.3g} s"
    return f"{text}. Bands: mean ± one standard deviation over the heads." if bands else f"{text}."


def _legend(figure: Figure, lines: Mapping[str, Line2D], width: float) -> None:
    columns = _legend_columns(list(lines), width)
    names = [drawable(name) for name in lines]
    legend = figure.legend(list(lines.values()), names, loc="outside upper center", ncols=columns)
    for text in legend.get_texts():
        text.set_parse_math(False)


def _legend_columns(labels: Collection[str], width: float) -> int:
    """Return the smallest number of columns that needs no more rows than the width allows (in inches)."""
    widest = _LEGEND_LINE + _LEGEND_CHARACTER * max(num_columns(drawable(label)) for label in labels)
    fitting = max(1, int(width / widest))
    return math.ceil(len(labels) / math.ceil(len(labels) / fitting))


def _legend_rows(labels: Collection[str], width: float) -> int:
    return math.ceil(len(labels) / _legend_columns(labels, width))
