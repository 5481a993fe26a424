"""History of a run → number of trainings that have not converged, and the advice.

A training of a network has not converged if ``--max-epochs`` ended it while its lowest validation loss was less than
``--patience`` epochs old: with more epochs it would have continued. A head that a solver fits has not converged if the
solver stopped after the largest number of iterations, where scikit-learn gives a ConvergenceWarning.
"""

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from featcache.files.values import check_types, damaged
from featcache.heads import SOLVERS
from featcache.runs.costs import Costs
from featcache.runs.file_names import CONFIG, HISTORY
from featcache.runs.parse import REFIT
from featcache.runs.reader import RunFolder
from featcache.training.solvers import MAX_ITERATIONS
from featcache.units import counted

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)

STILL_IMPROVING = (
    "{} of {} trainings have not converged: --max-epochs {} ended them less than {} after their lowest validation "
    "loss; raise --max-epochs or --learning-rate"
)
UNCONVERGED = "{} of {} heads have not converged: the solver stopped after {:,} iterations"


def num_not_converged(history: "pd.DataFrame", training: Mapping[str, Any]) -> int:
    """Count the trainings that ``--max-epochs`` ended while the validation loss was still improving.

    Args:
        history: Rows of ``history.csv``: seed, fold, epoch, validation_loss, ….
        training: Settings of the training, with ``max_epochs`` and ``patience``.

    Returns:
        Number of trainings with ``max_epochs`` epochs whose lowest validation loss is less than ``patience`` epochs
        older than the last one. Trainings without any finite validation loss have diverged and do not count.
    """
    number = 0
    for _, losses in history.groupby(["seed", "fold"])["validation_loss"]:
        values = losses.to_numpy(float)
        finite = np.where(np.isfinite(values), values, np.inf)
        if len(values) >= training["max_epochs"] and np.isfinite(values).any():
            number += len(values) - 1 - int(finite.argmin()) < training["patience"]
    return number


def convergence_notes(run: RunFolder) -> list[str]:
    """Return a note on the trainings of a run that have not converged; empty if all have.

    The result is also empty for a run without a history, like an ensemble.
    """
    if not (run.path / HISTORY).is_file():
        return []
    total = num_trainings(run)
    if run.config["head"] in SOLVERS:
        return solver_notes(Costs.of(run.metrics).not_converged or 0, total)
    training = _training_of(run)
    return training_notes(num_not_converged(_history_of(run), training), total, training)


def tell_convergence(runs: Sequence[RunFolder]) -> None:
    """Log how many trainings of each run have not converged; if there are none, log that all have converged.

    Nothing is logged if there are none, but some trainings have diverged, of which the user was warned.
    """
    # An ensemble has no history.
    runs = list({run.path: run for run in runs if (run.path / HISTORY).is_file()}.values())
    notes = [(run.name, note) for run in runs for note in convergence_notes(run)]
    for name, note in notes:
        log.warning("%s", f"{name}: {note}" if len(runs) > 1 else note)
    if runs and not notes and not any(_has_diverged(run) for run in runs):
        total = sum(map(num_trainings, runs))
        log.info("%s", f"all {total} trainings converged" if total > 1 else "the training converged")


def num_trainings(run: RunFolder) -> int:
    """Return the number of trainings of a run."""
    return len(run.config["seeds"]) * len(run.config["folds"])


def _has_diverged(run: RunFolder) -> bool:
    if run.config["head"] in SOLVERS:
        return False
    history = _history_of(run)
    finite = history.assign(finite=np.isfinite(history["validation_loss"].to_numpy(float)))
    return not finite.groupby(["seed", "fold"])["finite"].any().all()


def _training_of(run: RunFolder) -> Mapping[str, Any]:
    """Return the settings of the training, from a run of anybody.

    Raises:
        StoreError: The number of epochs or the patience is missing or is no number.
    """
    training: Mapping[str, Any] = run.config["training"]
    whole: Mapping[str, tuple[type, ...]] = {"max_epochs": (int,), "patience": (int,)}
    check_types(training, whole, f"{run.path / CONFIG}, training,", REFIT, required=whole)
    return training


def _history_of(run: RunFolder) -> "pd.DataFrame":
    """Return the history of a run of anybody.

    Raises:
        StoreError: A column is missing, or a loss is no number.
    """
    from pandas.api.types import is_numeric_dtype

    history = run.history
    for column in ("seed", "fold", "validation_loss"):
        if column not in history or not is_numeric_dtype(history[column]):
            raise damaged(run.path / HISTORY, f"{column}: expected a column of numbers", REFIT)
    return history


def training_notes(number: int, total: int, training: Mapping[str, Any]) -> list[str]:
    """Return a note on networks that have not converged; empty if all have.

    Args:
        number: Number of trainings that have not converged.
        total: Number of all trainings.
        training: Settings of the training.
    """
    patience = counted(training["patience"], "epoch")
    return [STILL_IMPROVING.format(number, total, training["max_epochs"], patience)] if number else []


def solver_notes(number: int, total: int) -> list[str]:
    """Return a note on heads whose solver did not converge; empty if all did."""
    return [UNCONVERGED.format(number, total, MAX_ITERATIONS)] if number else []
