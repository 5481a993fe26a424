"""Runs → a vote of several of them, chosen on validation, in a folder like a run's."""

import logging
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd

from featcache._version import __version__
from featcache.errors import PredictionsError, StoreError, unknown_name
from featcache.evaluate.metrics import summarise
from featcache.evaluate.voting import TIE_RULE, VOTES, Ballots, Choice, choose
from featcache.files.disk import writing
from featcache.files.regular import replace_file, resolved, sha256_of_file
from featcache.report.classification import CONFUSION, write_classification_report
from featcache.report.html import write_report
from featcache.runs import run_folder
from featcache.runs.identity import NUMERICS, NUMERICS_VERSION, RELEASE, hash_of
from featcache.runs.run_folder import PREDICTIONS, RunFolder, find_run
from featcache.workspace import Workspace, check_name

log = logging.getLogger(__name__)

SIZES = (3, 5)
VALIDATION = "validation_predictions.csv"
COMBINATIONS = "combinations.csv"
# What makes an ensemble this one and no other; the checksums are those of what its members predict.
_ASKED = ("candidates", "candidates_sha256", "sizes", "votes", NUMERICS)
_SHARED = ("corpus", "target", "protocol", "select", "classes", "seeds")


def ensemble(
    *,
    runs: Sequence[str],
    sizes: Sequence[int] | None = None,
    votes: Sequence[str] = VOTES,
    name: str | None = None,
    overwrite: bool = False,
    home: str | os.PathLike[str] | None = None,
) -> RunFolder:
    """Let every combination of runs vote, choose one on validation UAR, and leave a run folder of it.

    Args:
        runs: Two or more finished classification runs, by folder or name.
        sizes: How many vote together; by default three and five, or all where there are only two.
        votes: ``hard`` (majority), ``soft`` (mean probability) or both.
        name: Of the folder; by default made from the members, what they predict, and the votes.
        overwrite: Replace a folder of that name.
        home: Where everything lives; by default ``$FEATCACHE_HOME``, or ``data``.

    Returns:
        The ensemble, with ``combinations.csv`` beside what a fit leaves. One of the same members, which still predict
        the same, and the same votes that exists already is given back as it is.

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
    asked = asked_of(candidates, sizes, votes)
    place = workspace.runs(candidates[0].config["corpus"])
    folder = place / check_name("run", _name(candidates[0].config["protocol"], asked) if name is None else name, place)
    if folder.exists() and not overwrite:
        return _there(folder, asked)
    labels = asked["candidates"]
    classes = candidates[0].metrics["confusion"]["classes"]
    validation = Ballots.of(dict(zip(labels, map(_validation, candidates), strict=True)), classes)
    test = Ballots.of({label: run.predictions() for label, run in zip(labels, candidates, strict=True)}, classes)
    choice = choose(labels, validation, test, sizes=sizes, votes=votes)
    config = _config(candidates, choice, asked)
    taken = f"{folder} is being made by another process; wait for it to end"
    with run_folder.locked(folder, taken), _replacing(folder) as unfinished:
        run_folder.write_yaml(unfinished / "config.yaml", config)
        _write_tables(unfinished, validation, test, choice)
        _write_results(unfinished, config, choice, title=folder.name)
    return RunFolder(folder)


def asked_of(runs: Sequence[RunFolder], sizes: Sequence[int], votes: Sequence[str]) -> dict[str, Any]:
    """What makes an ensemble this one: its candidates by name and by what they predict, and how they vote."""
    labels = _labels(runs)
    return {
        "candidates": labels,
        "candidates_sha256": {label: _sha256(run) for label, run in zip(labels, runs, strict=True)},
        "sizes": list(sizes),
        "votes": list(votes),
        NUMERICS: NUMERICS_VERSION,
    }


def _sha256(run: RunFolder) -> str:
    """Of what a run predicts of validation and of test utterances."""
    for name in (VALIDATION, PREDICTIONS):
        if not (run.path / name).is_file():
            raise StoreError(f"{run.path} has no {name}, and without it cannot vote; fit it again with --overwrite")
    return hash_of([sha256_of_file(run.path / name) for name in (VALIDATION, PREDICTIONS)])


def _there(folder: Path, asked: Mapping[str, Any]) -> RunFolder:
    """The ensemble that exists, if it is the one that is asked for."""
    remedy = "give this one another --name, or replace that with --overwrite"
    try:
        run = RunFolder(folder)
    except StoreError as error:
        raise StoreError(f"{error}; {remedy}") from error
    differing = sorted(key for key in _ASKED if run.config.get(key) != asked[key])
    if differing:
        raise StoreError(
            f"{folder} is there already, with other members or votes ({', '.join(differing)} differ); {remedy}"
        )
    log.info("%s is there already", folder)
    return run


def _checked_sizes(number: int, sizes: Sequence[int] | None) -> list[int]:
    if number < 2:
        raise PredictionsError("one run cannot vote; give two or more")
    if sizes is None:
        return [size for size in SIZES if size <= number] or [number]
    for size in sizes:
        if not 2 <= size <= number:
            raise PredictionsError(f"--size {size}: expected from 2 to {number}, the number of runs")
    return list(sizes)


def _check_same_task(runs: Sequence[RunFolder]) -> None:
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
    folders = [resolved(run.path) for run in runs]
    if len(set(folders)) < len(folders):
        raise PredictionsError("a run was given twice; each has one vote")


def _labels(runs: Sequence[RunFolder]) -> list[str]:
    names = [run.name for run in runs]
    return names if len(set(names)) == len(names) else [str(run.path) for run in runs]


def _validation(run: RunFolder) -> pd.DataFrame:
    return run_folder.read_table(run.path / VALIDATION)


def _config(runs: Sequence[RunFolder], choice: Choice, asked: Mapping[str, Any]) -> dict[str, Any]:
    """What ``config.yaml`` says: the keys of a fit, with what the members have in common, and how they vote."""
    members = [runs[i].config for i in choice.members]
    features: dict[str, Any] = {}
    for config in members:
        features |= config["features"]
    return {
        RELEASE: __version__,
        "corpus": runs[0].config["corpus"],
        "features": features,
        "untrained": sorted({name for config in members for name in config["untrained"]}),
        "layers": _common(members, "layers"),
        "head": f"{choice.vote} vote of {len(members)}",
        "norm": _common(members, "norm"),
        **{key: runs[0].config.get(key) for key in _SHARED[1:]},
        "members": [asked["candidates"][i] for i in choice.members],
        "vote": choice.vote,
        "chosen_on": "validation UAR of all folds, averaged over seeds",
        **asked,
    }


def _common(configs: Sequence[Mapping[str, Any]], key: str) -> str:
    values = {str(config[key]) for config in configs}
    return values.pop() if len(values) == 1 else "mixed"


def _name(protocol: str, asked: Mapping[str, Any]) -> str:
    return f"ensemble_{protocol}_{hash_of(asked)[:6]}"


@contextmanager
def _replacing(folder: Path) -> Iterator[Path]:
    """Give a hidden folder to fill; when all is there it takes the place of ``folder``."""
    unfinished = folder.with_name(f".{folder.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        with writing(folder):
            unfinished.mkdir(parents=True)
            yield unfinished
            run_folder.record_checksums(unfinished)
            shutil.rmtree(folder, ignore_errors=True)
            unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _write_tables(folder: Path, validation: Ballots, test: Ballots, choice: Choice) -> None:
    tables = {
        PREDICTIONS: test.table(choice.members, choice.vote),
        VALIDATION: validation.table(choice.members, choice.vote),
        COMBINATIONS: choice.combinations,
        "layer_weights.csv": pd.DataFrame(columns=["seed", "fold", "layer", "weight", "features"]),
    }
    for name, table in tables.items():
        replace_file(folder / name, table.to_csv(index=False).encode())


def _write_results(folder: Path, config: Mapping[str, Any], choice: Choice, *, title: str) -> None:
    predictions = run_folder.read_table(folder / PREDICTIONS)
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
