"""Settings × run folders → the run that is the same and exists already, and the conditions under which it was made."""

import glob
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featcache.errors import ModelError, StoreError, listed
from featcache.fitting.conditions import conditions
from featcache.fitting.job import plan_copies
from featcache.fitting.resolve import hash_of
from featcache.runs.conditions import changes
from featcache.runs.identity import differences, identity
from featcache.runs.run_folder import Run, UnfinishedRun, read_config
from featcache.threads import available_cores
from featcache.training.memory import Memory
from featcache.workspace import MOST_NAME_BYTES

if TYPE_CHECKING:
    from featcache.fitting.fit import PlannedRun

log = logging.getLogger(__name__)

DIGITS = 6


def folder_of(runs: Path, config: Mapping[str, Any]) -> Path:
    """Where a run without a name of its own goes, or is.

    Earlier releases made other names of the same settings: a run that they made, or began, is recognised by what its
    configuration says.
    """
    layers = "" if config["layers"] in ("all", "-") else f"_{config['layers']}"
    settings = f"{layers}_{config['head']}_{config['norm']}_{config['protocol']}_"
    room = MOST_NAME_BYTES - len(settings.encode()) - DIGITS  # the hash tells them apart
    begin = "+".join(config["features"]).encode()[:room].decode(errors="ignore") + settings
    folder = runs / f"{begin}{hash_of(identity(config))[:DIGITS]}"
    if folder.exists() or UnfinishedRun.is_begun(folder):
        return folder
    pattern = glob.escape(begin) + "[0-9a-f]" * DIGITS
    others = [*runs.glob(pattern), *(path.with_name(path.name[1:-11]) for path in runs.glob(f".{pattern}.unfinished"))]
    same = (path for path in sorted(others) if _is_same(path, config))
    return next(same, folder)


def finished_run(folder: Path, config: Mapping[str, Any], *, overwrite: bool) -> Run | None:
    """The run of these settings, where it is finished.

    Raises:
        StoreError: what is there is another run, or none.
    """
    try:
        run = Run(folder)
    except StoreError as error:
        if folder.exists() and not overwrite:
            raise StoreError(f"{error}; give this one another --name, or replace that one with --overwrite") from error
        return None
    if overwrite:
        return None
    differing = differences(run.config, config)
    if differing:
        raise StoreError(
            f"{folder} is a run with other settings ({', '.join(differing)} differ); "
            "give this one another --name, or replace that one with --overwrite"
        )
    return run


def tell_conditions(
    planned: "Sequence[PlannedRun]", *, memory: Memory | None = None, device: str, jobs: int = 1, remedy: str
) -> set[Path]:
    """Report runs that exist and were made under other conditions than they would be now: one line for each difference.

    Args:
        planned: What is asked for.
        memory: What the process may take.
        device: Where heads and features would lie.
        jobs: Processes that would share the folds.
        remedy: What makes such a run again.

    Returns:
        The folders of the runs that were reported.
    """
    if not any(one.finished for one in planned):
        return set()
    workers = max(1, available_cores() // jobs)
    try:
        copies = plan_copies([one.setup for one in planned], memory or Memory(), jobs, workers, device)
    except ModelError:  # nothing could be trained now, which is no matter where all is there
        return set()
    told: dict[str, list[Path]] = {}
    for one, copy in zip(planned, copies, strict=True):
        if one.finished:
            now = conditions(device, copy, one.setup.config["head"])
            changed = ", ".join(changes(one.finished.config, now))
            if changed and one.path not in told.setdefault(changed, []):
                told[changed].append(one.path)
    for changed, paths in told.items():
        names = str(paths[0]) if len(paths) == 1 else listed(path.name for path in paths)
        log.warning("%s: there already, made under other conditions: %s; %s", names, changed, remedy)
    return {path for paths in told.values() for path in paths}


def _is_same(folder: Path, config: Mapping[str, Any]) -> bool:
    for path in (folder, UnfinishedRun.folder_of(folder)):
        try:
            if not differences(read_config(path), config):
                return True
        except StoreError:
            continue
    return False
