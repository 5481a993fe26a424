"""Run of a fine-tuning → its models: their folders, seeds and folds, and the utterances that each fold tested."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from featcache.cache.identity import StoreIdentity
from featcache.errors import StoreError
from featcache.files.checksums import recorded_checksums
from featcache.files.regular import is_hidden
from featcache.files.values import check_types, damaged
from featcache.runs.file_names import CONFIG, MODELS, PREDICTIONS, model_name, seed_and_fold
from featcache.runs.identity import STORE_SETTINGS, hash_of
from featcache.runs.parse import REFIT, check_file
from featcache.runs.reader import RunFolder
from featcache.runs.tuned_inputs import read_tuned_inputs
from featcache.workspace import check_name


def checked_model(run: Path, store: str, *, seed: int, fold: int) -> tuple[Path, str]:
    """Find a fine-tuned model, and compare its files with the checksums of the run.

    Args:
        run: The run folder.
        store: Name of the store whose model was tuned.
        seed: Seed of the training.
        fold: Number of the fold, from 1 on.

    Returns:
        Folder of the model, and one SHA-256 of all its files.

    Raises:
        StoreError: a file is missing, has changed, is outside of the run folder, or has no checksum.
    """
    name = model_name(check_name("store", store, run), seed, fold)
    files = _files(run / name)
    found = {file: check_file(run, f"{name}/{file}") for file in files}
    recorded = recorded_checksums(run) or {}
    if strange := [file for file in files if recorded and f"{name}/{file}" not in recorded]:
        raise damaged(run / name, f"{strange[0]} has no checksum, so the run did not write it", "remove this file")
    if missing := [path for path in recorded if path.startswith(f"{name}/") and path[len(name) + 1 :] not in found]:
        raise damaged(run / name, f"{missing[0]} is missing", REFIT)
    return run / name, hash_of(found)


def _files(folder: Path) -> list[str]:
    if not folder.is_dir():
        raise damaged(folder, "the folder of this fine-tuned model is missing", REFIT)
    return sorted(path.name for path in folder.iterdir() if not is_hidden(path.name))


def stores_with_models(run: RunFolder) -> dict[str, bool]:
    """Return name of a store whose model was fine-tuned → whether it reads text; empty for a run on frozen features.

    Raises:
        StoreError: the configuration is damaged.
    """
    names = [one.store for one in read_tuned_inputs(run.path, run.config)]
    recorded: Mapping[str, Any] = run.config.get(STORE_SETTINGS, {})
    where = f"{run.path / CONFIG}, {STORE_SETTINGS},"
    check_types(recorded, dict.fromkeys(names, (dict,)), where, REFIT, required=tuple(names))
    return {name: StoreIdentity(settings=recorded[name]).reads_text for name in names}


def trainings_of(run: RunFolder, store: str) -> set[tuple[int, int]]:
    """Return seed and fold of each fine-tuned model of a store.

    Raises:
        StoreError: the run has none.
    """
    folder = run.path / MODELS / check_name("store", store, run.path)
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    found = {key for key in map(seed_and_fold, names) if key}
    if not found:
        raise StoreError(f"{run.path} has no fine-tuned models of {store}; {REFIT}")
    return found


def tested_by_fold(run: RunFolder) -> dict[int, Sequence[str]] | None:
    """Return number of a fold → ids of the utterances in its test part; None if the run does not contain them.

    Raises:
        StoreError: the table of predictions is damaged.
    """
    if not (run.path / PREDICTIONS).is_file():
        return None
    table = run.predictions
    if table.empty:
        return {}
    if not {"fold", "utterance_id"} <= {*table.columns}:
        raise damaged(run.path / PREDICTIONS, "expected the columns fold and utterance_id", REFIT)
    pairs = table[["fold", "utterance_id"]].drop_duplicates()
    return {int(fold): sorted(rows["utterance_id"]) for fold, rows in pairs.groupby("fold")}
