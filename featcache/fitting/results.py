"""Records of trainings → tables, metrics, figures and report of a run folder."""

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, astuple
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from featcache.cache.shards import disk_bytes
from featcache.fitting.convergence import num_not_converged, solver_notes, training_notes
from featcache.fitting.notes import costs_note
from featcache.fitting.resolve import ResolvedFit
from featcache.runs.costs import Costs
from featcache.runs.file_names import HISTORY, LAYER_WEIGHTS, METRICS, PREDICTIONS, VALIDATION_PREDICTIONS
from featcache.runs.identity import FINAL, HEAD_INPUTS, STORE_SETTINGS, VALIDATION
from featcache.runs.parse import read_table
from featcache.runs.validation import score_validation
from featcache.runs.writer import UnfinishedRun, write_json, write_rows
from featcache.targets.targets import CLASSIFICATION
from featcache.training.solvers import SolverTraining
from featcache.training.trainable import Trainable

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)

PREDICTED = "predicted_values"
DIVERGED = "seed {} of fold {!r} diverged: no finite validation loss, its head is untrained; lower --learning-rate"
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
        "unconverged": isinstance(training, SolverTraining) and training.unconverged,
        "costs": training.costs if isinstance(training, SolverTraining) else [],
        "num_parameters": training.num_parameters,
        "seconds": round(training.watch.seconds, 3),
    }


def write_results(run: UnfinishedRun, setup: ResolvedFit) -> None:
    """Write the tables, metrics, figures and report of a run.

    Args:
        run: The run, with the records of all trainings.
        setup: The resolved request.
    """
    from featcache.report import figures
    from featcache.report.html import write_report
    from featcache.report.utterance_list import RunDetails, details_of

    folder, title = run.folder, run.path.name
    records = run.records()
    diverged = [
        DIVERGED.format(seed, setup.folds[fold - 1].name) for seed, fold, record in records if record["diverged"]
    ]
    for warning in diverged:
        log.warning("%s: %s", title, warning)
    diverged += solver_notes(sum(record.get("unconverged", False) for _, _, record in records), len(records))
    _write_tables(folder, setup, records)
    validation = read_table(folder / VALIDATION_PREDICTIONS)
    details: RunDetails | None = None
    if setup.config.get(FINAL):
        metrics, shown = _metrics_without_test(setup, validation), []
    else:
        predictions = read_table(folder / PREDICTIONS)
        metrics, shown = setup.target.summarise(predictions), [_draw_predictions(folder, setup, predictions)]
        details = details_of(predictions, run.config, setup.manifest)
    metrics[VALIDATION] = score_validation(validation, run.config)
    history = read_table(folder / HISTORY)
    if np.isfinite(history[["train_loss", "validation_loss"]].to_numpy(float)).any():  # solvers have none
        figures.save(figures.training_curves(history), folder / "training_curves")
        shown.append(
            (
                "training_curves",
                "Losses and validation score of all folds and seeds; dots mark the epochs whose weights were kept.",
            )
        )
    costs = costs_of(setup, records, history)
    improving = []
    if setup.spec.is_network:
        improving = training_notes(costs.not_converged or 0, len(records), asdict(setup.training))
    layers = [layer for _, _, record in records for layer, _, _ in record["layer_weights"]]
    if layers and all(layer.isdigit() for layer in layers):
        from featcache.report.layers import draw_layer_weights

        draw_layer_weights({title: read_table(folder / LAYER_WEIGHTS)}, folder / "layer_weights")
        shown.append(("layer_weights", "Learned layer weights; bars are the standard deviation over seeds."))
    metrics |= costs.entries()
    write_json(folder / METRICS, metrics)
    write_report(
        folder,
        title=title,
        settings={name: value for name, value in run.config.items() if name not in (HEAD_INPUTS, STORE_SETTINGS)},
        metrics=metrics,
        notes=[*setup.notes, *_of_solver(records), *improving],
        warnings=setup.warnings + diverged,
        figures=shown,
        details=details,
    )


def _of_solver(records: Sequence[tuple[int, int, Mapping[str, Any]]]) -> list[str]:
    """Return the note on the chosen C of heads that a solver fitted; empty for networks."""
    costs = [cost for _, _, record in records for cost in record.get("costs", ())]
    return [costs_note(costs)] if costs else []


def _metrics_without_test(setup: ResolvedFit, validation: "pd.DataFrame") -> dict[str, Any]:
    """Return the content of ``metrics.json`` beside the validation scores, for a fit without a test part."""
    told = {"num_seeds": len(setup.config["seeds"]), "num_folds": len(setup.folds)}
    if setup.config["task"] == CLASSIFICATION:
        return told | {"chance_uar": 100 / validation["target"].nunique()}
    return told | {"dimensions": list(setup.target.labels), "label_ranges": setup.config["label_ranges"]}


def costs_of(
    setup: ResolvedFit, records: Sequence[tuple[int, int, Mapping[str, Any]]], history: "pd.DataFrame"
) -> Costs:
    """Return the costs of a run; those that records of an earlier release do not contain are None.

    Args:
        setup: The resolved request.
        records: Seed, fold and record of each training.
        history: Rows of ``history.csv``.
    """
    seconds = [record.get("seconds") for _, _, record in records]
    total = None if None in seconds else math.fsum(value for value in seconds if value is not None)
    stores = list({one.store.path: one.store for one in setup.features}.values())
    of_models = [store.metadata.get("num_parameters") for store in stores if "weights" in store.metadata]
    known = [number for number in of_models if isinstance(number, int)]
    sizes = [record["num_parameters"] for _, _, record in records if "num_parameters" in record]
    unconverged = sum(record.get("unconverged", False) for _, _, record in records)
    return Costs(
        head_parameters=max(sizes, default=None),
        model_parameters=sum(known) if known and len(known) == len(of_models) else None,
        store_bytes=sum(disk_bytes(store.path) for store in stores),
        seconds=total,
        seconds_per_training=None if total is None else total / len(records),
        not_converged=num_not_converged(history, asdict(setup.training)) if setup.spec.is_network else unconverged,
    )


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
