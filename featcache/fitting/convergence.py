"""History of a run → number of trainings that have not converged, and the advice.

A training of a network has not converged if ``--max-epochs`` ended it while its lowest validation loss, or its highest
score with ``--stop-on``, was less than ``--patience`` evaluations old: with more epochs it would have continued. A head
that a solver fits has not converged if the solver stopped after the largest number of iterations, where scikit-learn
gives a ConvergenceWarning.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from featcache.files.values import check_types, damaged
from featcache.heads import SOLVERS
from featcache.runs.costs import Costs
from featcache.runs.file_names import CONFIG, HISTORY
from featcache.runs.identity import FROM_LAYER
from featcache.runs.parse import REFIT
from featcache.runs.reader import RunFolder
from featcache.settings.finetunings import FinetuneSettings
from featcache.settings.fits import FitSettings
from featcache.training.solvers import MAX_ITERATIONS
from featcache.units import counted

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)

STILL_IMPROVING = "{} of {} trainings have not converged: {} ended them less than {} after their {}; raise {}"
UNCONVERGED = "{} of {} heads have not converged: the solver stopped after {:,} iterations"


@dataclass(frozen=True, kw_only=True)
class Ending:
    """Settings of a run that end its trainings.

    Attributes:
        max_epochs: Largest number of epochs.
        patience: Number of evaluations without improvement after which a training ends.
        stop_on: Criterion: ``loss``, or the validation score.
        evaluate_every: Number of training steps between evaluations; None for one evaluation per epoch.
        max_steps: Largest number of training steps; None for those of all epochs.
    """

    max_epochs: int
    patience: int
    stop_on: str = "loss"
    evaluate_every: int | None = None
    max_steps: int | None = None

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "Ending":
        """Return the settings in the content of ``config.yaml``."""
        training, further = config["training"], ("stop_on", "evaluate_every", "max_steps")
        given = {name: config[name] for name in further if name in config}
        return cls(max_epochs=training["max_epochs"], patience=training["patience"], **given)


def num_not_converged(history: "pd.DataFrame", ending: Ending) -> int:
    """Count the trainings that ``--max-epochs`` or ``--max-steps`` ended while validation was still improving.

    Args:
        history: Rows of ``history.csv``: seed, fold, epoch, validation_loss, ….
        ending: Settings that end the trainings.

    Returns:
        Number of trainings with ``max_epochs`` epochs, or with ``max_steps``, whose best evaluation is less than
        ``patience`` evaluations older than the last one. Trainings without any finite validation loss have diverged and
        do not count.
    """
    number = 0
    for _, rows in history.groupby(["seed", "fold"]):
        losses = rows["validation_loss"].to_numpy(float)
        values = losses if ending.stop_on == "loss" else -rows[f"validation_{ending.stop_on}"].to_numpy(float)
        values = np.where(np.isfinite(losses), values, np.inf)
        epochs = len(rows) if ending.evaluate_every is None else rows["epoch"].max()
        # Not every history has the number of steps; without early stopping, these two are the only ends.
        if (epochs >= ending.max_epochs or ending.max_steps is not None) and np.isfinite(losses).any():
            number += len(values) - 1 - int(values.argmin()) < ending.patience
    return number


def advice_on_divergence(request: FitSettings) -> str:
    """Return which settings of a training can be changed so that its loss stays finite, with their values."""
    head = f"--learning-rate ({request.learning_rate:g})"
    if not isinstance(request, FinetuneSettings):
        return f"lower {head}"
    blocks = f"--blocks-learning-rate ({request.blocks_learning_rate:g}) or " if request.blocks_learning_rate else ""
    clipping = "use --clip-norm 1" if request.clip_norm is None else f"lower --clip-norm ({request.clip_norm:g})"
    return f"lower {blocks}{head}, or {clipping}"


def convergence_notes(run: RunFolder) -> list[str]:
    """Return a note on the trainings of a run that have not converged; empty if all have.

    The result is also empty for a run without a history, like an ensemble.
    """
    if not (run.path / HISTORY).is_file():
        return []
    total = num_trainings(run)
    if run.config["head"] in SOLVERS:
        return solver_notes(Costs.of(run.metrics).not_converged or 0, total)
    ending = _ending_of(run)
    return training_notes(num_not_converged(_history_of(run, ending), ending), total, run.config)


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


def _ending_of(run: RunFolder) -> Ending:
    """Return the settings that end the trainings, from a run of anybody.

    Raises:
        StoreError: The number of epochs or the patience is missing, or a value has the wrong type.
    """
    whole: Mapping[str, tuple[type, ...]] = {"max_epochs": (int,), "patience": (int,)}
    check_types(run.config["training"], whole, f"{run.path / CONFIG}, training,", REFIT, required=whole)
    further = {"stop_on": (str,), "evaluate_every": (int,), "max_steps": (int,)}
    check_types(run.config, further, str(run.path / CONFIG), REFIT)
    return Ending.of(run.config)


def _history_of(run: RunFolder, ending: Ending | None = None) -> "pd.DataFrame":
    """Return the history of a run of anybody.

    Args:
        run: The run.
        ending: Settings that end the trainings; None if only the losses are needed.

    Raises:
        StoreError: A column is missing, or a value is no number.
    """
    from pandas.api.types import is_numeric_dtype

    columns = ["seed", "fold", "validation_loss"]
    if ending is not None and ending.stop_on != "loss":
        columns.append(f"validation_{ending.stop_on}")
    if ending is not None and ending.evaluate_every is not None:
        columns.append("epoch")
    history = run.history
    for column in columns:
        if column not in history or not is_numeric_dtype(history[column]):
            raise damaged(run.path / HISTORY, f"{column}: expected a column of numbers", REFIT)
    return history


def training_notes(number: int, total: int, config: Mapping[str, Any]) -> list[str]:
    """Return a note on networks that have not converged; empty if all have.

    Args:
        number: Number of trainings that have not converged.
        total: Number of all trainings.
        config: Content of ``config.yaml``.
    """
    ending = Ending.of(config)
    patience = counted(ending.patience, "epoch" if ending.evaluate_every is None else "evaluation")
    best = "lowest validation loss" if ending.stop_on == "loss" else f"highest validation {ending.stop_on.upper()}"
    limits = ["--max-epochs"] + ["--max-steps"] * (ending.max_steps is not None)
    ended = " or ".join(
        f"{limit} {value}" for limit, value in zip(limits, (ending.max_epochs, ending.max_steps), strict=False)
    )
    trains_blocks = FROM_LAYER in config and config.get("blocks_learning_rate") != 0
    ways = [" and ".join(limits), *["--blocks-learning-rate"] * trains_blocks]
    advice = f"{', '.join(ways)} or --learning-rate"
    return [STILL_IMPROVING.format(number, total, ended, patience, best, advice)] if number else []


def solver_notes(number: int, total: int) -> list[str]:
    """Return a note on heads whose solver did not converge; empty if all did."""
    return [UNCONVERGED.format(number, total, MAX_ITERATIONS)] if number else []
