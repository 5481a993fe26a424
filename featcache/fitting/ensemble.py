"""Runs and tables of predictions → the best combination by voting, chosen on the validation parts, as a run folder."""

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from featcache._version import __version__
from featcache.errors import PredictionsError, StoreError, unknown_name
from featcache.evaluate.calibration import mark_pseudo
from featcache.evaluate.metrics import summarise
from featcache.evaluate.voting import (
    TIE_RULE,
    TIE_RULE_OF_SOME,
    TIE_RULE_WITHOUT,
    VOTES,
    Ballots,
    Choice,
    choose,
    without_choice,
)
from featcache.fitting.existing import REMEDY, existing_run
from featcache.fitting.voters import Voter, classes_of, find_voters, labels_of, tables_of
from featcache.report.captions import CONFUSION, caption_of
from featcache.report.classification import write_classification_report
from featcache.report.html import write_report
from featcache.report.utterance_list import details_of
from featcache.runs.file_names import COMBINATIONS, CONFIG, LAYER_WEIGHTS, METRICS, PREDICTIONS, VALIDATION_PREDICTIONS
from featcache.runs.identity import NUMERICS, NUMERICS_VERSION, RELEASE, VALIDATION, hash_of
from featcache.runs.parse import read_table
from featcache.runs.reader import RunFolder
from featcache.runs.validation import score_validation
from featcache.runs.writer import new_run, write_json, write_table, write_yaml
from featcache.workspace import Workspace, check_name

log = logging.getLogger(__name__)

SIZES = (3, 5)
# Corpus and other settings of an ensemble of tables from other sources.
UNKNOWN = "unknown"
TABLES_CORPUS = "predictions"
# Keys that identify an ensemble; the checksums are those of the predictions of its candidates.
_ASKED = ("candidates", "candidates_sha256", "sizes", "votes", NUMERICS)
_SHARED = ("corpus", "target", "protocol", "select", "classes", "seeds")
# Key of the augmented speech on which all members were tested; runs that were tested on the clean speech lack it.
_TESTED_ON = "test_view"


def ensemble(
    *,
    runs: Sequence[str],
    sizes: Sequence[int] | None = None,
    votes: Sequence[str] | None = None,
    corpus: str | None = None,
    name: str | None = None,
    overwrite: bool = False,
    home: str | os.PathLike[str] | None = None,
) -> RunFolder:
    """Combine runs by voting: evaluate every combination, and write a run folder with the best validation UAR.

    Args:
        runs: Two or more candidates: finished classification runs, by folder or name, and CSV tables of predictions
            from any source, as :func:`~featcache.evaluate.predictions.read_predictions` reads them. The predictions of
            ``FILE.csv`` for the validation parts are in ``validation_FILE.csv`` beside it. Without them, no combination
            can be chosen, and all candidates vote together.
        sizes: Numbers of candidates that vote together; by default 3 and 5, or 2 if only two are given.
        votes: ``hard`` (majority), ``soft`` (mean probability) or both; by default both. Without probabilities or
            validation predictions of a candidate, the default is ``hard``.
        corpus: Corpus under whose runs the ensemble is written; by default that of the runs, or ``predictions``.
        name: Name of the run folder; by default made from the protocol and a hash of candidates and votes.
        overwrite: Whether to replace a folder of that name.
        home: Folder of corpora, caches and runs; by default ``$FEATCACHE_HOME``, or ``data``.

    Returns:
        The ensemble. In addition to the files of a fit, it has a table ``combinations.csv``. An ensemble that exists
        already, with the same candidates, predictions and votes, is returned as it is.

    Raises:
        FeatcacheError: fewer than two candidates; different tasks, folds or utterances; a choice or a soft vote that a
            candidate without validation predictions or probabilities does not allow; an unknown vote; or another run of
            that name.

    Example:
        >>> from featcache.fitting.ensemble import ensemble
        >>> runs = featcache.sweep(heads=["dense", "linear"], features="wav2vec2-base", seeds=1, max_epochs=1)
        >>> vote = ensemble(runs=[run.name for run in runs], votes=["soft"], name="vote")
        >>> vote.config["vote"], len(vote.config["members"])
        ('soft', 2)
    """
    workspace = Workspace.at(home)
    candidates = find_voters(workspace, runs)
    members = [candidate.run for candidate in candidates if candidate.run]
    _check_same_task(members)
    sizes, votes = _sizes_and_votes(candidates, sizes, votes)
    asked = asked_of(candidates, sizes, votes)
    shared = _shared_settings(candidates)
    if corpus is not None:
        shared["corpus"] = check_name("corpus", corpus, workspace.home / "runs", advice="choose another with --corpus")
    place = workspace.runs(shared["corpus"])
    folder = place / check_name("run", _name(shared["protocol"], asked) if name is None else name, place)
    if existing := _existing(folder, asked, overwrite=overwrite):
        return existing
    labels, classes = asked["candidates"], shared["classes"]
    test = Ballots.of(tables_of(candidates), classes)
    validation = None
    if all(candidate.has_validation for candidate in candidates):
        validation = Ballots.of(tables_of(candidates, validation=True), classes)
        choice = choose(labels, validation, test, sizes=sizes, votes=votes)
    else:
        choice = without_choice(labels, test, votes[0])
    config = _config(candidates, choice, shared, asked, chosen=validation is not None)
    with new_run(folder) as unfinished:
        write_yaml(unfinished / CONFIG, config)
        _write_tables(unfinished, validation, test, choice)
        _write_results(unfinished, config, choice, title=folder.name)
    return RunFolder(folder)


def asked_of(candidates: Sequence[Voter], sizes: Sequence[int], votes: Sequence[str]) -> dict[str, Any]:
    """Return the settings that identify an ensemble: candidates, checksums of their predictions, sizes, and votes.

    Args:
        candidates: The candidates.
        sizes: Numbers of candidates that vote together.
        votes: ``hard``, ``soft`` or both.

    Raises:
        StoreError: a run has no predictions.
    """
    labels = labels_of(candidates)
    return {
        "candidates": labels,
        "candidates_sha256": {label: one.sha256() for label, one in zip(labels, candidates, strict=True)},
        "sizes": list(sizes),
        "votes": list(votes),
        NUMERICS: NUMERICS_VERSION,
    }


def _existing(folder: Path, asked: Mapping[str, Any], *, overwrite: bool) -> RunFolder | None:
    """Return the existing ensemble of a folder; None if it does not exist or is replaced.

    Raises:
        StoreError: the folder contains something else.
    """
    run = existing_run(folder, overwrite=overwrite)
    if run is None:
        return None
    differing = sorted(key for key in _ASKED if run.config.get(key) != asked[key])
    if differing:
        raise StoreError(
            f"{folder} exists already, with other candidates or votes ({', '.join(differing)} differ); {REMEDY}"
        )
    log.info("%s exists already", folder)
    return run


def _sizes_and_votes(
    candidates: Sequence[Voter], sizes: Sequence[int] | None, votes: Sequence[str] | None
) -> tuple[list[int], list[str]]:
    """Return the checked sizes and votes, with their defaults.

    Raises:
        PredictionsError: there are too few candidates for a size, a vote is unknown, or a candidate lacks the
            probabilities for a soft vote or the validation predictions for a choice.
    """
    number = len(candidates)
    if number < 2:
        raise PredictionsError("one run cannot vote; expected two or more")
    for size in sizes or ():
        if not 2 <= size <= number:
            allowed = f"from 2 to {number}" if number > 2 else "2"
            raise PredictionsError(f"--size {size}: only {number} runs given, --size can only be {allowed}")
    unknown = [vote for vote in votes or () if vote not in VOTES]
    if unknown or (votes is not None and not votes):
        raise PredictionsError(unknown_name("vote", unknown[0] if unknown else "", VOTES))
    labels = labels_of(candidates)
    unvalidated = [label for label, one in zip(labels, candidates, strict=True) if not _is_validated(one)]
    silent = [label for label, one in zip(labels, candidates, strict=True) if not one.has_probabilities]
    if votes is None:
        votes = ["hard"] if unvalidated or silent else list(VOTES)
    if sizes is None:
        sizes = [number] if unvalidated else [size for size in SIZES if size <= number] or [number]
    if silent and "soft" in votes:
        raise PredictionsError(f"{silent[0]} has no probabilities p_CLASS, so it cannot vote softly; use --vote hard")
    if unvalidated and _is_chosen(number, sizes, votes):
        raise PredictionsError(
            f"{unvalidated[0]} has no validation predictions, so no combination can be chosen; use --size {number} and "
            "a single --vote, or leave it out"
        )
    return list(sizes), list(votes)


def _is_validated(candidate: Voter) -> bool:
    """Return whether a candidate has validation predictions; a fit without them is damaged, and refused later."""
    is_fit = candidate.run is not None and "members" not in candidate.run.config
    return is_fit or candidate.has_validation


def _is_chosen(number: int, sizes: Sequence[int], votes: Sequence[str]) -> bool:
    """Return whether there is more than one combination of candidates, sizes and votes."""
    return set(sizes) != {number} or len(set(votes)) > 1


def _check_same_task(runs: Sequence[RunFolder]) -> None:
    for run in runs[1:]:
        for key in (*_SHARED, _TESTED_ON):
            found, expected = run.config.get(key), runs[0].config.get(key)
            if found != expected:
                raise PredictionsError(
                    f"{run.path} and {runs[0].path} differ in {key}: {found} and {expected}; runs that vote may differ "
                    "only in features, layers, head and normalisation"
                )


def _shared_settings(candidates: Sequence[Voter]) -> dict[str, Any]:
    """Return the settings that all candidates share: those of the runs; of tables alone, most are unknown."""
    classes = classes_of(candidates)
    for candidate in candidates:
        if candidate.run:
            config = candidate.run.config
            needed = {"corpus": config["corpus"], "protocol": config["protocol"], "classes": classes}
            tested_on = {_TESTED_ON: config[_TESTED_ON]} if _TESTED_ON in config else {}
            return {key: config.get(key) for key in _SHARED} | needed | tested_on
    seeds = max((candidate.test["seed"].unique().tolist() for candidate in candidates), key=len)
    unknown = dict.fromkeys(("target", "protocol"), UNKNOWN)
    return {"corpus": TABLES_CORPUS, **unknown, "select": {}, "classes": classes, "seeds": seeds}


def _config(
    candidates: Sequence[Voter], choice: Choice, shared: Mapping[str, Any], asked: Mapping[str, Any], *, chosen: bool
) -> dict[str, Any]:
    """Return the content of ``config.yaml``: the keys of a fit, with the common values of the members, and the vote."""
    members = [candidates[i].run for i in choice.members]
    configs = [member.config for member in members if member]
    features: dict[str, Any] = {}
    for config in configs:
        features |= config["features"]
    tables = [label for label, one in zip(asked["candidates"], candidates, strict=True) if not one.run]
    silent = [label for label, one in zip(asked["candidates"], candidates, strict=True) if not one.has_probabilities]
    return {
        RELEASE: __version__,
        "corpus": shared["corpus"],
        "features": features,
        "untrained": sorted({name for config in configs for name in config["untrained"]}),
        "layers": _common(members, "layers"),
        "head": f"{choice.vote} vote of {len(members)}",
        "norm": _common(members, "norm"),
        **{key: value for key, value in shared.items() if key != "corpus"},
        "members": [asked["candidates"][i] for i in choice.members],
        "vote": choice.vote,
        **({"chosen_on": "validation UAR of all folds, averaged over seeds"} if chosen else {}),
        **({"tables": tables} if tables else {}),
        **({"without_probabilities": silent} if silent else {}),
        **asked,
    }


def _common(members: Sequence[RunFolder | None], key: str) -> str:
    values = {str(member.config[key]) if member else UNKNOWN for member in members}
    return values.pop() if len(values) == 1 else "mixed"


def _name(protocol: str, asked: Mapping[str, Any]) -> str:
    return f"ensemble_{protocol}_{hash_of(asked)[:6]}"


def _write_tables(folder: Path, validation: Ballots | None, test: Ballots, choice: Choice) -> None:
    tables = {
        PREDICTIONS: test.table(choice.members, choice.vote),
        **({VALIDATION_PREDICTIONS: validation.table(choice.members, choice.vote)} if validation else {}),
        COMBINATIONS: choice.combinations,
        LAYER_WEIGHTS: pd.DataFrame(columns=["seed", "fold", "layer", "weight", "features"]),
    }
    for name, table in tables.items():
        write_table(folder / name, table)


def _write_results(folder: Path, config: Mapping[str, Any], choice: Choice, *, title: str) -> None:
    predictions = read_table(folder / PREDICTIONS)
    metrics = summarise(predictions, config["classes"])
    mark_pseudo(metrics, config)
    if choice.uar_by_fold is not None:
        metrics["uar_chosen_by_fold"] = choice.uar_by_fold
    if "chosen_on" in config:
        metrics[VALIDATION] = score_validation(read_table(folder / VALIDATION_PREDICTIONS), config)
    write_json(folder / METRICS, metrics)
    write_classification_report(predictions, folder, classes=config["classes"])
    write_report(
        folder,
        title=title,
        settings=config,
        metrics=metrics,
        notes=notes(config, metrics),
        warnings=[],
        figures=[(CONFUSION, caption_of(CONFUSION, metrics["num_seeds"]))],
        details=details_of(predictions, config),
    )


def notes(config: Mapping[str, Any], metrics: Mapping[str, Any]) -> list[str]:
    """Return the notes for the report of an ensemble.

    Args:
        config: Content of its ``config.yaml``.
        metrics: Content of its ``metrics.json``.
    """
    silent, tables = config.get("without_probabilities", []), config.get("tables", [])
    rule = TIE_RULE if not silent else TIE_RULE_WITHOUT if set(config["members"]) <= set(silent) else TIE_RULE_OF_SOME
    told = [f"{config['vote']} vote of {', '.join(config['members'])}; {rule}"]
    if "chosen_on" in config:
        told.append(
            f"best combination of {len(config['candidates'])} candidate runs by {config['chosen_on']}; test data were "
            "not used for the choice"
        )
    else:
        told.append("all candidates vote, so no combination was chosen")
    if tables:
        told.append(f"{', '.join(tables)}: predictions from another source, whose training data are unknown")
    if "uar_chosen_by_fold" in metrics:
        told.append(
            "the members were chosen on utterances that other folds test, so the UAR may be slightly optimistic; if "
            "they are chosen for each fold separately, without labels of tested utterances, the UAR is "
            f"{metrics['uar_chosen_by_fold']:.1f}"
        )
    if config["norm"] in ("speaker", "mixed"):
        told.append("speaker normalisation of members is transductive: it uses statistics of test speakers")
    return told
