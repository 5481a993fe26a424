"""Runs with several fractions of the training speakers → a table of their learning curve on the terminal."""

import math
from collections.abc import Sequence

import pandas as pd

from featcache.cli.listing import print_fitted
from featcache.evaluate.scores import chance_of, digits_of, heading_of
from featcache.report.learning_curve import LINE_SETTINGS, curve_path
from featcache.report.tables import interval, mean_and_std, score_table
from featcache.runs.reader import RunFolder
from featcache.terminal.console import Console, print_line


def print_curve(runs: Sequence[RunFolder]) -> None:
    """Print the scores of runs with the sizes of their training parts, and the paths of the figures.

    Args:
        runs: The runs, whose learning curve has just been drawn.
    """
    path = curve_path(runs)
    file = path.with_name(f"{path.name}.csv")
    table = pd.read_csv(file, dtype=dict.fromkeys((*LINE_SETTINGS, "run"), str)) if file.is_file() else pd.DataFrame()
    if set(table.get("run", ())) != {run.name for run in runs}:  # the folder is read-only
        print_fitted(runs)
        return
    score, differing = table["score"].iloc[0], [name for name in LINE_SETTINGS if table[name].nunique() > 1]
    differing = differing or ["head"]
    shown = score_table(
        *(name.capitalize() for name in differing), "Fraction", "Speakers", "Utterances", heading_of(score), "95 % CI"
    )
    for name in shown.columns[1 : len(differing)]:
        name.justify, name.no_wrap, name.overflow = "left", False, "fold"
    for key, rows in table.groupby(differing, sort=False):
        names = [str(value) for value in key]
        for row in rows.to_dict("records"):
            mean, std = (None if math.isnan(row[name]) else row[name] for name in ("mean", "std"))
            bounds = None if math.isnan(row["ci95_low"]) else (row["ci95_low"], row["ci95_high"])
            sizes = (f"{row['fraction']:g}", f"{row['speakers']:.3g}", f"{row['utterances']:.0f}")
            digits = digits_of(score)
            shown.add_row(*names, *sizes, mean_and_std(mean, std, digits), interval(bounds, digits))
    Console().print(shown)
    told = [text for run in runs[:1] if (text := chance_of(run.metrics))]
    print_line("; ".join(["speakers and utterances: of the training parts, mean over folds", *told]))
    print_line(f"{path}.png  .svg  .pdf  .csv")
