"""Runs → the best combination of runs by voting, chosen on the validation parts, in its own run folder."""

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from featcache._version import __version__
from featcache.errors import PredictionsError, StoreError, unknown_name
from featcache.evaluate.metrics import summarise
from featcache.evaluate.voting import TIE_RULE, VOTES, Ballots, Choice, choose
from featcache.files.regular import resolved, sha256_of_file
from featcache.report.classification import CONFUSION, write_classification_report
from featcache.report.html import write_report
from featcache.report.utterance_list import details_of
from featcache.runs.file_names import COMBINATIONS, CONFIG, LAYER_WEIGHTS, METRICS, PREDICTIONS, VALIDATION_PREDICTIONS
from featcache.runs.identity import NUMERICS, NUMERICS_VERSION, RELEASE, hash_of
from featcache.runs.parse import read_table
from featcache.runs.reader import RunFolder, find_run
from featcache.runs.writer import new_run, write_json, write_table, write_yaml
from featcache.workspace import Workspace, check_name

log = logging.getLogger(__name__)

SIZES = (3, 5)
# Keys that identify an ensemble; the checksums are those of the predictions of its candidates.
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
    """Combine runs by voting: evaluate every combination, and write a run folder with the best validation UAR.

    Args:
        runs: Two or more finished classification runs, by folder or name.
        sizes: Numbers of runs that vote together; by default 3 and 5, or 2 if only two runs are given.
        votes: ``hard`` (majority), ``soft`` (mean probability) or both.
        name: Name of the run folder; by default made from the protocol and a hash of candidates and votes.
        overwrite: Whether to replace a folder of that name.
        home: Folder of corpora, caches and runs; by default ``$FEATCACHE_HOME``, or ``data``.

    Returns:
        The ensemble. In addition to the files of a fit, it has a table ``combinations.csv``. An ensemble that exists
        already, with the same candidates, predictions and votes, is returned as it is.

    Raises:
        FeatcacheError: fewer than two runs, runs with different tasks or folds, a run without validation predictions,
            an unknown vote, or another run of that name.

    Example:
        >>> from featcache.fitting.ensemble import ensemble
        >>> runs = featcache.sweep(heads=["dense", "linear"], features="wav2vec2-base", seeds=1, max_epochs=1)
        >>> vote = ensemble(runs=[run.name for run in runs], votes=["soft"], name="vote")
        >>> vote.config["vote"], len(vote.config["members"])
        ('soft', 2)
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
    of_label = dict(zip(labels, candidates, strict=True))
    validation = Ballots.of({label: run.validation_predictions for label, run in of_label.items()}, classes)
    test = Ballots.of({label: run.predictions for label, run in of_label.items()}, classes)
    choice = choose(labels, validation, test, sizes=sizes, votes=votes)
    config = _config(candidates, choice, asked)
    with new_run(folder) as unfinished:
        write_yaml(unfinished / CONFIG, config)
        _write_tables(unfinished, validation, test, choice)
        _write_results(unfinished, config, choice, title=folder.name)
    return RunFolder(folder)


def asked_of(runs: Sequence[RunFolder], sizes: Sequence[int], votes: Sequence[str]) -> dict[str, Any]:
    """Return the settings that identify an ensemble: candidates, checksums of their predictions, sizes, and votes.

    Args:
        runs: The candidates.
        sizes: Numbers of runs that vote together.
        votes: ``hard``, ``soft`` or both.

    Raises:
        StoreError: a run has no predictions.
    """
    labels = _labels(runs)
    return {
        "candidates": labels,
        "candidates_sha256": {label: _sha256(run) for label, run in zip(labels, runs, strict=True)},
        "sizes": list(sizes),
        "votes": list(votes),
        NUMERICS: NUMERICS_VERSION,
    }


def _sha256(run: RunFolder) -> str:
    """Return the checksum of the predictions of a run, for validation and test parts."""
    for name in (VALIDATION_PREDICTIONS, PREDICTIONS):
        if not (run.path / name).is_file():
            raise StoreError(f"{run.path} has no {name}, so it cannot vote; fit it again with --overwrite")
    return hash_of([sha256_of_file(run.path / name) for name in (VALIDATION_PREDICTIONS, PREDICTIONS)])


def _there(folder: Path, asked: Mapping[str, Any]) -> RunFolder:
    """Return the existing ensemble of a folder.

    Raises:
        StoreError: the folder contains something else.
    """
    remedy = "use another --name, or replace it with --overwrite"
    try:
        run = RunFolder(folder)
    except StoreError as error:
        raise StoreError(f"{error}; {remedy}") from error
    differing = sorted(key for key in _ASKED if run.config.get(key) != asked[key])
    if differing:
        raise StoreError(
            f"{folder} exists already, with other candidates or votes ({', '.join(differing)} differ); {remedy}"
        )
    log.info("%s exists already", folder)
    return run


def _checked_sizes(number: int, sizes: Sequence[int] | None) -> list[int]:
    if number < 2:
        raise PredictionsError("one run cannot vote; expected two or more")
    if sizes is None:
        return [size for size in SIZES if size <= number] or [number]
    for size in sizes:
        if not 2 <= size <= number:
            allowed = f"from 2 to {number}" if number > 2 else "2"
            raise PredictionsError(f"--size {size}: only {number} runs given, --size can only be {allowed}")
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
                    f"{run.path} and {first.path} differ in {key}: {found} and {expected}; runs that vote may differ "
                    "only in features, layers, head and normalisation"
                )
    folders = [resolved(run.path) for run in runs]
    if len(set(folders)) < len(folders):
        raise PredictionsError("a run is given twice; each run has one vote")


def _labels(runs: Sequence[RunFolder]) -> list[str]:
    names = [run.name for run in runs]
    return names if len(set(names)) == len(names) else [str(run.path) for run in runs]


def _config(runs: Sequence[RunFolder], choice: Choice, asked: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of ``config.yaml``: the keys of a fit, with the common values of the members, and the vote."""
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


def _write_tables(folder: Path, validation: Ballots, test: Ballots, choice: Choice) -> None:
    tables = {
        PREDICTIONS: test.table(choice.members, choice.vote),
        VALIDATION_PREDICTIONS: validation.table(choice.members, choice.vote),
        COMBINATIONS: choice.combinations,
        LAYER_WEIGHTS: pd.DataFrame(columns=["seed", "fold", "layer", "weight", "features"]),
    }
    for name, table in tables.items():
        write_table(folder / name, table)


def _write_results(folder: Path, config: Mapping[str, Any], choice: Choice, *, title: str) -> None:
    predictions = read_table(folder / PREDICTIONS)
    metrics = summarise(predictions, config["classes"])
    if choice.uar_by_fold is not None:
        metrics["uar_chosen_by_fold"] = choice.uar_by_fold
    write_json(folder / METRICS, metrics)
    write_classification_report(predictions, folder, classes=config["classes"])
    caption = "Recall in percent; small print: number of utterances, averaged over seeds."
    write_report(
        folder,
        title=title,
        settings=config,
        metrics=metrics,
        notes=notes(config, metrics),
        warnings=[],
        figures=[(CONFUSION, caption)],
        details=details_of(predictions, config),
    )


def notes(config: Mapping[str, Any], metrics: Mapping[str, Any]) -> list[str]:
    """Return the notes for the report of an ensemble.

    Args:
        config: Content of its ``config.yaml``.
        metrics: Content of its ``metrics.json``.
    """
    told = [
        f"{config['vote']} vote of {', '.join(config['members'])}; {TIE_RULE}",
        f"best combination of {len(config['candidates'])} candidate runs by {config['chosen_on']}; test data were not "
        "used for the choice",
    ]
    if "uar_chosen_by_fold" in metrics:
        told.append(
            "the members were chosen on utterances that other folds test, so the UAR may be slightly optimistic; if "
            "they are chosen for each fold separately, without labels of tested utterances, the UAR is "
            f"{metrics['uar_chosen_by_fold']:.1f}"
        )
    if config["norm"] in ("speaker", "mixed"):
        told.append("speaker normalisation of members is transductive: it uses statistics of test speakers")
    return told
