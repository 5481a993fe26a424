"""Settings that were tried → run folder with the chosen one of each fold, and a table of all settings."""

import csv
import io
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from featcache.files.disk import writing
from featcache.files.regular import link_or_copy
from featcache.fitting.convergence import convergence_notes
from featcache.fitting.record import plain
from featcache.fitting.results import threshold_entry, write_summary
from featcache.fitting.search.choice import Tried, choose
from featcache.fitting.search.plan import Search
from featcache.fitting.search.search_notes import search_notes
from featcache.runs.costs import Costs
from featcache.runs.file_names import (
    CONFIG,
    HISTORY,
    LAYER_WEIGHTS,
    METRICS,
    NORMALISATION,
    PREDICTIONS,
    TRIED,
    VALIDATION_PREDICTIONS,
    head_name,
    model_name,
)
from featcache.runs.identity import BY_FOLD, SET_BY_FOLD, SWEEP, THRESHOLDS, TRAINING, TUNED_LAYERS
from featcache.runs.parse import read_checked, read_metrics
from featcache.runs.reader import RunFolder
from featcache.runs.writer import new_run, write_rows, write_yaml
from featcache.settings.fits import TrainingConfig
from featcache.settings.searches import OF_HEAD, PER_FOLD, value_text

_TABLES = (PREDICTIONS, VALIDATION_PREDICTIONS, HISTORY, LAYER_WEIGHTS)
# Settings of the training that must be numbers in every run: the largest one of all folds is recorded.
_NUMBERS = ("max_epochs", "patience", "batch_size")


def write_result(search: Search, tried: Sequence[Tried]) -> RunFolder:
    """Choose the setting of each fold, and write the run folder of a search.

    Tables and heads are those of the chosen settings.

    Args:
        search: The search.
        tried: All settings, in order.

    Returns:
        The result.
    """
    chosen = choose(tried, search.request.choose)
    of_folds = [tried[position] for position in chosen]
    first = of_folds[0]
    config = {**config_of(search, of_folds), SWEEP: _described(search, tried, of_folds)}
    with new_run(search.path) as folder:
        write_yaml(folder / CONFIG, config)
        _copy_results(of_folds, folder)
        write_summary(
            folder,
            first.planned.setup,
            title=search.path.name,
            config=config,
            costs=_costs(of_folds),
            thresholds=_thresholds(of_folds),
            notes=[
                *search_notes(config[SWEEP], first.score, [one.planned.setup for one in of_folds]),
                *(note for one in _different(of_folds) for note in convergence_notes(one.run)),
            ],
        )
        _write_tried(folder, search, tried, chosen)
    return RunFolder(search.path)


def _different(of_folds: Sequence[Tried]) -> list[Tried]:
    return list({one.run.path: one for one in of_folds}.values())


def config_of(search: Search, of_folds: Sequence[Tried]) -> dict[str, Any]:
    """Return the content of ``config.yaml`` beside the description of the search.

    Args:
        search: The search.
        of_folds: The chosen setting of each fold. With ``per-fold``, settings that may differ are recorded as such.
    """
    config = dict(of_folds[0].run.config)
    if search.request.choose != PER_FOLD:
        return config
    training = dict(config.get(TRAINING, {}))
    for name in search.space.options:
        if name.startswith(OF_HEAD):
            config[SET_BY_FOLD] = [dict(one.run.config.get("set", {})) for one in of_folds]
            config.pop("set", None)
        elif name in _NUMBERS:
            training[name] = max(one.run.config[TRAINING][name] for one in of_folds)
        elif name in TrainingConfig.__dataclass_fields__:
            training[name] = BY_FOLD
        else:
            config[name] = BY_FOLD
    return {**config, TRAINING: training} if training else config


def _described(search: Search, tried: Sequence[Tried], of_folds: Sequence[Tried]) -> dict[str, Any]:
    """Return the description of a search in ``config.yaml``."""
    values = [plain(one.values) for one in of_folds]
    over = "of the fold" if search.request.choose == PER_FOLD else "of all folds"
    return {
        **search.asked,
        "chosen_on": f"validation {of_folds[0].score.label} {over}, averaged over seeds",
        "settings": len(tried),
        "chosen": values if search.request.choose == PER_FOLD else values[0],
        "sha256": search.sha256,
    }


def _copy_results(of_folds: Sequence[Tried], folder: Path) -> None:
    """Copy tables, heads, fine-tuned models and statistics of the chosen settings."""
    runs = _different(of_folds)
    for name in _TABLES:
        if len(runs) == 1:
            _copy(runs[0].run.path / name, folder / name)
        else:
            _join(name, of_folds, folder)
    _copy(runs[0].run.path / NORMALISATION, folder / NORMALISATION)
    for fold, one in enumerate(of_folds, start=1):
        for seed in one.run.config["seeds"]:
            name = head_name(seed, fold)
            _copy(one.run.path / name, folder / name)
            for store in one.run.config.get(TUNED_LAYERS, {}):
                _link(one.run.path / model_name(store, seed, fold), folder / model_name(store, seed, fold))


def _link(source: Path, target: Path) -> None:
    """Give the files of a model a second name, because they are large."""
    with writing(target):
        target.mkdir(parents=True)
        for path in source.iterdir():
            link_or_copy(path, target / path.name)


def _copy(source: Path, target: Path) -> None:
    if source.is_file():  # without normalisation there are no statistics
        with writing(target):
            target.parent.mkdir(exist_ok=True)
            shutil.copyfile(source, target)


def _join(name: str, of_folds: Sequence[Tried], folder: Path) -> None:
    """Write the rows of each fold from the table of its chosen setting; numbers stay as they are written there."""
    columns: list[str] = []
    rows: list[list[str]] = []
    for fold, one in enumerate(of_folds, start=1):
        columns, *found = csv.reader(io.StringIO(read_checked(one.run.path / name).decode(), newline=""))
        where = columns.index("fold")
        rows += [row for row in found if row[where] == str(fold)]
    write_rows(folder / name, columns, rows)


def _costs(of_folds: Sequence[Tried]) -> Costs:
    """Return the costs of the chosen settings; if there are several, the time of each training is unknown."""
    found = [Costs.of(one.run.metrics) for one in _different(of_folds)]
    if len(found) == 1:
        return found[0]
    sizes = [one.head_parameters for one in found if one.head_parameters is not None]
    unknown = replace(found[0], seconds=None, seconds_per_training=None, not_converged=None, all_parameters=None)
    return replace(unknown, head_parameters=max(sizes, default=None))


def _thresholds(of_folds: Sequence[Tried]) -> Mapping[str, Any]:
    """Return the thresholds of several labels in the order of the trainings; empty for other targets."""
    saved = [one.run.metrics.get(THRESHOLDS, {}) for one in of_folds]
    number = len(of_folds)
    return threshold_entry(
        {
            name: [
                saved[fold][name]["per_training"][seed * number + fold]
                for seed in range(len(of_folds[0].run.config["seeds"]))
                for fold in range(number)
            ]
            for name in saved[0]
        }
    )


def _write_tried(folder: Path, search: Search, tried: Sequence[Tried], chosen: Sequence[int]) -> None:
    """Write the table of all settings; only the setting that was chosen for all folds has a test score."""
    name, per_fold = tried[0].score.name, search.request.choose == PER_FOLD
    test: Mapping[str, Any] = read_metrics(folder / METRICS).get(name) or {}
    folds = [f"validation_{name}_fold_{fold}" for fold in range(1, len(chosen) + 1)] if per_fold else []
    columns = [f"validation_{name}", f"validation_{name}_std", *folds, "chosen_for_folds"]
    rows = []
    for position, one in enumerate(tried):
        mine = [str(fold) for fold, other in enumerate(chosen, start=1) if other == position]
        scores = [one.over_folds["mean"], one.over_folds["std"], *(one.by_fold if per_fold else ())]
        tested = [test.get("mean")] if mine and not per_fold else [None]
        used = plain(one.values)
        values = [value_text(option, used[option]) if option in used else "" for option in search.space.options]
        rows.append([position + 1, *values, *scores, " ".join(mine), *tested, one.run.name])
    write_rows(folder / TRIED, ["setting", *search.space.options, *columns, f"test_{name}", "run"], rows)
