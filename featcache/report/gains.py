"""Pairs of runs → what one gains over the other, relative to the other's score: picture (PNG, SVG) and table (CSV)."""

import logging
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from featcache.evaluate.compare import compare
from featcache.evaluate.predictions import Predictions
from featcache.evaluate.scores import label_of
from featcache.files.regular import replace_file
from featcache.report.figures import relative_gains, save

log = logging.getLogger(__name__)

NO_BOUNDS = "%s: the %s gained over cannot be told from 0, so this gain has no finite interval"


def draw_gains(pairs: Mapping[str, tuple[Predictions, Predictions]], metric: str, path: Path) -> pd.DataFrame:
    """Draw relative gains with 95 % intervals over speakers and seeds, by Fieller's method.

    Args:
        pairs: Title → the predictions of the run that gains, and of the run that it gains over.
        metric: Of which score: ``uar``, ``wa``, ``ccc``, or ``ccc_<dim>`` of one of several dimensions.
        path: Where to write, without suffix: ``.png``, ``.svg`` and ``.csv`` are added.

    Returns:
        title, first, second (the scores of both), gain, low, high (in percent; all NaN where the second score is not
        above 0, low and high also where it cannot be told from 0), unit, count.

    Raises:
        PredictionsError: runs that did not test the same, or that have no such score.
    """
    rows = []
    for title, (first, second) in pairs.items():
        [found] = compare({f"{title}, gaining": first, title: second}, score=metric)
        low, high = found.gain_ci95 or (None, None)
        if found.gain is not None and low is None:
            log.warning(NO_BOUNDS, title, label_of(metric))
        rows.append([title, found.first_mean, found.second_mean, found.gain, low, high, found.unit, found.count])
    columns = ["title", "first", "second", "gain", "low", "high", "unit", "count"]
    table = pd.DataFrame(rows, columns=columns).astype(dict.fromkeys(columns[1:6], float))
    save(relative_gains(table, metric=label_of(metric)), path)
    replace_file(path.with_name(f"{path.name}.csv"), table.to_csv(index=False).encode())
    return table
