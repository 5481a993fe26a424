"""Run of a fine-tuning → stores, seeds and folds of its models, and the utterances that each fold tested."""

from collections.abc import Mapping, Sequence
from typing import Any

from featcache.cache.identity import StoreIdentity
from featcache.errors import StoreError
from featcache.files.disk import reading
from featcache.files.values import check_types, damaged
from featcache.runs.file_names import CONFIG, MODELS, PREDICTIONS, seed_and_fold
from featcache.runs.identity import STORE_SETTINGS
from featcache.runs.parse import REFIT
from featcache.runs.reader import RunFolder
from featcache.runs.tuned_inputs import read_tuned_inputs
from featcache.workspace import check_name


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
    with reading(folder):
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
    found: dict[int, set[str]] = {}
    for fold, utterance_id in table[["fold", "utterance_id"]].itertuples(index=False):
        if not str(fold).isdecimal():
            raise damaged(run.path / PREDICTIONS, f"expected the number of a fold, found {str(fold)!r:.40}", REFIT)
        found.setdefault(int(fold), set()).add(utterance_id)
    return {fold: sorted(ids) for fold, ids in sorted(found.items())}
