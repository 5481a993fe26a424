"""Calibration in ``metrics.json`` → reliability diagram (PNG, SVG, PDF) and one line of text."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from featcache.evaluate.calibration import NUM_BINS, PSEUDO
from featcache.report import figures
from featcache.report.figure_width import figure_width
from featcache.report.figures import COLORS
from featcache.report.tables import mean_and_std

PSEUDO_NOTE = "pseudo-probabilities, not calibrated"
# Inches: axis labels beside the panels; largest side of the upper panel; the lower panel.
_BESIDE, _LARGEST_SIDE, _LOWER = 0.6, 3.0, 0.85


def draw_reliability(calibration: Mapping[str, Any], path: Path) -> None:
    """Write a reliability diagram.

    Args:
        calibration: Entry ``calibration`` of ``metrics.json``.
        path: Output path without a suffix; ``.png``, ``.svg`` and ``.pdf`` are added.
    """
    figures.save(reliability_diagram(calibration), path)


def reliability_diagram(calibration: Mapping[str, Any]) -> Figure:
    """Draw the accuracy of each bin of confidence, and below it the share of the predictions in each bin.

    Args:
        calibration: See :func:`~featcache.evaluate.calibration.calibration_of`.

    Returns: the figure.

    Source: Guo et al. 2017, Figure 1.
    """
    bins = calibration["bins"]
    left, count = np.array(bins["edges"][:-1]), np.array(bins["count"], dtype=float)
    accuracy, confidence = (np.array(bins[name], dtype=float) for name in ("accuracy", "confidence"))
    width = figure_width()
    side = min(width - _BESIDE, _LARGEST_SIDE)
    with figures.style():
        figure = Figure(figsize=(width, side + _LOWER), layout="constrained")
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[side, _LOWER - 0.3])
        there = count > 0
        look: dict[str, Any] = {"width": 100 / NUM_BINS, "align": "edge", "edgecolor": "white", "linewidth": 0.5}
        upper.bar(left[there], accuracy[there], color=COLORS[0], label="accuracy", **look)
        upper.plot([0, 100], [0, 100], color="0.5", linewidth=0.8, linestyle=(0, (4, 3)), label="calibrated")
        upper.plot(
            confidence[there],
            accuracy[there],
            "o",
            color=COLORS[1],
            markersize=3,
            label="mean confidence of the bin",
            clip_on=False,  # dots at 0 or 100 % would be half hidden
        )
        upper.set(xlim=(0, 100), ylim=(0, 100), ylabel="Accuracy (%)")
        _tell(upper, calibration)
        lower.bar(left, 100 * count / max(count.sum(), 1), color="0.6", **look)
        lower.set(xlabel="Confidence (%)", ylabel="Share (%)")
        figure.legend(*upper.get_legend_handles_labels(), loc="outside upper center", ncols=3, columnspacing=1.0)
    return figure


def _tell(axes: Axes, calibration: Mapping[str, Any]) -> None:
    text = f"ECE {_ece(calibration)} %"
    if calibration.get(PSEUDO):
        text += "\n" + PSEUDO_NOTE.replace(", ", ",\n")
    axes.text(0.03, 0.97, text, transform=axes.transAxes, va="top")


def _ece(calibration: Mapping[str, Any]) -> str:
    return mean_and_std(calibration["ece"]["mean"], calibration["ece"]["std"])


def calibration_line(calibration: Mapping[str, Any]) -> str:
    """Return the calibration as one line: ECE, Brier score, and a warning about pseudo-probabilities."""
    brier = mean_and_std(calibration["brier"]["mean"], calibration["brier"]["std"], 3)
    pseudo = f" ({PSEUDO_NOTE})" if calibration.get(PSEUDO) else ""
    return f"calibration: ECE {_ece(calibration)} %, {NUM_BINS} bins; Brier score {brier}, from 0 to 2{pseudo}"
