"""Runs with several fractions of the training speakers → a learning curve beside the run folders."""

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from featcache.errors import listed
from featcache.evaluate.scores import MAIN_SCORES
from featcache.fitting.plan import PlannedRun
from featcache.fitting.search.plan import SEARCHED
from featcache.protocols.fractions import num_train_speakers
from featcache.runs.identity import SWEEP
from featcache.runs.reader import RunFolder

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)


def is_curve(planned: Sequence[PlannedRun]) -> bool:
    """Return whether runs have several fractions of the training speakers."""
    return len({one.request.train_fraction for one in planned}) > 1


def tell_equal_fractions(planned: Sequence[PlannedRun]) -> None:
    """Log a warning about fractions with the same training parts, because the folds have few speakers."""
    fractions: dict[Any, dict[float, None]] = {}
    for one in planned:
        parts = tuple(fold.train for fold in one.setup.folds)
        fractions.setdefault(parts, {})[one.request.train_fraction] = None
    for same in fractions.values():
        if len(same) > 1:
            log.warning("fractions %s give the same training parts, because the folds have few speakers", listed(same))


def draw_curve(planned: Sequence[PlannedRun], runs: Sequence[RunFolder]) -> None:
    """Draw the scores of runs against the size of their training parts, if they have several fractions.

    Args:
        planned: The planned runs, with their folds.
        runs: The finished runs, in the same order.

    Raises:
        DiskError: the files cannot be written.
    """
    if not is_curve(planned):
        return
    from featcache.report.learning_curve import curve_path, draw_learning_curve

    draw_learning_curve(curve_table(planned, runs), curve_path(runs))


def curve_table(planned: Sequence[PlannedRun], runs: Sequence[RunFolder]) -> "pd.DataFrame":
    """Return one row per run, see :func:`~featcache.report.learning_curve.draw_learning_curve`.

    Args:
        planned: The planned runs, with their folds.
        runs: The finished runs, in the same order.
    """
    import pandas as pd

    rows = {
        run.path: {**_settings(run), **_sizes(one), **_scores(run), "run": run.name}
        for one, run in zip(planned, runs, strict=True)
    }
    table = pd.DataFrame(list(rows.values()))
    return table.sort_values("fraction", kind="stable", ignore_index=True)


def _settings(run: RunFolder) -> dict[str, str]:
    tried = run.config.get(SWEEP, {}).get("options", {})  # options of a search, chosen for each fraction
    found = {name: SEARCHED if name in tried else str(run.config[name]) for name in ("head", "norm", "layers")}
    return {"features": " + ".join(run.config["features"]), **found}


def _sizes(one: PlannedRun) -> dict[str, float]:
    folds, manifest = one.setup.folds, one.setup.manifest
    return {
        "fraction": one.request.train_fraction,
        "speakers": float(np.mean([num_train_speakers(fold, manifest) for fold in folds])),
        "utterances": float(np.mean([len(fold.train) for fold in folds])),
    }


def _scores(run: RunFolder) -> dict[str, Any]:
    name = next(name for name in MAIN_SCORES if name in run.metrics)
    score: Mapping[str, Any] = run.metrics[name]
    low, high = score.get("ci95") or (None, None)
    return {
        "score": name,
        "mean": score["mean"],
        "std": score["std"],
        "ci95_low": low,
        "ci95_high": high,
        "chance": run.metrics.get("chance_uar", 0.0),
        "num_seeds": run.metrics["num_seeds"],
    }
