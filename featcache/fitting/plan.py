"""Requests → resolved runs, with the runs that exist already and the conditions under which they were computed."""

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from featcache.errors import ModelError, listed
from featcache.fitting.conditions import conditions, recorded_copy
from featcache.fitting.existing import REMEDY, REMEDY_OF_SETTING, finished_run, folder_of
from featcache.fitting.memory_plan import plan_copies
from featcache.fitting.other_corpora import open_cache
from featcache.fitting.resolve import ResolvedFit, resolve
from featcache.runs.changes import changes
from featcache.runs.reader import RunFolder
from featcache.settings.fits import FitSettings
from featcache.threads import available_cores
from featcache.training.memory import Memory
from featcache.workspace import Workspace, check_name

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class PlannedRun:
    """Request with its resolved settings and its run.

    Attributes:
        request: The settings of the fit.
        setup: The resolved request.
        path: The run folder.
        finished: The finished run; None if it does not exist yet.
    """

    request: FitSettings
    setup: ResolvedFit
    path: Path
    finished: RunFolder | None


def plan_runs(
    requests: Sequence[FitSettings],
    *,
    cache: Path,
    name: str | None = None,
    overwrite: bool = False,
    home: str | os.PathLike[str] | None = None,
    folder: Path | None = None,
) -> list[PlannedRun]:
    """Resolve requests, and find the runs that exist already.

    Args:
        requests: The settings of each run.
        cache: The folder of the cache that all runs read.
        name: Name of the run folder, for a single run; by default made from the settings.
        overwrite: Whether finished runs are trained again.
        home: Folder of corpora, caches and runs; by default ``$FEATCACHE_HOME``, or ``data``.
        folder: Folder of the runs of a search's settings; by default that of the corpus.

    Returns:
        One item per request, in order.

    Raises:
        FeatcacheError: a request cannot be fitted, or its folder contains another run.
    """
    runs = Workspace.at(home).runs(cache.name) if folder is None else folder
    remedy = REMEDY if folder is None else REMEDY_OF_SETTING
    planned = []
    for request in requests:
        setup = resolve(open_cache(cache, request), request)
        path = folder_of(runs, setup.config) if name is None else runs / check_name("run", name, runs)
        finished = finished_run(path, setup.config, overwrite=overwrite, remedy=remedy)
        planned.append(PlannedRun(request=request, setup=setup, path=path, finished=finished))
    return planned


def tell_conditions(
    planned: Sequence[PlannedRun], *, memory: Memory | None = None, device: str, jobs: int = 1, remedy: str
) -> set[Path]:
    """Log runs that exist and were computed under other conditions than the current ones: one line per difference.

    Args:
        planned: The planned runs.
        memory: Memory and dtype for the features.
        device: Device of heads and features.
        jobs: Number of processes that would share the folds.
        remedy: Advice on how to train such a run again.

    Returns:
        The folders of the runs that were logged.
    """
    if not any(one.finished for one in planned):
        return set()
    workers = max(1, available_cores() // jobs)
    # A plan for blocks needs their model, which finished runs do not need.
    recorded = [recorded_copy(one.finished.config) if one.finished and one.setup.tuned else None for one in planned]
    try:
        copies = plan_copies([one.setup for one in planned], memory or Memory(), jobs, workers, device, recorded)
    except ModelError:  # the memory is not enough to train, but runs that exist need none
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
        log.warning("%s: exists already, computed under other conditions: %s; %s", names, changed, remedy)
    return {path for paths in told.values() for path in paths}
