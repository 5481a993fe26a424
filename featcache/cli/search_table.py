"""Result of a search → table of the best settings, and how many were tried."""

import math
from typing import Any

from featcache.evaluate.scores import SCORES
from featcache.report.tables import mean_and_std, score_table
from featcache.runs.file_names import TRIED
from featcache.runs.identity import SWEEP
from featcache.runs.reader import RunFolder
from featcache.settings.searches import PER_FOLD
from featcache.terminal.console import Console, print_line
from featcache.units import counted

_MOST = 10


def print_search(run: RunFolder) -> None:
    """Print the settings that a search tried, best validation score first; nothing for another run.

    Only the chosen setting is shown with its test score.

    Args:
        run: A finished run.
    """
    described = run.config.get(SWEEP)
    if not described:
        return
    tried, options = run.tried, list(described["options"])
    score = next(one for name, one in SCORES.items() if f"validation_{name}" in tried)
    validation, test = f"validation_{score.name}", f"test_{score.name}"
    per_fold = described["choose"] == PER_FOLD
    best = tried.assign(**{validation: tried[validation].astype(float)}).sort_values(
        validation, ascending=False, kind="stable"
    )
    print_line()
    table = score_table(
        *("Setting", *options, f"Validation {score.heading}"), "Folds" if per_fold else f"Test {score.heading}"
    )
    for row in best.head(_MOST).to_dict("records"):
        means = [_number(row[column]) for column in (validation, f"{validation}_std")]
        last = str(row["chosen_for_folds"]) if per_fold else mean_and_std(_number(row[test]), None, score.digits)
        values = [str(row[name]) or "-" for name in options]
        table.add_row(str(row["setting"]), *values, mean_and_std(means[0], means[1], score.digits), last or "-")
    Console().print(table)
    if len(best) > _MOST:
        print_line(f"… and {len(best) - _MOST} more in {TRIED}")
    print_line(f"{counted(len(best), 'setting')} tried; chosen by {described['chosen_on']}")


def _number(value: Any) -> float | None:
    """Return a number of a table; None for an empty cell."""
    return None if value == "" or math.isnan(float(value)) else float(value)
