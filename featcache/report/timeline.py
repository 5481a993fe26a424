"""Predictions for the windows of a recording → a figure of classes or dimensional labels over time."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from featcache.report.figures import save


def draw_timeline(table: pd.DataFrame, *, outputs: Sequence[str] | Mapping[str, Sequence[float]], task: str) -> Figure:
    """Draw predictions of one recording over time.

    Args:
        table: Predictions.
        outputs: Classes, or dimension → range.
        task: ``classification`` or ``regression``.
    """
    figure = Figure()
    for name in outputs:
        figure.gca().plot(table["start"], table[name if task == "regression" else f"p_{name}"])
    return figure


def write_timelines(
    table: pd.DataFrame, path: Path, *, outputs: Sequence[str] | Mapping[str, Sequence[float]], task: str
) -> list[Path]:
    """Draw one figure per recording.

    Args:
        table: Predictions.
        path: Output path without a suffix.
        outputs: Classes, or dimension → range.
        task: ``classification`` or ``regression``.
    """
    save(draw_timeline(table, outputs=outputs, task=task), path)
    return [path]
