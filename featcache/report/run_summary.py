"""Run folder → what the page over all runs shows of it: scores, layer weights, training curves, confusion, groups."""

import base64
import logging
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from featcache.errors import PredictionsError, StoreError
from featcache.evaluate.scores import SCORES, Score, find_score, name_of_main_score
from featcache.files.regular import read_regular, resolved
from featcache.report.breakdown import GroupScore
from featcache.report.captions import CAPTIONS, caption_of
from featcache.report.utterance_list import RunDetails
from featcache.runs.file_names import HISTORY, LAYER_WEIGHTS, METRICS, PREDICTIONS
from featcache.runs.reader import RunFolder

if TYPE_CHECKING:
    import pandas as pd

Scores = Mapping[str, Mapping[str, Any]]

_MOST_FIGURE_BYTES = 8 * 2**20
# With more trainings than this, the page over all runs shows the curves of the first ones.
_MOST_CURVES = 25

log = logging.getLogger(__name__)


def tested_rows(run: RunFolder) -> "pd.DataFrame | None":
    """Return the predictions for the test parts; None if the run has no table of them, as a published folder."""
    return run.predictions if (run.path / PREDICTIONS).is_file() else None


def main_score(run: RunFolder, validation: Scores) -> Score | None:
    """Return the score by which runs are compared: UAR or CCC; None if the run has neither."""
    name = name_of_main_score({*run.metrics, *validation})
    return None if name is None else SCORES[name]


def finished_at(run: RunFolder) -> str:
    """Return the local date and time at which a run was finished."""
    return f"{datetime.fromtimestamp((run.path / METRICS).stat().st_mtime):%Y-%m-%d %H:%M}"


def embedded_figures(run: RunFolder) -> list[tuple[str, str]]:
    """Return the figures of a run folder as base64 text, each with its caption; unreadable ones are left out."""
    found = []
    seeds = run.config.get("seeds")
    num_seeds = len(seeds) if isinstance(seeds, list) else 1
    for name in CAPTIONS:
        path = run.path / f"{name}.png"
        if not path.is_file() or not resolved(path).is_relative_to(resolved(run.path)):
            continue
        content = read_regular(path, _MOST_FIGURE_BYTES + 1)
        if content.startswith(b"\x89PNG") and len(content) <= _MOST_FIGURE_BYTES:
            found.append((base64.b64encode(content).decode(), caption_of(name, num_seeds)))
    return found


def drawn(run: RunFolder, score: Score | None, details: RunDetails | None) -> dict[str, Any]:
    """Return what the plots of the page over all runs need, as plain values.

    Args:
        run: The run.
        score: The score by which runs are compared.
        details: Speakers and groups.
    """
    return {
        "score": score.heading if score else "",
        "digits": score.digits if score else 1,
        "layers": _read(run, LAYER_WEIGHTS, lambda: _layers(run.layer_weights)) or [],
        "curves": _read(run, HISTORY, lambda: _curves(run.history)),
        "confusion": _confusion(run.metrics.get("confusion") or {}),
        "speakers": _groups(details.speakers) if details else [],
        "groups": {name: _groups(found) for name, found in details.groups.items()} if details else {},
    }


def _confusion(found: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return classes and counts of a confusion matrix; None if they do not fit together."""
    classes = found.get("classes") or []
    try:
        counts = np.asarray(found.get("counts"), dtype=float)
    except (TypeError, ValueError):
        return None
    if not classes or counts.shape != (len(classes), len(classes)) or not np.isfinite(counts).all():
        return None
    return {"classes": list(classes), "counts": counts.round(2).tolist()}


def _read(run: RunFolder, name: str, read: Any) -> Any:
    """Return what a table of a run contains; None, and a warning, if it is missing or damaged."""
    if not (run.path / name).is_file():
        return None
    try:
        return read()
    except (StoreError, PredictionsError, KeyError, TypeError, ValueError) as error:
        log.warning("%s is not shown: %s", run.path / name, str(error) or type(error).__name__)
        return None


def _layers(weights: "pd.DataFrame") -> list[dict[str, Any]]:
    """Return features and the points (layer, mean weight, std over seeds) of each store with numbered layers."""
    from featcache.report.layer_figures import layer_weight_summary

    found = []
    for features, rows in weights.groupby("features", sort=False):
        if rows["layer"].str.isdigit().all():
            summary = layer_weight_summary(rows.assign(layer=rows["layer"].astype(int)))
            points = summary[["layer", "mean", "std"]].to_numpy(float)
            found.append({"features": str(features), "points": [_significant(point) for point in points]})
    return found


def _curves(history: "pd.DataFrame") -> dict[str, Any] | None:
    """Return the curves of each training over its epochs; None if no loss is finite, as of a deterministic head."""
    losses = history[["train_loss", "validation_loss"]].to_numpy(float)
    if not np.isfinite(losses).any():
        return None
    score = name_of_main_score(history, "validation_")
    columns = ["train_loss", "validation_loss", *([f"validation_{score}"] if score else [])]
    time, unit = ("step", "Evaluation") if "step" in history else ("epoch", "Epoch")
    trainings = [rows for _, rows in history.sort_values(time).groupby(["seed", "fold"])]
    scale = 100 if score == "uar" else 1
    lines = [
        [_significant(rows[name].to_numpy(float) * (scale if name == f"validation_{score}" else 1)) for name in columns]
        for rows in trainings[:_MOST_CURVES]
    ]
    heading = f"Validation {find_score(score)[0].heading}" if score else ""
    return {"score": heading, "lines": lines, "number": len(trainings), "unit": unit}


def _significant(values: Sequence[float] | np.ndarray[Any, Any]) -> list[float | None]:
    """Return numbers with four significant digits, which a plot cannot distinguish from more; None if not finite."""
    return [float(f"{value:.4g}") if np.isfinite(value) else None for value in values]


def _groups(found: Sequence[GroupScore]) -> list[list[Any]]:
    return [[one.name, one.num_utterances, one.score and round(one.score, 4)] for one in found]
