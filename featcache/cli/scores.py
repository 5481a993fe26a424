"""Scores and ensembles → tables on the terminal."""

import itertools
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from featcache.cli.group_output import print_groupings
from featcache.cli.named import output_path
from featcache.errors import PredictionsError
from featcache.evaluate.by_group import Grouping, score_by
from featcache.evaluate.calibration import KEY as CALIBRATION
from featcache.evaluate.calibration import mark_pseudo, without_probabilities
from featcache.evaluate.intervals import caution, described
from featcache.evaluate.predictions import Predictions, read_predictions
from featcache.evaluate.scores import chance_of, digits_of, heading_of
from featcache.evaluate.scoring import score
from featcache.fitting.ensemble import notes
from featcache.report.tables import check_suffix, interval, mean_and_std, score_table
from featcache.runs.file_names import COMBINATIONS, PREDICTIONS
from featcache.runs.group_labels import group_labels, run_of
from featcache.runs.parse import read_table
from featcache.runs.reader import RunFolder, find_run
from featcache.runs.writer import write_json
from featcache.terminal.console import Console, Table, print_line
from featcache.workspace import Workspace

log = logging.getLogger(__name__)

_SHOWN = 10
# A missing file with one of these suffixes is not the name of a run.
_TABLES = (".csv", ".tsv", ".txt")


def print_score(
    path: Path,
    *,
    columns: Mapping[str, str],
    classes: Sequence[str] | None,
    task: str | None,
    by: Sequence[str] = (),
    labels: Path | None = None,
    figure: Path | None = None,
    out: Path | None = None,
) -> None:
    """Score a table of predictions, and print the scores.

    Args:
        path: CSV table, or the name or folder of a run.
        columns: Role → name of a column with another name than usual.
        classes: All classes, in the order of the tables; None for the classes in the table.
        task: Task type; None if it is inferred from the columns.
        by: Labels whose groups are scored, see :func:`~featcache.runs.group_labels.group_labels`.
        labels: Table of labels, or None.
        figure: Path of the reliability diagram without suffix, or None.
        out: JSON file for all scores, or None.

    Raises:
        FeatcacheError: The predictions cannot be scored, a label is unknown, or a file cannot be written.
    """
    check_suffix(out, ".json")
    if labels is not None and not by:
        raise PredictionsError(f"--labels {labels}: it is only read for --by; add --by LABEL")
    if not path.exists() and path.suffix not in _TABLES:
        path = find_run(Workspace.at(), str(path)).path
    run = run_of(path)
    if path.is_dir() and run is not None:
        path, classes = path / PREDICTIONS, classes or run.config.get("classes")
    predictions = read_predictions(path, columns=columns, classes=classes, task=task)
    metrics = score(predictions)
    if run is not None:
        mark_pseudo(metrics, run.config)
    groupings: list[Grouping] = []
    if by:
        found = group_labels(by, predictions.table, columns=columns, run=run, file=labels)
        groupings = score_by(predictions, found)
    _warn_of_few(metrics)
    _print_scores(metrics)
    _tell_calibration(predictions, metrics, figure)
    print_groupings(groupings)
    if out:
        of_groups = {one.label: one.to_json() for one in groupings}
        write_json(out, metrics | ({"by": of_groups} if of_groups else {}))


def _print_scores(metrics: Mapping[str, Any]) -> None:
    Console().print(_score_table(metrics))
    if "recall" in metrics:
        table = score_table("Class", "Recall (%)", "Utterances")
        sizes = [sum(row) for row in metrics["confusion"]["counts"]]
        for (label, recall), size in zip(metrics["recall"].items(), sizes, strict=True):
            table.add_row(label, mean_and_std(recall["mean"], recall["std"]), f"{size:g}")
        Console().print(table)
    if "per_label" in metrics:
        table = score_table("Label", "F1 (%)", "UAR (%)", "Utterances")
        for label, found in metrics["per_label"].items():
            cells = (mean_and_std(found[name]["mean"], found[name]["std"]) for name in ("f1", "uar"))
            table.add_row(label, *cells, str(found["support"]))
        Console().print(table)
    chance = f"; {told}" if (told := chance_of(metrics)) else ""
    speakers = metrics["num_speakers"] or "unknown"
    print_line()
    print_line(
        f"utterances: {metrics['num_utterances']}, speakers: {speakers}, folds: {metrics['num_folds']}, "
        f"seeds: {metrics['num_seeds']}{chance}"
    )
    print_line(described(metrics))


def _tell_calibration(predictions: Predictions, metrics: Mapping[str, Any], figure: Path | None) -> None:
    """Print the calibration if there are probabilities, and draw it into a figure."""
    reason = without_probabilities(predictions)
    if figure is not None and reason:
        raise PredictionsError(f"--figure {figure}: there is no calibration to draw, because {reason}")
    if CALIBRATION in metrics:
        from featcache.report.reliability import calibration_line, draw_reliability

        print_line(calibration_line(metrics[CALIBRATION]))
        if figure is not None:
            path = output_path(figure, "--figure", "figures/reliability")
            draw_reliability(metrics[CALIBRATION], path)
            print_line(f"{path}.png  .svg  .pdf")
    elif predictions.classes and any(str(column).startswith("p_") for column in predictions.table):
        log.warning("no calibration: %s", reason)


def print_ensemble(run: RunFolder) -> None:
    """Print the best combinations, the selected one, and the one with the highest test score."""
    combinations = read_table(run.path / COMBINATIONS)
    candidates = run.config["candidates"]
    numbers = {
        " + ".join(names): " + ".join(str(candidates.index(name) + 1) for name in names)
        for size in run.config["sizes"]
        for names in itertools.combinations(candidates, size)
    }
    print_numbered(candidates)
    shown = {"validation_uar": "Validation UAR", "test_uar": "Test UAR (%)", "test_wa": "Test WA (%)"}
    shown = {name: heading for name, heading in shown.items() if name in combinations}
    table = score_table("Members", "Vote", *shown.values())
    for row in combinations.head(_SHOWN).to_dict("records"):
        scores = (f"{row[name]:.1f}" for name in shown)
        table.add_row(numbers[row["members"]], row["vote"], *scores)
    Console().print(table)
    if len(combinations) > _SHOWN:
        print_line(f"… and {len(combinations) - _SHOWN} more in {COMBINATIONS}")
    uar = run.metrics["uar"]
    selected = "selected by validation UAR: " if "chosen_on" in run.config else ""
    print_line()
    print_line(f"{selected}test UAR {mean_and_std(uar['mean'], uar['std'])}, 95 % CI {interval(uar['ci95'])}")
    for note in notes(run.config, run.metrics):
        print_line(note)
    if "chosen_on" in run.config:
        best = combinations.nlargest(1, "test_uar").iloc[0]
        told = f"{best['test_uar']:.1f} ({best['vote']} vote of {numbers[best['members']]})"
        print_line(f"highest test UAR: {told}; it is optimistic, do not report it")
    _warn_of_few(run.metrics)


def print_numbered(labels: Sequence[str]) -> None:
    """Print the number and name of each run; tables show only the number, because names are long.

    Args:
        labels: Names of the runs, in the order of their numbers.
    """
    for number, label in enumerate(labels, start=1):
        print_line(f"{number}  {label}")
    print_line()


def _score_table(metrics: Mapping[str, Any]) -> Table:
    over = metrics["bootstrap"]["unit"]
    table = score_table(
        "Score",
        "Mean ± std" if metrics["num_seeds"] > 1 else "Value",
        f"95 % CI, {over}",
        *(["utterances"] * (over == "speakers")),
        "Mean of folds",
    )
    for name, found in metrics.items():
        if not (isinstance(found, dict) and "ci95" in found):
            continue
        digits = digits_of(name)
        intervals = [found["ci95"], *([found["ci95_utterances"]] if over == "speakers" else [])]
        cells = [mean_and_std(found["mean"], found["std"], digits), *(interval(i, digits) for i in intervals)]
        table.add_row(heading_of(name), *cells, mean_and_std(found["mean_over_folds"], None, digits))
    return table


def _warn_of_few(metrics: Mapping[str, Any]) -> None:
    told = caution(metrics["bootstrap"]["unit"], metrics["bootstrap"]["count"], metrics["num_speakers"])
    if told:
        log.warning("%s", told)
