"""Requests → what each comes to, which runs are there already, and under what conditions these were made."""

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from featcache.cache.reader import FeatureCache
from featcache.errors import ModelError, listed
from featcache.fitting.conditions import conditions
from featcache.fitting.existing import finished_run, folder_of
from featcache.fitting.job import plan_copies
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
    """A request with all that it comes to.

    Attributes:
        request: What was asked for.
        setup: What it was resolved to.
        path: The run folder.
        finished: The run, where it is there already.
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
) -> list[PlannedRun]:
    """Find out what requests come to, and which runs are there.

    Args:
        requests: What each run is to be.
        cache: The folder of the cache that all of them read.
        name: Name of the run folder, for a single run; by default made from the settings.
        overwrite: Whether finished runs count as missing.
        home: Where everything lives; by default ``$FEATCACHE_HOME``, or ``data``.

    Returns:
        One for each request, in order.

    Raises:
        FeatcacheError: a request that cannot be fitted, or a folder that holds another run.
    """
    runs = Workspace.at(home).runs(cache.name)
    planned = []
    for request in requests:
        setup = resolve(FeatureCache(cache), request)
        path = folder_of(runs, setup.config) if name is None else runs / check_name("run", name, runs)
        finished = finished_run(path, setup.config, overwrite=overwrite)
        planned.append(PlannedRun(request=request, setup=setup, path=path, finished=finished))
    return planned


def tell_conditions(
    planned: Sequence[PlannedRun], *, memory: Memory | None = None, device: str, jobs: int = 1, remedy: str
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
