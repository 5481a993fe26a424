"""Runs of settings → the chosen setting of each fold. Only predictions for validation parts are read."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from featcache.errors import PredictionsError, StoreError
from featcache.evaluate.scores import MAIN_SCORES, SCORES, Score
from featcache.files.checksums import wrong_files
from featcache.fitting.existing import REMEDY_OF_SETTING
from featcache.fitting.plan import PlannedRun
from featcache.runs.reader import RunFolder
from featcache.runs.validation import score_validation, validation_scores
from featcache.settings.searches import PER_FOLD


@dataclass(frozen=True, kw_only=True)
class Tried:
    """A setting that was trained.

    Attributes:
        values: Option → value.
        planned: The resolved request.
        run: The finished run.
        score: Score by which settings are chosen.
        over_folds: ``mean`` and ``std`` over seeds of the validation score of all folds.
        by_fold: Validation score of each fold, averaged over seeds; -inf if it cannot be computed. Empty if one setting
            is chosen for all folds.
    """

    values: Mapping[str, Any]
    planned: PlannedRun
    run: RunFolder
    score: Score
    over_folds: Mapping[str, float | None]
    by_fold: tuple[float, ...]

    @classmethod
    def of(cls, values: Mapping[str, Any], planned: PlannedRun, run: RunFolder, *, how: str) -> "Tried":
        """Score the validation predictions of a finished run.

        Args:
            values: Option → value.
            planned: The resolved request.
            run: The finished run.
            how: ``per-fold`` or ``over-folds``.

        Raises:
            StoreError: a file of the run is missing, or has changed since it was written. The result has copies of the
                files with checksums of its own, which would hide any damage.
        """
        for name, fault in wrong_files(run.path).items():
            raise StoreError(f"{run.path}: {name} {fault}; {REMEDY_OF_SETTING}")
        found = validation_scores(run)
        name = next(one for one in MAIN_SCORES if one in found)
        folds = range(1, len(planned.setup.folds) + 1) if how == PER_FOLD else ()
        return cls(
            values=values,
            planned=planned,
            run=run,
            score=SCORES[name],
            over_folds={key: found[name].get(key) for key in ("mean", "std")},
            by_fold=tuple(_of_fold(run, fold, name) for fold in folds),
        )

    @property
    def mean(self) -> float:
        """Validation score of all folds, averaged over seeds; -inf if it cannot be computed."""
        return _number(self.over_folds["mean"])


def choose(tried: Sequence[Tried], how: str) -> list[int]:
    """Return the position of the chosen setting of each fold: the highest validation score, the first one of equals.

    Args:
        tried: The settings, in order.
        how: ``per-fold`` or ``over-folds``.
    """
    folds = range(len(tried[0].planned.setup.folds))
    if how == PER_FOLD:
        return [_first_highest([one.by_fold[fold] for one in tried]) for fold in folds]
    return [_first_highest([one.mean for one in tried])] * len(folds)


def _first_highest(scores: Sequence[float]) -> int:
    return max(range(len(scores)), key=scores.__getitem__)


def _of_fold(run: RunFolder, fold: int, name: str) -> float:
    rows = run.validation_predictions
    try:
        return _number(score_validation(rows[rows["fold"] == fold], run.config)[name]["mean"])
    except PredictionsError:
        return -math.inf


def _number(value: float | None) -> float:
    return -math.inf if value is None or math.isnan(value) else value
