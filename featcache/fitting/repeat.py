"""``config.yaml`` of a run → the options of ``fit`` that give the same run."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from featcache.errors import StoreError
from featcache.fitting.common_options import are_solved, options_for
from featcache.registry import naming
from featcache.runs.file_names import CONFIG
from featcache.runs.identity import (
    CORPUS_RANGES,
    FINAL,
    FROM_LAYER,
    SOLVER,
    SWEEP,
    TRAIN,
    TRAINING,
    VALIDATION_PROTOCOL,
)
from featcache.runs.parse import Saved, read_yaml
from featcache.settings.field import settings_of
from featcache.settings.finetunings import NOT_IN_FINETUNING
from featcache.settings.fits import FitSettings, TrainingConfig
from featcache.settings.searches import PER_FOLD, SearchSettings
from featcache.settings.types import read_names
from featcache.training.memory import DTYPES

_named = naming("head", "heads", "protocol", "plugin")


def expanded(given: Mapping[str, Any], *, kind: type[FitSettings] = FitSettings) -> dict[str, Any]:
    """Return options together with the options of the ``config`` among them; given options take precedence.

    Code that the options name may be imported from now on, but not code that the file names.

    Args:
        given: Options of the user, by name.
        kind: Settings of the command.

    Raises:
        StoreError: the file does not exist, or is not the configuration of a fit.
    """
    asked = _named(given)
    config = asked.get("config")
    if config is None:
        return asked
    if not isinstance(config, str | os.PathLike):
        raise StoreError(f"--config: expected a run folder or its config.yaml, found {config!r:.80}")
    found = read_options(Path(config), kind)
    heads = read_names(asked.get("head") or found.get("head", ""))
    if are_solved(heads):  # the file is of a network, or of an earlier release
        found = options_for(heads[0], found)
    return {**found, **asked}


def read_options(path: Path, kind: type[FitSettings] = FitSettings) -> dict[str, Any]:
    """Return the options of ``fit`` that a run records in its ``config.yaml``.

    Args:
        path: The file, or the run folder.
        kind: Settings of the command that reads them.

    Raises:
        StoreError: the file does not exist, or is not the configuration of a run of this command.
    """
    path = path / CONFIG if path.is_dir() else path
    if not path.exists():
        raise StoreError(f"--config {path}: no such file; expected a run folder or its config.yaml")
    config = Saved(read_yaml(path), path)
    if "members" in config:
        raise StoreError(f"--config {path}: an ensemble has no options of 'featcache fit'; give the config of a member")
    if (FROM_LAYER in config) != (FROM_LAYER in settings_of(kind)):
        command = "finetune" if FROM_LAYER in config else "fit"
        raise StoreError(f"--config {path} is of 'featcache {command}'; use it with this command")
    search = config.get(SWEEP)
    if search and search.get("choose") == PER_FOLD:
        raise StoreError(f"--config {path}: its folds have different settings; give the config of one setting")
    # The result of a search stands for the chosen setting: the same settings may train it with --final.
    known = settings_of(kind).items()
    omitted = {*SearchSettings.__dataclass_fields__, *(NOT_IN_FINETUNING if FROM_LAYER in config else ())}
    names = [name for name, (_, about) in known if about.identity and name not in omitted]
    found = {name: config[name] for name in names if config.get(name) is not None}
    if config.get(FINAL):
        found["protocol"] = config[VALIDATION_PROTOCOL]
    training = config.get(TRAINING, {}) if SOLVER in config else config[TRAINING]
    found |= {name: training[name] for name in TrainingConfig.__dataclass_fields__ if name in training}
    ranges = [*config.get("label_ranges", {}).values()]
    if found.get(TRAIN):  # labels of several corpora are scaled before the fit
        ranges = [bounds for one in config.get(CORPUS_RANGES, {}).values() for bounds in one.values()]
    if ranges and all(bounds == ranges[0] for bounds in ranges):  # different ranges are the defaults of the corpus
        found["label_range"] = ranges[0]
    if found.get("layers") == "-":  # a store without layers
        del found["layers"]
    # A file may choose the dtype of the features, but not the amount of memory.
    memory = next((dtype for dtype in DTYPES if dtype == config.get("working_dtype")), None)
    corpus = None if found.get(TRAIN) else config["corpus"]
    return {**found, "features": list(config["features"]), "corpus": corpus, "memory": memory}
