"""Names, folders and patterns → finished runs, each once."""

import glob
import logging
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from featcache.errors import PredictionsError, StoreError, listed
from featcache.files.regular import resolved
from featcache.runs.reader import RunFolder, find_run, finished_runs
from featcache.workspace import Workspace

log = logging.getLogger(__name__)


def chosen_runs(names: Sequence[str], *, least: int = 1) -> list[RunFolder]:
    """Return the finished runs with these names, each once.

    Args:
        names: Names or folders of runs, or patterns such as ``emodb/*`` for the runs under ``data/runs``. Other
            existing files and folders are left out with a warning, so that a shell may expand the pattern.
        least: Minimum number of runs.

    Raises:
        StoreError: a run is unknown or not finished.
        PredictionsError: fewer runs than ``least`` are given.
    """
    workspace, found, twice = Workspace.at(), dict[Path, RunFolder](), []
    others: list[str] = []
    for name in names:
        for run in _runs(workspace, name, others):
            if resolved(run.path) in found:
                twice.append(run.name)
            found.setdefault(resolved(run.path), run)
    left_out = [f"not a finished run: {listed(others)}"] if others else []
    left_out += [f"given twice: {listed(dict.fromkeys(twice))}"] if twice else []
    if len(found) < least:
        reasons = f" ({'; '.join(left_out)})" if left_out else ""
        if least == 1:
            raise PredictionsError(f"no finished run is given; name a run{reasons}")
        few = "one run cannot be compared" if found else "no finished run to compare"
        raise PredictionsError(f"{few}; name two or more different runs{reasons}")
    if left_out:
        log.warning("left out: %s", "; ".join(left_out))
    return list(found.values())


def _runs(workspace: Workspace, name: str, others: list[str]) -> list[RunFolder]:
    """Return the runs of one name or pattern; an existing path that is no run is added to ``others``."""
    try:
        return [find_run(workspace, name)]
    except StoreError:
        if Path(name).exists():
            others.append(name)
            return []
        if glob.has_magic(name):  # a name may contain brackets too
            return _matching(workspace, name)
        raise


def _matching(workspace: Workspace, pattern: str) -> list[RunFolder]:
    here = [Path(path) for path in sorted(glob.glob(pattern))]
    if here:
        return [run for path in here for run in _runs(workspace, str(path), [])]
    runs = [
        run
        for run in finished_runs(workspace)
        if fnmatchcase(run.name, pattern) or fnmatchcase(f"{run.path.parent.name}/{run.name}", pattern)
    ]
    if not runs:
        raise StoreError(f"no finished run under {workspace.home / 'runs'} matches {pattern!r}; see 'featcache runs'")
    return runs


def labels_of(runs: Sequence[RunFolder]) -> list[str]:
    """Return a different label for each run: its name, corpus/name, or its path."""
    for labels in (
        [run.name for run in runs],
        [f"{resolved(run.path).parent.name}/{run.name}" for run in runs],
    ):
        if len(set(labels)) == len(labels):
            return labels
    return [str(run.path) for run in runs]
