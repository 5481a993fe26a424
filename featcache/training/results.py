"""Records of trainings → the tables, metrics, figures and report of a run folder."""

import logging
from collections.abc import Mapping
from dataclasses import astuple
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featcache.training import run_folder
from featcache.training.run_folder import UnfinishedRun
from featcache.training.setup import Setup
from featcache.training.svm import MAX_ITERATIONS, SVMTraining
from featcache.training.targets import CLASSIFICATION
from featcache.training.train import Trainable

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)

PREDICTED = "predicted_values"
DIVERGED = "seed {} of fold {!r} diverged, so its head is untrained: no finite validation loss; lower --learning-rate"
UNCONVERGED = "the solver of {} of {} support vector machines stopped after {:,} iterations, before it converged"
KEYS = ("seed", "fold")


def record_of(training: Trainable, setup: Setup) -> dict[str, Any]:
    """What a run keeps of one training, as plain JSON values."""
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


def write_results(run: UnfinishedRun, setup: Setup) -> None:
    """Write everything that stands in a finished run."""
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
    predictions = run_folder.read_table(folder / "predictions.csv")
    metrics = setup.target.summarise(predictions)
    shown = [_draw_predictions(folder, setup, predictions)]
    figures.save(figures.training_curves(run_folder.read_table(folder / "history.csv")), folder / "training_curves")
    shown.append(
        ("training_curves", "Losses of all folds and seeds; the dots mark the epochs whose weights were kept.")
    )
    layers = [layer for _, _, record in records for layer, _, _ in record["layer_weights"]]
    if layers and all(layer.isdigit() for layer in layers):
        from featcache.report.layers import draw_layer_weights

        draw_layer_weights({title: run_folder.read_table(folder / "layer_weights.csv")}, folder / "layer_weights")
        shown.append(("layer_weights", "Learned layer weights; bars are the standard deviation over seeds."))
    run_folder.write_json(folder / run_folder.METRICS, metrics)
    write_report(
        folder,
        title=title,
        settings=run.config,
        metrics=metrics,
        notes=setup.notes,
        warnings=setup.warnings + diverged,
        figures=shown,
    )


def _draw_predictions(folder: Path, setup: Setup, predictions: "pd.DataFrame") -> tuple[str, str]:
    """The picture of what was predicted, and its caption."""
    if setup.config["task"] == CLASSIFICATION:
        from featcache.report.classification import CONFUSION, write_classification_report

        write_classification_report(predictions, folder, classes=setup.config["classes"])
        return CONFUSION, "Recall in percent; in small print the utterances, averaged over seeds."
    from featcache.report import figures

    figures.save(figures.predicted_values(predictions, setup.config["label_ranges"]), folder / PREDICTED)
    return PREDICTED, "Each tested utterance, its predictions averaged over seeds; on the line they would be right."


def _write_tables(folder: Path, setup: Setup, records: list[tuple[int, int, dict[str, Any]]]) -> None:
    for name, part in (("predictions", "test"), ("validation_predictions", "validation")):
        run_folder.write_rows(
            folder / f"{name}.csv",
            [*KEYS, "utterance_id", "speaker_id", *setup.target.columns()],
            [
                row
                for seed, fold, record in records
                for row in _predictions(setup, seed, fold, part, record["predictions"])
            ],
        )
    run_folder.write_rows(
        folder / "history.csv",
        [*KEYS, "epoch", "train_loss", "validation_loss", f"validation_{setup.target.score}"],
        [[seed, fold, *epoch] for seed, fold, record in records for epoch in record["history"]],
    )
    run_folder.write_rows(
        folder / "layer_weights.csv",
        [*KEYS, "layer", "weight", "features"],
        [[seed, fold, *row] for seed, fold, record in records for row in record["layer_weights"]],
    )


def _predictions(
    setup: Setup, seed: int, fold: int, part: str, predictions: Mapping[str, list[float]]
) -> list[list[Any]]:
    rows = []
    for utterance_id in getattr(setup.folds[fold - 1], part):
        utterance = setup.manifest[utterance_id]
        cells = setup.target.cells(utterance, predictions[utterance_id])
        rows.append([seed, fold, utterance_id, utterance.speaker_id, *cells])
    return rows
