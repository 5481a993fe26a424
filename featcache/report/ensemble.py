"""Runs → a vote of several of them, chosen on validation, in a folder like a run's."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd

from featcache._version import __version__
from featcache.disk import writing
from featcache.errors import PredictionsError, StoreError, unknown_name
from featcache.evaluate.ensemble import TIE_RULE, VOTES, Ballots, Choice, choose
from featcache.evaluate.metrics import summarise
from featcache.files import replace_file
from featcache.report.classification import CONFUSION, write_classification_report
from featcache.report.html import write_report
from featcache.training import run_folder
from featcache.training.run_folder import Run, find_run
from featcache.workspace import Workspace, check_name

SIZES = (3, 5)
VALIDATION = "validation_predictions.csv"
COMBINATIONS = "combinations.csv"
_SHARED = ("corpus", "target", "protocol", "select", "classes", "seeds")


def ensemble(
    *,
    runs: Sequence[str],
    sizes: Sequence[int] | None = None,
    votes: Sequence[str] = VOTES,
    name: str | None = None,
    overwrite: bool = False,
    home: str | os.PathLike[str] | None = None,
) -> Run:
    """Let every combination of runs vote, choose one on validation UAR, and leave a run folder of it.

    Args:
        runs: Two or more finished classification runs, by folder or name.
        sizes: How many vote together; by default three and five, or all where there are only two.
        votes: ``hard`` (majority), ``soft`` (mean probability) or both.
        name: Of the folder; by default made from the members.
        overwrite: Replace a folder of that name.
        home: Where everything lives; by default ``$FEATCACHE_HOME``, or ``data``.

    Returns:
        The ensemble, with ``combinations.csv`` beside what a fit leaves.

    Raises:
        FeatcacheError: too few runs, runs that differ in more than what they are made of, no validation predictions.
    """
    workspace = Workspace.at(home)
    candidates = [find_run(workspace, run) for run in runs]
    sizes = _checked_sizes(len(candidates), sizes)
    unknown = [vote for vote in votes if vote not in VOTES]
    if unknown or not votes:
        raise PredictionsError(unknown_name("vote", unknown[0] if unknown else "", VOTES))
    _check_same_task(candidates)
    labels = _labels(candidates)
    classes = candidates[0].metrics["confusion"]["classes"]
    validation = Ballots.of(dict(zip(labels, map(_validation, candidates), strict=True)), classes)
    test = Ballots.of({label: run.predictions() for label, run in zip(labels, candidates, strict=True)}, classes)
    choice = choose(labels, validation, test, sizes=sizes, votes=votes)
    config = _config(candidates, labels, choice, sizes, votes)
    place = workspace.runs(config["corpus"])
    folder = place / check_name("run", _name(config) if name is None else name, place)
    if folder.exists() and not overwrite:
        raise StoreError(f"{folder} is there already; give this one another --name, or replace that with --overwrite")
    taken = f"{folder} is being made by another process; wait for it to end"
    with run_folder.locked(folder, taken), _replacing(folder) as unfinished:
        run_folder.write_yaml(unfinished / "config.yaml", config)
        _write_tables(unfinished, validation, test, choice)
        _write_results(unfinished, config, choice, title=folder.name)
    return Run(folder)


def _checked_sizes(number: int, sizes: Sequence[int] | None) -> list[int]:
    if number < 2:
        raise PredictionsError("one run cannot vote; give two or more")
    if sizes is None:
        return [size for size in SIZES if size <= number] or [number]
    for size in sizes:
        if not 2 <= size <= number:
            raise PredictionsError(f"--size {size}: expected from 2 to {number}, the number of runs")
    return list(sizes)


def _check_same_task(runs: Sequence[Run]) -> None:
    first = runs[0]
    for run in runs:
        if "confusion" not in run.metrics:
            raise PredictionsError(f"{run.path} is a regression; only runs that predict classes can vote")
        for key in _SHARED:
            found, expected = run.config.get(key), first.config.get(key)
            if found != expected:
                raise PredictionsError(
                    f"{run.path} and {first.path} differ in {key}: {found} and {expected}; only runs that differ in "
                    "nothing but features, layers, head and normalisation can vote"
                )
    folders = [run.path.resolve() for run in runs]
    if len(set(folders)) < len(folders):
        raise PredictionsError("a run was given twice; each has one vote")


def _labels(runs: Sequence[Run]) -> list[str]:
    names = [run.name for run in runs]
    return names if len(set(names)) == len(names) else [str(run.path) for run in runs]


def _validation(run: Run) -> pd.DataFrame:
    path = run.path / VALIDATION
    if not path.is_file():
        raise StoreError(f"{run.path} has no {VALIDATION}, on which members are chosen; fit it again with --overwrite")
    return run_folder.read_table(path)


def _config(
    runs: Sequence[Run], labels: Sequence[str], choice: Choice, sizes: Sequence[int], votes: Sequence[str]
) -> dict[str, Any]:
    """What ``config.yaml`` says: the keys of a fit, with what the members have in common, and how they vote."""
    members = [runs[i].config for i in choice.members]
    features: dict[str, Any] = {}
    for config in members:
        features |= config["features"]
    return {
        "featcache_version": __version__,
        "corpus": runs[0].config["corpus"],
        "features": features,
        "untrained": sorted({name for config in members for name in config["untrained"]}),
        "layers": _common(members, "layers"),
        "head": f"{choice.vote} vote of {len(members)}",
        "norm": _common(members, "norm"),
        **{key: runs[0].config.get(key) for key in _SHARED[1:]},
        "members": [labels[i] for i in choice.members],
        "vote": choice.vote,
        "chosen_on": "validation UAR of all folds, averaged over seeds",
        "candidates": list(labels),
        "sizes": list(sizes),
        "votes": list(votes),
    }


def _common(configs: Sequence[Mapping[str, Any]], key: str) -> str:
    values = {str(config[key]) for config in configs}
    return values.pop() if len(values) == 1 else "mixed"


def _name(config: Mapping[str, Any]) -> str:
    asked = json.dumps([config["candidates"], config["sizes"], config["votes"]])
    return f"ensemble_{config['protocol']}_{hashlib.sha256(asked.encode()).hexdigest()[:6]}"


@contextmanager
def _replacing(folder: Path) -> Iterator[Path]:
    """Give a hidden folder to fill; when all is there it takes the place of ``folder``."""
    unfinished = folder.with_name(f".{folder.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        with writing(folder):
            unfinished.mkdir(parents=True)
            yield unfinished
            shutil.rmtree(folder, ignore_errors=True)
            unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _write_tables(folder: Path, validation: Ballots, test: Ballots, choice: Choice) -> None:
    tables = {
        "predictions.csv": test.table(choice.members, choice.vote),
        VALIDATION: validation.table(choice.members, choice.vote),
        COMBINATIONS: choice.combinations,
        "layer_weights.csv": pd.DataFrame(columns=["seed", "fold", "layer", "weight", "features"]),
    }
    for name, table in tables.items():
        replace_file(folder / name, table.to_csv(index=False).encode())


def _write_results(folder: Path, config: Mapping[str, Any], choice: Choice, *, title: str) -> None:
    predictions = run_folder.read_table(folder / "predictions.csv")
    metrics = summarise(predictions, config["classes"])
    if choice.uar_by_fold is not None:
        metrics["uar_chosen_by_fold"] = choice.uar_by_fold
    run_folder.write_json(folder / run_folder.METRICS, metrics)
    write_classification_report(predictions, folder, classes=config["classes"])
    caption = "Recall in percent; in small print the utterances, averaged over seeds."
    write_report(
        folder,
        title=title,
        settings=config,
        metrics=metrics,
        notes=notes(config, metrics),
        warnings=[],
        figures=[(CONFUSION, caption)],
    )


def notes(config: Mapping[str, Any], metrics: Mapping[str, Any]) -> list[str]:
    """What a reader of an ensemble's numbers must know, from its ``config.yaml`` and ``metrics.json``."""
    told = [
        f"{config['vote']} vote of {', '.join(config['members'])}; {TIE_RULE}",
        f"chosen among {len(config['candidates'])} runs by {config['chosen_on']}; test data had no part in it",
    ]
    if "uar_chosen_by_fold" in metrics:
        told.append(
            "other folds test the utterances on which the members were chosen, so the UAR may be a little optimistic; "
            "chosen fold by fold, which no label of a tested utterance can influence, it is "
            f"{metrics['uar_chosen_by_fold']:.1f}"
        )
    if config["norm"] in ("speaker", "mixed"):
        told.append("members with speaker normalisation are transductive: they use statistics of test speakers")
    return told
