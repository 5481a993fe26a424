"""Learned layer weights, scores of single layers → figures with one point per layer."""

import math
import textwrap
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from featcache.report.figure_width import DOUBLE, SINGLE, figure_width
from featcache.report.figures import COLORS, LINES, MARKERS, SMALLEST, line_with_bars, style
from featcache.report.fonts import drawable, num_columns

# A figure with more layers or more lines spans both columns of a paper.
NARROW_LAYERS, NARROW_LINES = 13, 4
LEGEND_ROW = 0.14  # inches
# Inches: axis labels beside the layers of a contrast, a number such as +12 above a layer, and an upright one.
_BESIDE, _NUMBER, _UPRIGHT_NUMBER = 1.1, 0.27, 0.105
# Part of the distance between two layers over which the lines of all groups are spread.
_SPREAD = 0.6
# Distance between the two error bars of a layer in a contrast, in layers.
_APART = 0.24
# Inches: line beside a label, character of a usual label, and of one without narrow letters.
_LEGEND_LINE, _LEGEND_CHARACTER, _WIDE_CHARACTER = 0.45, 0.055, 0.06

# Look of the line of a value without any effect: the uniform weight, or the chance level.
_REFERENCE: dict[str, Any] = {"color": "0.5", "linewidth": 0.6, "linestyle": (0, (4, 3)), "zorder": 0}
# Smallest half of the axis of layer weights, as part of the uniform weight: less than rounding shows in a table.
_LEAST_EFFECT = 0.001

# Colour of the difference between two scores: whether the first one is higher.
_SHADES = {True: COLORS[0], False: COLORS[1]}
_SHADE_ALPHA = 0.2


def layer_weight_summary(weights: pd.DataFrame) -> pd.DataFrame:
    """Return mean and standard deviation of the learned layer weights, after averaging the folds of each seed.

    Args:
        weights: Rows of ``layer_weights.csv``: seed, fold, layer, weight.

    Returns: columns layer, mean, std (ddof = 0 over seeds), num_seeds; one row per layer, in order.

    Source: Pepino et al. 2021, Figure 2, as drawn by the authors' code.
    """
    of_seed = weights.groupby(["layer", "seed"], as_index=False)["weight"].mean()
    over_seeds = of_seed.groupby("layer")["weight"]
    columns = {"mean": over_seeds.mean(), "std": over_seeds.std(ddof=0), "num_seeds": over_seeds.size()}
    return pd.DataFrame(columns).reset_index()


def layer_weights(
    groups: Mapping[str, pd.DataFrame], published: Mapping[str, Mapping[int, float]] | None = None
) -> Figure:
    """Draw the learned weight of each layer, one line per run, and the uniform weight for comparison.

    Error bars are the standard deviation over seeds with ddof = 0, after averaging the folds, as in the paper's figure.

    Args:
        groups: Label of a run → rows of its ``layer_weights.csv``: seed, fold, layer, weight.
        published: Label of a run → published weight of each layer, drawn dashed in the colour of the run.

    Returns: the figure.

    Source: Pepino et al. 2021, Figure 2.
    """
    summaries = {label: layer_weight_summary(weights) for label, weights in groups.items()}
    with style(groups):
        papers = {label: weights for label, weights in (published or {}).items() if label in summaries}
        figure = _figure(summaries, height=2.2, further=[_published(label) for label in papers])
        axes = figure.add_subplot()
        lines = _draw_weights(axes, summaries, papers)
        _layer_axis(axes, summaries)
        _legend(figure, lines)
    return figure


def layer_scores(groups: Mapping[str, pd.DataFrame], *, chance: float, ylabel: str) -> Figure:
    """Draw the score of each single layer, one line per group.

    Error bars are the standard deviation over folds (ddof = 1).

    Args:
        groups: Label → columns layer (int), mean, std; one row per layer, in order.
        chance: Chance level of the score; drawn as a line.
        ylabel: Name of the score.

    Returns: the figure.
    """
    with style(groups):
        figure = _figure(groups, height=2.2)
        axes = figure.add_subplot()
        lines = _draw_scores(axes, groups, chance, ylabel)
        _layer_axis(axes, groups)
        _legend(figure, lines)
    return figure


def layer_relevance(
    weights: Mapping[str, pd.DataFrame],
    scores: Mapping[str, pd.DataFrame],
    *,
    title: str,
    chance: float,
    ylabel: str,
) -> Figure:
    """Draw learned layer weights, and below them the score of a linear probe on each layer: one line per target.

    Error bars are over seeds for the weights, as in :func:`layer_weights`, and over folds for the scores, as in
    :func:`layer_scores`.

    Args:
        weights: Target → columns layer (int), mean, std of the learned weights; one row per layer, in order.
        scores: Target → the same columns for the scores of the linear probe; the same targets.
        title: Name of the feature store; shown above the legend.
        chance: Chance level of the score.
        ylabel: Name of the score.

    Returns: the figure.

    Source: de Oliveira et al. 2023, Figure 2, for the learned weights.
    """
    with style([title, *weights]):
        figure = _figure(weights, height=3.6, legend=True)
        above, below = figure.subplots(2, sharex=True, height_ratios=(1.1, 1))
        lines = _draw_weights(above, weights)
        _draw_scores(below, scores, chance, ylabel)
        above.set_ylabel("Learned weight")
        below.set_ylabel(f"Linear probe, {ylabel}")
        figure.align_ylabels()
        _layer_axis(below, weights)
        _legend(figure, lines, title=title)
    return figure


def layer_drift_panels(
    cka: Mapping[str, pd.DataFrame], cosine: Mapping[str, pd.DataFrame], weights: Mapping[str, pd.DataFrame]
) -> Figure:
    """Draw how far each layer of fine-tuned models moved, and below it the layer weights of the heads.

    Error bars are over trainings for both measures, and over seeds for the weights, as in :func:`layer_weights`.

    Args:
        cka: Name of a store → columns layer (int), mean, std of the linear CKA; one row per layer, in order.
        cosine: The same for the mean cosine.
        weights: The same for the learned layer weights; empty if the heads learn none.

    Returns: the figure.
    """
    panels = {"Linear CKA": cka, "Mean cosine": cosine, **({"Learned weight": weights} if weights else {})}
    layers = {name: pd.concat([cka[name], *([weights[name]] if name in weights else [])]) for name in cka}
    with style(cka):
        figure = _figure(layers, height=1.3 * len(panels))
        several = figure.subplots(len(panels), sharex=True)
        lines: dict[str, Line2D] = {}
        for axes, (label, groups) in zip(several, panels.items(), strict=True):
            drawn = (_draw_weights if groups is weights else _draw_lines)(axes, groups)
            lines = lines or drawn
            if groups is not weights:
                _reference(axes, 1, "unchanged")
            axes.set_ylabel(label)
        figure.align_ylabels()
        _layer_axis(several[-1], layers)
        _legend(figure, lines)
    return figure


def layer_contrast(scores: pd.DataFrame, *, labels: tuple[str, str], chance: float | None, ylabel: str) -> Figure:
    """Draw two scores of each layer with their intervals, shade the difference, and print it above.

    The number of a difference is dark if its interval excludes 0, and grey otherwise.

    Args:
        scores: Columns layer (text: a number, or ``all``), first, first_low, first_high, second, second_low,
            second_high, difference, low, high; one row per layer, ``all`` at the end. A missing bound is NaN.
        labels: Names of the first and the second score.
        chance: Chance level of the score; drawn as a line unless it is None.
        ylabel: Name of the score.

    Returns: the figure.
    """
    each = scores[scores["layer"].str.isdigit()].assign(place=lambda rows: rows["layer"].astype(float))
    last = 0.0 if each.empty else each["place"].max()
    gap = last + max(1.5, 0.09 * len(each))
    together = scores[~scores["layer"].str.isdigit()].assign(place=gap)
    signs = sorted(set(scores["difference"] > 0), reverse=True)
    shades = dict(zip(signs, ["difference > 0", "difference < 0"] if len(signs) > 1 else ["difference"], strict=True))
    places = 1 + (gap if not together.empty else last)
    width = figure_width(min(_BESIDE + _NUMBER * places, DOUBLE))
    room = (width - _BESIDE) / places
    with style(labels):
        height = 2.5 + LEGEND_ROW * (_legend_rows([*labels, *shades.values()], width) - 1)
        figure = Figure(figsize=(width, height), layout="constrained")
        axes = figure.add_subplot()
        lines = _draw_contrast(axes, together, joined=False) | _draw_contrast(axes, each, joined=True)
        shown = pd.concat([each.iloc[:: math.ceil(_UPRIGHT_NUMBER / room)], together])
        _number_differences(axes, shown, upright=room < _NUMBER)
        if not (together.empty or each.empty):
            axes.axvline((gap + last) / 2, color="0.8", linewidth=0.6)
        if chance is not None:
            _reference(axes, chance, "chance")
        axes.set_ylabel(ylabel)
        _layer_axis(axes, {"": each.assign(layer=each["layer"].astype(int))})
        if not together.empty:
            names = [text.get_text() for text in axes.get_xticklabels()]
            axes.set_xticks([*axes.get_xticks(), gap], [*names, "all\nlayers"])
        colors = {text: Patch(color=_SHADES[sign], alpha=_SHADE_ALPHA, lw=0) for sign, text in shades.items()}
        _legend(figure, dict(zip(labels, lines.values(), strict=True)) | colors)
    return figure


def _draw_contrast(axes: Axes, rows: pd.DataFrame, *, joined: bool) -> dict[str, Line2D]:
    """Draw two scores at each place with their intervals, and shade the difference; return the line of each score."""
    for better, color in _SHADES.items():
        where = (rows["difference"] > 0) == better
        look: dict[str, Any] = {"color": color, "alpha": _SHADE_ALPHA, "lw": 0}
        if joined:
            axes.fill_between(rows["place"], rows["first"], rows["second"], where=where, interpolate=True, **look)
        else:
            axes.bar(rows["place"][where], rows["difference"][where], 0.7, rows["second"][where], **look)
    lines = {}
    for number, column in enumerate(("first", "second")):
        bounds = [rows[column] - rows[f"{column}_low"], rows[f"{column}_high"] - rows[column]]
        bars = axes.errorbar(
            rows["place"] + (number - 0.5) * _APART,  # so that the bars of a layer do not hide each other
            rows[column],
            yerr=bounds,
            color=COLORS[0] if number == 0 else "0.35",
            marker=MARKERS[number],
            linestyle=LINES[number] if joined else "",
            capsize=1.5,
            elinewidth=0.7,
            capthick=0.7,
        )
        lines[column] = bars.lines[0]
    return lines


def _number_differences(axes: Axes, rows: pd.DataFrame, *, upright: bool) -> None:
    """Print the difference at each place above the axes, where it covers nothing."""
    for place, difference, low, high in rows[["place", "difference", "low", "high"]].to_numpy(float):
        axes.annotate(
            f"{difference:+.0f}" if abs(difference) >= 1 else f"{difference:+.1f}",
            (place, 1),
            xycoords=("data", "axes fraction"),
            xytext=(0, 2),
            textcoords="offset points",
            fontsize=SMALLEST,
            ha="center",
            va="bottom",
            rotation=90 if upright else 0,
            color="0.1" if low > 0 or high < 0 else "0.55",
        )


def _figure(
    groups: Mapping[str, pd.DataFrame], *, height: float, legend: bool = False, further: Sequence[str] = ()
) -> Figure:
    """Return a figure with room for its legend; ``further`` are the labels of lines beside those of the groups."""
    num_layers = len({layer for rows in groups.values() for layer in rows["layer"]})
    width = figure_width(DOUBLE if num_layers > NARROW_LAYERS or len(groups) > NARROW_LINES else SINGLE)
    labels = [*groups, *further]
    rows = _legend_rows(labels, width) if len(labels) > 1 else 0
    return Figure(figsize=(width, height + LEGEND_ROW * (rows + legend)), layout="constrained")


def _published(label: str) -> str:
    return f"{label}, published"


def _draw_weights(
    axes: Axes, summaries: Mapping[str, pd.DataFrame], published: Mapping[str, Mapping[int, float]] | None = None
) -> dict[str, Line2D]:
    sizes = sorted({len(summary) for summary in summaries.values()})
    lines = _draw_lines(axes, summaries)
    for label, weights in (published or {}).items():
        color = lines[label].get_color()
        [line] = axes.plot(list(weights), list(weights.values()), "--", color=color, linewidth=0.9, alpha=0.7)
        lines[_published(label)] = line
    _around_uniform(axes, sizes)
    axes.set_ylabel("Weight")
    return lines


def _around_uniform(axes: Axes, sizes: Sequence[int]) -> None:
    """Draw the uniform weight of each number of layers, and centre the axis on it.

    The axis shows the differences between layers in full, however small they are. Their size is therefore printed at
    the right: the difference from the uniform weight in percent of it.
    """
    low, high = axes.get_ylim()
    if len(sizes) > 1:
        for size in sizes:
            _reference(axes, 1 / size, f"uniform\n1/{size}")
        axes.set_ylim(min(low, 0.95 / sizes[-1]), max(high, 1.05 / sizes[0]))
        return
    [size] = sizes
    half = max(high - 1 / size, 1 / size - low, _LEAST_EFFECT / size)
    axes.set_ylim(1 / size - half, 1 / size + half)
    axes.axhline(1 / size, **_REFERENCE)
    percent = axes.secondary_yaxis("right", functions=(_in_percent(size), _of_percent(size)))
    percent.yaxis.set_major_locator(MaxNLocator(5, symmetric=True))
    percent.yaxis.set_major_formatter(
        lambda value, _: f"uniform\n1/{size}" if abs(value) < 1e-9 else f"{value:+g} %".replace("-", "−")
    )
    percent.tick_params(length=2.5, colors="0.35")
    percent.spines["right"].set_visible(False)


def _in_percent(size: int) -> Any:
    """Return the function weight → difference from the uniform weight in percent."""
    return lambda weight: 100 * (weight * size - 1)


def _of_percent(size: int) -> Any:
    """Return the inverse of :func:`_in_percent`."""
    return lambda percent: (percent / 100 + 1) / size


def _difference(percent: float) -> str:
    """Return ``+2 %`` or ``−2 %``; an empty text for no difference."""
    return "" if abs(percent) < 1e-9 else f"{percent:+g} %".replace("-", "−")


def _draw_scores(axes: Axes, groups: Mapping[str, pd.DataFrame], chance: float, ylabel: str) -> dict[str, Line2D]:
    lines = _draw_lines(axes, groups)
    _reference(axes, chance, "chance")
    low, high = axes.get_ylim()
    axes.set_ylim(bottom=min(low, chance - 0.05 * (high - low)))
    axes.set_ylabel(ylabel)
    return lines


def _draw_lines(axes: Axes, groups: Mapping[str, pd.DataFrame]) -> dict[str, Line2D]:
    """Draw a line with error bars for each group, shifted slightly so that the bars of a layer do not overlap."""
    step = min(0.2, _SPREAD / len(groups))
    lines = {}
    for number, (label, summary) in enumerate(groups.items()):
        shifted = summary["layer"] + step * (number - (len(groups) - 1) / 2)
        lines[label] = line_with_bars(axes, number, shifted, summary["mean"], summary["std"])
    return lines


def _reference(axes: Axes, value: float, name: str) -> None:
    axes.axhline(value, **_REFERENCE)
    axes.text(1.01, value, name, transform=axes.get_yaxis_transform(), va="center", fontsize=SMALLEST, color="0.35")


def _layer_axis(axes: Axes, groups: Mapping[str, pd.DataFrame]) -> None:
    layers = sorted({layer for rows in groups.values() for layer in rows["layer"]})
    last_layers = {int(rows["layer"].max()) for rows in groups.values() if len(rows)}
    step = max(1, math.ceil(len(layers) / 14))
    shown = sorted({layer for layer in layers if layer % step == 0} | last_layers)
    names = {layer: f"{layer}\nlast\nhidden state" for layer in last_layers} | {0: "0\nlocal\nencoder"}
    axes.set_xticks(shown, [names.get(layer, f"{layer}\n") for layer in shown])
    axes.set_xlabel("Layer")


def _legend(figure: Figure, lines: Mapping[str, Any], title: str | None = None) -> None:
    if len(lines) > 1 or title:
        width = figure.get_figwidth()
        columns = _legend_columns(lines, width)
        names = [_wrapped(label, width) for label in lines]
        title = None if title is None else drawable(title)
        legend = figure.legend(list(lines.values()), names, loc="outside upper center", ncols=columns, title=title)
        for text in (legend.get_title(), *legend.get_texts()):
            text.set_parse_math(False)


def _wrapped(label: str, width: float) -> str:
    """Return a label with line breaks, so that it fits into a width in inches."""
    name = drawable(label)
    columns = max(1, num_columns(name) / max(1, len(name)))  # of a character: wide ones need two
    return textwrap.fill(name, max(1, int((width - 0.6) / (_WIDE_CHARACTER * columns))))


def _legend_columns(labels: Collection[str], width: float) -> int:
    """Return the smallest number of legend columns that needs no more rows than the width allows (in inches)."""
    widest = _LEGEND_LINE + _LEGEND_CHARACTER * max(num_columns(drawable(label)) for label in labels)
    fitting = max(1, int(width / widest))
    return math.ceil(len(labels) / math.ceil(len(labels) / fitting))


def _legend_rows(labels: Collection[str], width: float) -> int:
    """Return the number of lines of text in a legend with these labels."""
    columns = _legend_columns(labels, width)
    longest = max(_wrapped(label, width).count("\n") for label in labels)
    return math.ceil(len(labels) / columns) + longest * (columns == 1)
