"""Records of trainings → tables, metrics, figures and report of a run folder."""

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import astuple
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from featcache.cache.joint import parts_of, split_id
from featcache.cache.shards import disk_bytes
from featcache.evaluate.calibration import KEY as CALIBRATION
from featcache.evaluate.calibration import mark_pseudo
from featcache.evaluate.scores import is_score
from featcache.fitting.convergence import Ending, advice_on_divergence, num_not_converged, solver_notes, training_notes
from featcache.fitting.notes import costs_note
from featcache.fitting.resolve import ResolvedFit
from featcache.report.captions import CONFUSION, CURVES, LABEL_FIGURE, PREDICTED, RELIABILITY, WEIGHTS, caption_of
from featcache.runs.costs import Costs
from featcache.runs.file_names import HISTORY, LAYER_WEIGHTS, METRICS, PREDICTIONS, VALIDATION_PREDICTIONS
from featcache.runs.identity import (
    FINAL,
    HEAD_INPUTS,
    PER_LABEL,
    STORE_SETTINGS,
    TEST_CORPORA,
    THRESHOLDS,
    TRAIN,
    VALIDATION,
)
from featcache.runs.parse import read_table
from featcache.runs.validation import score_validation
from featcache.runs.writer import UnfinishedRun, write_json, write_rows
from featcache.targets.targets import CLASSIFICATION, MULTILABEL, Labels, PredictionTarget
from featcache.training.solvers import SolverTraining
from featcache.training.trainable import Trainable

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)

DIVERGED = "seed {} of fold {!r} diverged: no finite validation loss, its head is untrained; {}"
KEYS = ("seed", "fold")


def record_of(training: Trainable, setup: ResolvedFit) -> dict[str, Any]:
    """Return the record of one training, as plain JSON values."""
    return {
        "history": [astuple(epoch) for epoch in training.history],
        "predictions": {setup.views.original(i): values for i, values in training.predictions.items()},
        "layer_weights": [
            [layer, float(weight), features.store.name]
            for features, names, weights in zip(
                setup.features, setup.seen.layers, training.layer_weights(), strict=True
            )
            if weights is not None
            for layer, weight in zip(names, weights, strict=True)
        ],
        "diverged": training.diverged,
        "unconverged": isinstance(training, SolverTraining) and training.unconverged,
        "costs": training.costs if isinstance(training, SolverTraining) else [],
        "num_parameters": training.num_parameters,
        "seconds": round(training.watch.seconds, 3),
    }


def decided_target(setup: ResolvedFit, fold: int, predictions: Mapping[str, Sequence[float]]) -> PredictionTarget:
    """Return the target with what a training chose on its validation part, see ``PredictionTarget.decided``.

    Args:
        setup: The resolved request.
        fold: Number of the fold, from 1 on.
        predictions: Utterance id → predictions of the training for its validation and test parts.
    """
    known = setup.folds[fold - 1].validation
    return setup.target.decided([setup.manifest[i] for i in known], [predictions[i] for i in known])


def write_results(run: UnfinishedRun, setup: ResolvedFit, *, report: bool = True) -> None:
    """Write the tables, metrics, figures and report of a run.

    Args:
        run: The run, with the records of all trainings.
        setup: The resolved request.
        report: Whether to write figures and report.
    """
    records = run.records()
    diverged = [
        DIVERGED.format(seed, setup.folds[fold - 1].name, advice_on_divergence(setup.request))
        for seed, fold, record in records
        if record["diverged"]
    ]
    for warning in diverged:
        log.warning("%s: %s", run.path.name, warning)
    diverged += solver_notes(sum(record.get("unconverged", False) for _, _, record in records), len(records))
    targets = [decided_target(setup, fold, record["predictions"]) for _, fold, record in records]
    _write_tables(run.folder, setup, records, targets)
    costs = costs_of(setup, records, read_table(run.folder / HISTORY))
    improving = _of_solver(records)
    if setup.spec.is_network:
        improving = training_notes(costs.not_converged or 0, len(records), setup.config)
    title = run.path.name
    chosen = _thresholds(targets)
    if report:
        write_summary(
            run.folder,
            setup,
            title=title,
            config=run.config,
            costs=costs,
            thresholds=chosen,
            notes=improving,
            warnings=diverged,
        )
    else:
        write_metrics(run.folder, setup, run.config, costs, chosen, _test_predictions(run.folder, setup))


def _test_predictions(folder: Path, setup: ResolvedFit) -> "pd.DataFrame | None":
    """Return the rows of ``predictions.csv``; None for a fit without a test part."""
    return None if setup.config.get(FINAL) else read_table(folder / PREDICTIONS)


def write_metrics(
    folder: Path,
    setup: ResolvedFit,
    config: Mapping[str, Any],
    costs: Costs,
    thresholds: Mapping[str, Any],
    predictions: "pd.DataFrame | None",
) -> dict[str, Any]:
    """Write ``metrics.json`` of a run whose tables exist, and return its content.

    Args:
        folder: Folder of the tables.
        setup: The resolved request.
        config: Content of ``config.yaml``.
        costs: Costs of the run.
        thresholds: Thresholds of several labels, see :func:`threshold_entry`; empty for other targets.
        predictions: Rows of ``predictions.csv``; None for a fit without a test part.
    """
    validation = read_table(folder / VALIDATION_PREDICTIONS)
    if predictions is None:
        metrics = _metrics_without_test(setup, validation)
    else:
        metrics = setup.target.summarise(predictions) | _scores_of_corpora(setup, predictions)
        mark_pseudo(metrics, setup.config)
    if setup.views.test:
        metrics["test_view"] = setup.views.test
    metrics[VALIDATION] = score_validation(validation, config)
    metrics |= {**({THRESHOLDS: dict(thresholds)} if thresholds else {}), **costs.entries()}
    write_json(folder / METRICS, metrics)
    return metrics


def write_summary(
    folder: Path,
    setup: ResolvedFit,
    *,
    title: str,
    config: Mapping[str, Any],
    costs: Costs,
    thresholds: Mapping[str, Any] = MappingProxyType({}),
    notes: Sequence[str] = (),
    warnings: Sequence[str] = (),
) -> None:
    """Write the metrics, figures and report of a run whose tables exist.

    Args:
        folder: Folder of the tables.
        setup: The resolved request.
        title: Name of the run.
        config: Content of ``config.yaml``.
        costs: Costs of the run.
        thresholds: Thresholds of several labels, see :func:`threshold_entry`; empty for other targets.
        notes: Further notes for the report.
        warnings: Further warnings for the report.
    """
    from featcache.report import figures
    from featcache.report.html import write_report
    from featcache.report.utterance_list import RunDetails, details_of

    predictions = _test_predictions(folder, setup)
    metrics = write_metrics(folder, setup, config, costs, thresholds, predictions)
    details: RunDetails | None = None
    shown: list[tuple[str, str]] = []
    num_seeds = len(config["seeds"])
    if predictions is not None:
        drawn = _draw_predictions(folder, setup, predictions, metrics)
        shown += [(drawn, caption_of(drawn, num_seeds)), *_draw_calibration(folder, metrics)]
        details = details_of(predictions, config, setup.manifest)
    history = read_table(folder / HISTORY)
    if np.isfinite(history[["train_loss", "validation_loss"]].to_numpy(float)).any():  # solvers have none
        figures.save(figures.training_curves(history, stop_on=setup.request.stop_on), folder / CURVES)
        shown.append((CURVES, caption_of(CURVES, num_seeds)))
    weights = read_table(folder / LAYER_WEIGHTS)
    if len(weights) and weights["layer"].str.isdigit().all():
        from featcache.report.layers import draw_layer_weights

        draw_layer_weights({title: weights}, folder / WEIGHTS)
        shown.append((WEIGHTS, caption_of(WEIGHTS, num_seeds)))
    write_report(
        folder,
        title=title,
        settings={name: value for name, value in config.items() if name not in (HEAD_INPUTS, STORE_SETTINGS)},
        metrics=metrics,
        notes=[*setup.notes, *notes],
        warnings=[*setup.warnings, *warnings],
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
    if setup.config["task"] == MULTILABEL:
        return told | {"chance_uar": setup.target.chance}
    return told | {"dimensions": list(setup.target.labels), "label_ranges": setup.config["label_ranges"]}


def _scores_of_corpora(setup: ResolvedFit, predictions: "pd.DataFrame") -> dict[str, Any]:
    """Return the entry of ``metrics.json`` with the scores of each test corpus; empty if there is only one."""
    of_row = [split_id(utterance_id)[0] for utterance_id in predictions["utterance_id"]]
    corpora = sorted(set(of_row)) if setup.config.get(TRAIN) else []
    if len(corpora) < 2:
        return {}
    found = {}
    for corpus in corpora:
        scores = setup.target.summarise(predictions[[one == corpus for one in of_row]])
        kept = {name: score for name, score in scores.items() if is_score(name)}
        found[corpus] = {"num_utterances": scores["num_utterances"], **kept}
    return {TEST_CORPORA: found}


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
    trained, of_all_models = max(sizes, default=None), sum(known) if known and len(known) == len(of_models) else None
    # The models of a fine-tuned run contain its trained blocks.
    own = sum(one.numel() for one in setup.weights().values()) if setup.tuned else trained
    return Costs(
        head_parameters=trained,
        model_parameters=of_all_models,
        all_parameters=None if own is None or of_all_models is None else own + of_all_models,
        store_bytes=sum(disk_bytes(part.path) for store in stores for part in parts_of(store)),
        seconds=total,
        seconds_per_training=None if total is None else total / len(records),
        not_converged=num_not_converged(history, Ending.of(setup.config)) if setup.spec.is_network else unconverged,
    )


def _draw_predictions(folder: Path, setup: ResolvedFit, predictions: "pd.DataFrame", metrics: Mapping[str, Any]) -> str:
    """Draw the predictions, and return the name of the figure."""
    if setup.config["task"] == CLASSIFICATION:
        from featcache.report.classification import write_classification_report

        write_classification_report(predictions, folder, classes=setup.config["classes"])
        return CONFUSION
    if setup.config["task"] == MULTILABEL:
        from featcache.report.label_scores import draw_label_scores

        draw_label_scores(metrics[PER_LABEL], folder / LABEL_FIGURE)
        return LABEL_FIGURE
    from featcache.report import figures

    figures.save(figures.predicted_values(predictions, setup.config["label_ranges"]), folder / PREDICTED)
    return PREDICTED


def _draw_calibration(folder: Path, metrics: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Draw the calibration of a classification, and return the name of the figure and its caption."""
    from featcache.report import reliability

    if CALIBRATION not in metrics:
        return []
    reliability.draw_reliability(metrics[CALIBRATION], folder / RELIABILITY)
    told = reliability.calibration_line(metrics[CALIBRATION])
    return [(RELIABILITY, f"{caption_of(RELIABILITY, metrics['num_seeds'])} {told[0].upper()}{told[1:]}.")]


def _thresholds(targets: Sequence[PredictionTarget]) -> dict[str, Any]:
    chosen = [target for target in targets if isinstance(target, Labels)]
    names = chosen[0].names if chosen else ()
    return threshold_entry({name: [target.thresholds[i] for target in chosen] for i, name in enumerate(names)})


def threshold_entry(values: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """Return the entry of ``metrics.json`` for the thresholds of several labels.

    Args:
        values: Label → thresholds in the order of the trainings: by seed, then by fold.
    """
    return {
        name: {
            "mean": float(np.mean(found)),
            "std": float(np.std(found, ddof=1)) if len(found) > 1 else None,
            "per_training": list(found),
        }
        for name, found in values.items()
    }


def _write_tables(
    folder: Path,
    setup: ResolvedFit,
    records: Sequence[tuple[int, int, dict[str, Any]]],
    targets: Sequence[PredictionTarget],
) -> None:
    def tested_view(part: str) -> list[str]:
        return [setup.views.test] if setup.views.test and part == "test" else []

    for name, part in ((PREDICTIONS, "test"), (VALIDATION_PREDICTIONS, "validation")):
        write_rows(
            folder / name,
            [*KEYS, "utterance_id", "speaker_id", *setup.target.columns(), *(["view"] if tested_view(part) else [])],
            [
                [*row, *tested_view(part)]
                for (seed, fold, record), target in zip(records, targets, strict=True)
                for row in _predictions(setup, target, seed, fold, part, record["predictions"])
            ],
        )
    steps = [] if setup.request.evaluate_every is None else ["step"]
    write_rows(
        folder / HISTORY,
        [*KEYS, "epoch", "train_loss", "validation_loss", f"validation_{setup.target.score}", *steps],
        [[seed, fold, *epoch] for seed, fold, record in records for epoch in record["history"]],
    )
    write_rows(
        folder / LAYER_WEIGHTS,
        [*KEYS, "layer", "weight", "features"],
        [[seed, fold, *row] for seed, fold, record in records for row in record["layer_weights"]],
    )


def _predictions(
    setup: ResolvedFit,
    target: PredictionTarget,
    seed: int,
    fold: int,
    part: str,
    predictions: Mapping[str, list[float]],
) -> list[list[Any]]:
    rows = []
    for utterance_id in getattr(setup.folds[fold - 1], part):
        utterance = setup.manifest[utterance_id]
        cells = target.cells(utterance, predictions[utterance_id])
        rows.append([seed, fold, utterance_id, utterance.speaker_id, *cells])
    return rows
