"""Run → the part of its settings and scores that may be shared: no person, no utterance, and no folder of this machine.

Only known entries are taken, so that an entry that a later release adds is not published by accident.
"""

import logging
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from featcache.cache.reader import FeatureStore
from featcache.errors import ModelError, StoreError, listed
from featcache.evaluate.calibration import KEY as CALIBRATION
from featcache.evaluate.scores import find_score
from featcache.files.values import damaged
from featcache.registry import is_external
from featcache.runs.costs import NAMES
from featcache.runs.file_names import CONFIG, PREDICTIONS, VALIDATION_PREDICTIONS
from featcache.runs.identity import (
    COMPUTED,
    CORPUS_RANGES,
    ENVIRONMENT,
    HEAD_INPUTS,
    LABEL_MAP,
    LABEL_NAMES,
    NUMERICS,
    PER_LABEL,
    PUBLISHED,
    RELEASE,
    SET_BY_FOLD,
    SOLVER,
    STORE_SETTINGS,
    SWEEP,
    TARGET_COLUMNS,
    TEST,
    THRESHOLDS,
    TRAIN,
    TUNED_LAYERS,
    VALIDATION,
)
from featcache.runs.parse import REFIT
from featcache.runs.reader import RunFolder
from featcache.settings.finetunings import BlockSettings
from featcache.settings.training_loop import LoopSettings
from featcache.workspace import Workspace, check_name

log = logging.getLogger(__name__)

# Entries of config.yaml that are published as they are.
_SETTINGS = (
    *(RELEASE, NUMERICS, SOLVER, "corpus", "features", "untrained", "layers", "layer_weighting", "head", "set"),
    *("parts", "pooling", "fused", "norm", "norm_by", "scalar_norm", "protocol", "task", "target", "classes"),
    *("label_ranges", "select", "seeds", "max_frames", "training", "working_dtype", "final", "fold"),
    *("validation_protocol", COMPUTED, ENVIRONMENT, HEAD_INPUTS, STORE_SETTINGS, LABEL_NAMES),
    *("also", "loss", "class_weights"),
    *("train_views", "test_view", "train_fraction", TRAIN, TEST, LABEL_MAP, TARGET_COLUMNS, CORPUS_RANGES),
    *(SWEEP, SET_BY_FOLD, "limit", TUNED_LAYERS),
    *LoopSettings.__dataclass_fields__,
    *BlockSettings.__dataclass_fields__,
)
# Entries of metrics.json that are published as they are, besides the scores.
_METRICS = (
    *("num_seeds", "num_folds", "num_utterances", "num_speakers", "bootstrap", "recall", "confusion", "chance_uar"),
    *("dimensions", "test_view", CALIBRATION, PER_LABEL, THRESHOLDS, *NAMES),
)
_PATH = re.compile(r"/\S|~[/\\]|\\\\|[A-Za-z]:[\\/]|file:")


def check_shareable(run: RunFolder) -> None:
    """Check that a run has heads that can be published.

    Raises:
        ModelError: the head is a file with code, which is not published.
        StoreError: the run is an ensemble, or its classes are speakers.
    """
    if "members" in run.config:
        members = ", ".join(run.config["members"])
        raise StoreError(f"{run.path} is an ensemble, which has no heads of its own; publish its members: {members}")
    head = run.config["head"]
    if is_external(head) and head.rpartition(":")[0].endswith(".py"):
        raise ModelError(
            f"head {head!r} is code in a file, and no code is published; put it into a package, and fit again with "
            "--head package.module:Class"
        )
    tables = _predictions(run) if "classes" in run.config else []
    if any(len(table) and table["target"].equals(table["speaker_id"]) for table in tables):
        raise StoreError(f"the classes of {run.path} are its speakers, and no speakers are published")
    names = set(run.config.get(LABEL_NAMES) or ())
    if names and any(names & set(table["speaker_id"]) for table in _predictions(run)):
        raise StoreError(f"labels of {run.path} are its speakers, and no speakers are published")


def shareable_config(run: RunFolder, workspace: Workspace) -> dict[str, Any]:
    """Return the settings of a run that are published, in plain values.

    Folds keep their numbers only: with ``loso``, their names are speakers and their sizes are counts of utterances. A
    selection by a speaker or an utterance is left out. A protocol in a file keeps the name of the file without its
    folder. Settings of stores that an earlier release did not record are read from the cache.

    Args:
        run: The run.
        workspace: Folder of the caches.

    Raises:
        StoreError: a value is a path on this machine.
    """
    found = {name: run.config[name] for name in _SETTINGS if name in run.config}
    named = {name for table in _predictions(run) for name in (*table["speaker_id"], *table["utterance_id"])}
    found["select"] = {
        label: values for label, values in found.get("select", {}).items() if not named.intersection(map(str, values))
    }
    for name in {"protocol", "validation_protocol"} & found.keys():
        where, _, attribute = found[name].rpartition(":")
        if where.endswith(".py"):
            found[name] = f"{Path(where).name}:{attribute}"
    found["parts"] = {kind: one for kind, one in found.get("parts", {}).items() if kind == "head"}
    if not found["parts"]:
        del found["parts"]
    found[STORE_SETTINGS] = _store_settings(run, workspace)
    check_no_paths(found, run.path / CONFIG)
    folds = [{"fold": number} for number in range(1, len(run.config.get("folds", ())) + 1)]
    return {PUBLISHED: True, **found, **({"folds": folds} if folds else {})}


def check_no_paths(settings: Mapping[str, Any], file: Path) -> None:
    """Check that no text in nested settings is a path.

    Raises:
        StoreError: a text is a path on this machine.
    """
    for place, text in _texts(settings):
        if _PATH.match(text):
            raise StoreError(
                f"{file}: {'.'.join(place)} is a path on this machine, and no paths are published; fit or extract "
                "again with a name in its place"
            )


def _store_settings(run: RunFolder, workspace: Workspace) -> dict[str, Any]:
    """Return the settings of each store; a store whose settings are unknown is missing, with a warning."""
    known = dict(run.config.get(STORE_SETTINGS, {}))
    for name, fingerprint in run.config["features"].items():
        if name in known:
            continue
        try:
            identity = FeatureStore(workspace.cache(run.config["corpus"]) / check_name("store", name)).identity
        except StoreError:
            identity = None
        if identity is not None and identity.fingerprint == fingerprint:
            known[name] = dict(identity.settings)
        else:
            log.warning(
                "%s does not record the settings of the store %s, and this store is not cached here: its features "
                "cannot be computed from audio with the published folder alone",
                run.path,
                name,
            )
    return known


def shareable_metrics(run: RunFolder) -> dict[str, Any]:
    """Return the scores and costs of a run that are published."""
    found = {name: value for name, value in run.metrics.items() if name in _METRICS or _is_score(name)}
    validation = run.metrics.get(VALIDATION)
    if isinstance(validation, Mapping):
        found[VALIDATION] = {name: value for name, value in validation.items() if _is_score(name)}
    return found


def _is_score(name: str) -> bool:
    try:
        find_score(name)
    except KeyError:
        return False
    return True


def _predictions(run: RunFolder) -> list[Any]:
    """Return the tables of predictions that the run has; a published folder has none."""
    tables = {PREDICTIONS: "predictions", VALIDATION_PREDICTIONS: "validation_predictions"}
    columns = ["utterance_id", "speaker_id", *(["target"] if "classes" in run.config else [])]
    found = []
    for file, name in tables.items():
        if (run.path / file).exists():
            table = getattr(run, name)
            if missing := [column for column in columns if column not in table]:
                raise damaged(run.path / file, f"no column {listed(missing)}", REFIT)
            found.append(table)
    return found


def _texts(value: Any, *place: str) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield all texts in nested values, with the names that lead to each of them."""
    if isinstance(value, str):
        yield place, value
    elif isinstance(value, Mapping):
        for name, one in value.items():
            yield (*place, str(name)), str(name)
            yield from _texts(one, *place, str(name))
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _texts(one, *place)
