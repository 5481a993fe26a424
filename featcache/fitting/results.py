"""Records of trainings → tables, metrics, figures and report of a run folder."""

import logging
from collections.abc import Mapping
from dataclasses import astuple
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from featcache.fitting.resolve import ResolvedFit
from featcache.runs.file_names import HISTORY, LAYER_WEIGHTS, METRICS, PREDICTIONS, VALIDATION_PREDICTIONS
from featcache.runs.identity import HEAD_INPUTS
from featcache.runs.parse import read_table
from featcache.runs.reader import RunFolder
from featcache.runs.writer import UnfinishedRun, write_json, write_rows
from featcache.targets.targets import CLASSIFICATION
from featcache.training.svm import MAX_ITERATIONS, SVMTraining
from featcache.training.train import Trainable

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)

PREDICTED = "predicted_values"
DIVERGED = "seed {} of fold {!r} diverged: no finite validation loss, its head is untrained; lower --learning-rate"
UNCONVERGED = "{} of {} support vector machines did not converge: the solver stopped after {:,} iterations"
STILL_IMPROVING = (
    "{} of {} trainings reached --max-epochs {} while their validation loss was still decreasing; "
    "a higher --max-epochs may give better results"
)
KEYS = ("seed", "fold")


def record_of(training: Trainable, setup: ResolvedFit) -> dict[str, Any]:
    """Return the record of one training, as plain JSON values."""
    return {
        "history": [astuple(epoch) for epoch in training.history],
        "predictions": training.predictions,
        "layer_weights": [
            [layer, float(weight), features.store.name]
            for features, weights in zip(setup.features, training.layer_weights(), strict=True)
            if weights is not None
            for layer, weight in zip(features.layer_names, weights, strict=True)
        ],
        "diverged": training.diverged,
        "unconverged": isinstance(training, SVMTraining) and training.unconverged,
    }


def write_results(run: UnfinishedRun, setup: ResolvedFit) -> None:
    """Write the tables, metrics, figures and report of a run.

    Args:
        run: The run, with the records of all trainings.
        setup: The resolved request.
    """
    from featcache.report import figures
    from featcache.report.html import write_report

    folder, title = run.folder, run.path.name
    records = run.records()
    diverged = [
        DIVERGED.format(seed, setup.folds[fold - 1].name) for seed, fold, record in records if record["diverged"]
    ]
    unconverged = sum(record.get("unconverged", False) for _, _, record in records)
    if unconverged:
        diverged.append(UNCONVERGED.format(unconverged, len(records), MAX_ITERATIONS))
    for warning in diverged:
        log.warning("%s: %s", title, warning)
    _write_tables(folder, setup, records)
    predictions = read_table(folder / PREDICTIONS)
    metrics = setup.target.summarise(predictions)
    shown = [_draw_predictions(folder, setup, predictions)]
    history = read_table(folder / HISTORY)
    if np.isfinite(
        history[["train_loss", "validation_loss"]].to_numpy(float)
    ).any():  # support vector machines have none
        figures.save(figures.training_curves(history), folder / "training_curves")
        shown.append(
            ("training_curves", "Losses of all folds and seeds; dots mark the epochs whose weights were kept.")
        )
    improving = note_on_epochs(history, setup.training.max_epochs)
    layers = [layer for _, _, record in records for layer, _, _ in record["layer_weights"]]
    if layers and all(layer.isdigit() for layer in layers):
        from featcache.report.layers import draw_layer_weights

        draw_layer_weights({title: read_table(folder / LAYER_WEIGHTS)}, folder / "layer_weights")
        shown.append(("layer_weights", "Learned layer weights; bars are the standard deviation over seeds."))
    write_json(folder / METRICS, metrics)
    write_report(
        folder,
        title=title,
        settings={name: value for name, value in run.config.items() if name != HEAD_INPUTS},
        metrics=metrics,
        notes=[*setup.notes, *improving],
        warnings=setup.warnings + diverged,
        figures=shown,
    )


def note_on_epochs(history: "pd.DataFrame", max_epochs: int) -> list[str]:
    """Return a note on trainings that reached the largest number of epochs while they were still improving.

    Args:
        history: Rows of ``history.csv``: seed, fold, epoch, validation_loss, ….
        max_epochs: Largest number of epochs in the configuration.

    Returns:
        One sentence on the trainings whose last epoch was number ``max_epochs`` and also the best one; empty if there
        are no such trainings.
    """
    trainings = [losses.to_numpy(float) for _, losses in history.groupby(list(KEYS))["validation_loss"]]
    improving = [
        losses
        for losses in trainings
        if len(losses) >= max_epochs and losses[-1] < min(losses[:-1][~np.isnan(losses[:-1])], default=np.inf)
    ]
    return [STILL_IMPROVING.format(len(improving), len(trainings), max_epochs)] if improving else []


def epochs_of(run: RunFolder) -> list[str]:
    """Return the result of :func:`note_on_epochs` for a finished run; empty if it has no history, like an ensemble."""
    if not (run.path / HISTORY).is_file():
        return []
    return note_on_epochs(run.history, run.config["training"]["max_epochs"])


def _draw_predictions(folder: Path, setup: ResolvedFit, predictions: "pd.DataFrame") -> tuple[str, str]:
    """Draw the predictions, and return the name of the figure and its caption."""
    if setup.config["task"] == CLASSIFICATION:
        from featcache.report.classification import CONFUSION, write_classification_report

        write_classification_report(predictions, folder, classes=setup.config["classes"])
        return CONFUSION, "Recall in percent; small print: number of utterances, averaged over seeds."
    from featcache.report import figures

    figures.save(figures.predicted_values(predictions, setup.config["label_ranges"]), folder / PREDICTED)
    return PREDICTED, "Predictions of the test utterances, averaged over seeds; the line marks perfect predictions."


def _write_tables(folder: Path, setup: ResolvedFit, records: list[tuple[int, int, dict[str, Any]]]) -> None:
    for name, part in ((PREDICTIONS, "test"), (VALIDATION_PREDICTIONS, "validation")):
        write_rows(
            folder / name,
            [*KEYS, "utterance_id", "speaker_id", *setup.target.columns()],
            [
                row
                for seed, fold, record in records
                for row in _predictions(setup, seed, fold, part, record["predictions"])
            ],
        )
    write_rows(
        folder / HISTORY,
        [*KEYS, "epoch", "train_loss", "validation_loss", f"validation_{setup.target.score}"],
        [[seed, fold, *epoch] for seed, fold, record in records for epoch in record["history"]],
    )
    write_rows(
        folder / LAYER_WEIGHTS,
        [*KEYS, "layer", "weight", "features"],
        [[seed, fold, *row] for seed, fold, record in records for row in record["layer_weights"]],
    )


def _predictions(
    setup: ResolvedFit, seed: int, fold: int, part: str, predictions: Mapping[str, list[float]]
) -> list[list[Any]]:
    rows = []
    for utterance_id in getattr(setup.folds[fold - 1], part):
        utterance = setup.manifest[utterance_id]
        cells = setup.target.cells(utterance, predictions[utterance_id])
        rows.append([seed, fold, utterance_id, utterance.speaker_id, *cells])
    return rows
