"""Scores of several labels → a figure with F1 and UAR of each label."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from featcache.report.figure_width import figure_width
from featcache.report.figures import COLORS, save, style
from featcache.report.fonts import drawable

_SCORES = {"f1": "F1", "uar": "UAR"}
_HEIGHT = 0.36  # of a bar, as a share of the distance between two labels


def label_scores(per_label: Mapping[str, Any]) -> Figure:
    """Draw F1 and UAR of each label in percent, with their intervals.

    Args:
        per_label: Entry ``per_label`` of ``metrics.json``. Undefined scores and intervals are not drawn.

    Returns: the figure.
    """
    with style(per_label):
        figure = Figure(figsize=(figure_width(), 0.9 + 0.32 * len(per_label)), layout="constrained")
        axes = figure.add_subplot()
        places = np.arange(len(per_label))
        for number, (name, label) in enumerate(_SCORES.items()):
            scores = [found[name] for found in per_label.values()]
            means = [np.nan if one["mean"] is None else one["mean"] for one in scores]
            at = places + (number - 0.5) * _HEIGHT
            axes.barh(at, means, height=_HEIGHT, color=COLORS[number], alpha=0.85, label=label)
            for place, one in zip(at, scores, strict=True):
                if one.get("ci95"):
                    axes.hlines(place, *one["ci95"], color="0.15", linewidth=0.9)
        axes.set_yticks(places, list(map(drawable, per_label)), parse_math=False)
        axes.set_ylim(len(per_label) - 0.5, -0.5)
        axes.set_xlim(0, 100)
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel("Score (%)")
        figure.legend(loc="outside upper center", ncols=len(_SCORES))
    return figure


def draw_label_scores(per_label: Mapping[str, Any], path: Path) -> None:
    """Write the figure as ``.png``, ``.svg`` and ``.pdf``; see :func:`label_scores`.

    Args:
        per_label: Entry ``per_label`` of ``metrics.json``.
        path: Output path without a suffix.
    """
    save(label_scores(per_label), path)
