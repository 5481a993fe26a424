"""Checked corpus → figures: classes, durations, levels, and classes of each speaker."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter
from numpy.typing import NDArray

from featcache.checks.check_corpus import CheckedCorpus
from featcache.checks.sound_checks import usual_durations
from featcache.corpora.published_counts import counts_in
from featcache.report.figure_width import DOUBLE, SINGLE, figure_width
from featcache.report.figures import COLORS, style
from featcache.report.fonts import drawable, num_columns

MOST_SPEAKERS = 40
"""Number of speakers up to which figures show each of them."""
QUIETEST_DRAWN = -80.0
"""Level in dB of the quietest utterances in figures; silent utterances are findings."""
# Inches: a bar, and a cell of the table of classes and speakers.
_BAR, _CELL, _LETTER = 0.22, 0.26, 0.06
# Ratio of the longest and shortest duration from which the axis is logarithmic.
_WIDE = 20


def check_figures(checked: CheckedCorpus) -> list[tuple[str, Figure, str]]:
    """Return the name, the figure and the caption of each figure that the corpus allows."""
    found = []
    numbers = class_numbers(checked)
    if numbers:
        corpus = checked.files.corpus
        published = counts_in(corpus, checked.manifest) if checked.target == corpus.target else {}
        beside = " Lines: published numbers." if published else ""
        title = f"Number of utterances of each {checked.target}.{beside}"
        found.append(("classes", draw_classes(numbers, published), title))
    facts = checked.facts[checked.facts["measured"]]
    if len(facts):
        usual = usual_durations(checked.facts)
        inside = any(facts["duration"].min() <= bound <= facts["duration"].max() for bound in usual or ())
        dashed = " Dashed lines: limits of usual durations (Tukey's outer fences of the logarithm)." if inside else ""
        found.append(("durations", draw_durations(facts["duration"], usual), f"Durations of the utterances.{dashed}"))
        levels = levels_by_speaker(checked)
        where = " of each speaker: median, quartiles and range" if levels else ""
        caption = f"Level{where} (RMS in dB relative to full scale)."
        found.append(("levels", draw_levels(levels, facts["level"]), caption))
    speakers = checked.manifest.speaker_ids
    if numbers and 1 < len(speakers) <= MOST_SPEAKERS:
        caption = f"Number of utterances of each {checked.target} and speaker."
        found.append(("classes-of-speakers", draw_table(*class_by_speaker(checked)), caption))
    return found


def class_numbers(checked: CheckedCorpus) -> dict[str, int]:
    """Return class → number of utterances, in the corpus's own order; empty if the corpus has no classes."""
    if checked.target is None:
        return {}
    numbers = Counter(u.labels.get(checked.target, "") for u in checked.manifest)
    known = [one for one in checked.files.corpus.classes if checked.target == checked.files.corpus.target]
    return {one: numbers[one] for one in dict.fromkeys([*known, *sorted(numbers)]) if one}


def class_by_speaker(checked: CheckedCorpus) -> tuple[list[str], list[str], NDArray[np.int64]]:
    """Return the classes, the speakers, and (num_speakers, num_classes) numbers of utterances."""
    classes, speakers = list(class_numbers(checked)), list(checked.manifest.speaker_ids)
    counts = np.zeros((len(speakers), len(classes)), dtype=np.int64)
    rows, columns = ({name: place for place, name in enumerate(names)} for names in (speakers, classes))
    for utterance in checked.manifest:
        value = utterance.labels.get(checked.target or "", "")
        if utterance.speaker_id and value in columns:
            counts[rows[utterance.speaker_id], columns[value]] += 1
    return classes, speakers, counts


def levels_by_speaker(checked: CheckedCorpus) -> dict[str, NDArray[np.float64]]:
    """Return speaker → levels of the utterances in dB; empty if there are too many speakers, or only one."""
    if not 1 < len(checked.manifest.speaker_ids) <= MOST_SPEAKERS:
        return {}
    rows: dict[str, list[int]] = {}
    for row, utterance in enumerate(checked.manifest):
        if checked.facts["level"][row] > QUIETEST_DRAWN and utterance.speaker_id and checked.facts["measured"][row]:
            rows.setdefault(utterance.speaker_id, []).append(row)
    return {name: checked.facts["level"][rows[name]].astype(np.float64) for name in sorted(rows)}


def draw_classes(numbers: Mapping[str, int], published: Mapping[str, int]) -> Figure:
    """Draw the number of utterances of each class as bars, and the published numbers as lines."""
    names = list(map(drawable, numbers))
    with style(numbers):
        width = figure_width(_LETTER * max(map(num_columns, names)) + 1.8)
        figure = Figure(figsize=(width, 0.6 + _BAR * len(names)), layout="constrained")
        axes = figure.add_subplot()
        axes.barh(range(len(names)), list(numbers.values()), height=0.7, color=COLORS[0], alpha=0.85)
        for place, (name, number) in enumerate(numbers.items()):
            of = published.get(name)
            if of is not None:
                axes.vlines(of, place - 0.45, place + 0.45, color=COLORS[1], linewidth=1.6)
            shown = str(number) if of in (None, number) else f"{number} of {of}"
            axes.annotate(shown, (max(number, of or 0), place), (3, 0), textcoords="offset points", va="center", size=7)
        axes.set_yticks(range(len(names)), names, parse_math=False)
        axes.set_ylim(len(names) - 0.4, -0.6)
        axes.margins(x=0.22)
        axes.set_xlim(0, None)
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel("Utterances")
    return figure


def draw_durations(durations: NDArray[np.float64], usual: tuple[float, float] | None) -> Figure:
    """Draw the distribution of durations in seconds, and the limits of usual ones."""
    shown = durations[durations > 0]
    low, high = (float(shown.min()), float(shown.max())) if len(shown) else (0.1, 1.0)
    wide = high > _WIDE * low
    edges = np.geomspace(low, high, 41) if wide else np.linspace(0.98 * low, 1.02 * high, 41)
    with style():
        figure = Figure(figsize=(figure_width(), 1.9), layout="constrained")
        axes = figure.add_subplot()
        axes.hist(shown, bins=list(edges), color=COLORS[0], alpha=0.85)
        if wide:
            axes.set_xscale("log")
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axes.xaxis.set_minor_formatter(NullFormatter())
        for bound in usual or ():
            if edges[0] <= bound <= edges[-1]:
                axes.axvline(bound, color=COLORS[1], linewidth=1, linestyle="--")
        axes.set_xlabel("Duration (s)")
        axes.set_ylabel("Utterances")
    return figure


def draw_levels(of_speakers: Mapping[str, NDArray[np.float64]], levels: NDArray[np.float64]) -> Figure:
    """Draw the levels of each speaker as boxes, or of all utterances as a distribution if no speakers are given."""
    names = list(map(drawable, of_speakers))
    with style(of_speakers):
        if not names:
            figure = Figure(figsize=(figure_width(), 1.9), layout="constrained")
            axes = figure.add_subplot()
            axes.hist(levels[levels > QUIETEST_DRAWN], bins=40, color=COLORS[0], alpha=0.85)
            axes.set_xlabel("Level (dB)")
            axes.set_ylabel("Utterances")
            return figure
        longest = _LETTER * max(map(num_columns, names))
        width = figure_width(0.7 + 0.2 * len(names))
        slanted = longest > (width - 0.7) / len(names)
        figure = Figure(figsize=(width, 1.9 + (0.75 * longest if slanted else 0)), layout="constrained")
        axes = figure.add_subplot()
        look: dict[str, Any] = {"linewidth": 0.8, "color": "0.2"}
        axes.boxplot(
            list(of_speakers.values()),
            positions=range(len(names)),
            widths=0.6,
            whis=(0, 100),
            patch_artist=True,
            boxprops={"facecolor": "#9ecae1", "edgecolor": "0.2", "linewidth": 0.8},
            medianprops={"color": COLORS[1], "linewidth": 1.2},
            whiskerprops=look,
            capprops=look,
            manage_ticks=False,
        )
        _name_columns(axes, names, slanted)
        axes.set_xlabel("Speaker")
        axes.set_ylabel("Level (dB)")
    return figure


def draw_table(classes: Sequence[str], speakers: Sequence[str], counts: NDArray[np.int64]) -> Figure:
    """Draw the number of utterances of each class and speaker; combinations that do not occur stay white.

    Args:
        classes: Names of the rows.
        speakers: Names of the columns.
        counts: (num_speakers, num_classes) numbers of utterances.
    """
    rows, columns = list(map(drawable, classes)), list(map(drawable, speakers))
    beside = 0.9 + _LETTER * max(map(num_columns, rows))
    with style([*classes, *speakers]):
        width = min(max(figure_width(beside + _CELL * len(columns)), SINGLE), max(DOUBLE, beside + 0.2 * len(columns)))
        longest = _LETTER * max(map(num_columns, columns))
        cell = (width - beside) / len(columns)
        slanted = longest > cell
        height = 0.55 + _CELL * len(rows) + (0.75 * longest if slanted else 0.1)
        figure = Figure(figsize=(width, height), layout="constrained")
        axes = figure.add_subplot()
        shown = np.ma.masked_equal(counts.T, 0)
        image = axes.imshow(shown, cmap="Blues", vmin=0, vmax=max(1, 2 * int(counts.max())), aspect="auto")
        if _LETTER * len(str(counts.max())) < cell:
            for column, row in np.argwhere(counts > 0):
                axes.annotate(str(counts[column, row]), (column, row), ha="center", va="center", size=7)
        _name_columns(axes, columns, slanted)
        axes.set_yticks(range(len(rows)), rows, parse_math=False)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        axes.set_xlabel("Speaker")
        image.set_clim(0, max(1, 2 * int(counts.max())))
    return figure


def _name_columns(axes: Axes, names: Sequence[str], slanted: bool) -> None:
    slant: dict[str, Any] = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"} if slanted else {}
    axes.set_xticks(range(len(names)), names, parse_math=False, **slant)
