"""Pairs of runs → relative gain of the first run over the second, as figure (PNG, SVG) and table (CSV)."""

import logging
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import pandas as pd

from featcache.evaluate.compare import compare
from featcache.evaluate.predictions import Predictions
from featcache.evaluate.scores import label_of
from featcache.files.regular import replace_file
from featcache.report.figures import relative_gains, save

log = logging.getLogger(__name__)

NO_BOUNDS = "%s: the %s of the second run is not significantly different from 0, so this gain has no finite interval"


def draw_gains(
    pairs: Mapping[str, tuple[Predictions, Predictions]],
    metric: str,
    path: Path,
    *,
    published: Mapping[str, float] = MappingProxyType({}),
) -> pd.DataFrame:
    """Draw relative gains with 95 % intervals over speakers and seeds (Fieller's method).

    The gain is the difference of the two scores in percent of the second score.

    Args:
        pairs: Title of a bar → predictions of the first and of the second run.
        metric: Name of the score: ``uar``, ``wa``, ``ccc``, or ``ccc_<dim>`` for one of several dimensions.
        path: Output path without a suffix; ``.png``, ``.svg`` and ``.csv`` are added.
        published: Title of a bar → published gain in percent, which is drawn as a diamond.

    Returns:
        Table with the columns title, first, second (the two scores), gain, low, high, published (in percent), unit,
        count. Gain, low and high are NaN if the second score is not above 0. Low and high are also NaN if the second
        score is not significantly different from 0.

    Raises:
        PredictionsError: The runs were not tested on the same utterances, or have no such score.
    """
    rows = []
    for title, (first, second) in pairs.items():
        [found] = compare({f"{title} (first run)": first, f"{title} (second run)": second}, score=metric)
        low, high = found.gain_ci95 or (None, None)
        if found.gain is not None and low is None:
            log.warning(NO_BOUNDS, title, label_of(metric))
        means = found.first_mean, found.second_mean
        rows.append([title, *means, found.gain, low, high, published.get(title), found.unit, found.count])
    columns = ["title", "first", "second", "gain", "low", "high", "published", "unit", "count"]
    table = pd.DataFrame(rows, columns=columns).astype(dict.fromkeys(columns[1:7], float))
    save(relative_gains(table, metric=label_of(metric)), path)
    replace_file(path.with_name(f"{path.name}.csv"), table.to_csv(index=False).encode())
    return table
