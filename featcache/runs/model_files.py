"""Run folder, store, seed and fold → the folder of a fine-tuned model, whose files have the recorded checksums."""

from pathlib import Path

from featcache.files.checksums import recorded_checksums
from featcache.files.disk import reading
from featcache.files.regular import is_hidden
from featcache.files.values import damaged
from featcache.runs.file_names import model_name
from featcache.runs.identity import hash_of
from featcache.runs.parse import REFIT, check_file
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
    with reading(folder):
        if not folder.is_dir():
            raise damaged(folder, "the folder of this fine-tuned model is missing", REFIT)
        return sorted(path.name for path in folder.iterdir() if not is_hidden(path.name))
