"""Requests with several values of their options → searches, and the results that exist already."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from featcache.errors import ModelError, StoreError
from featcache.fitting.existing import REMEDY, existing_run, folder_of
from featcache.fitting.plan import PlannedRun, plan_runs
from featcache.fitting.record import plain
from featcache.fitting.search.proposals import Drawn, Grid, Proposals
from featcache.fitting.search.space import SearchSpace
from featcache.runs.identity import FROM_LAYER, SWEEP, hash_of, identity
from featcache.runs.reader import RunFolder
from featcache.settings.fits import FitSettings
from featcache.settings.searches import Range
from featcache.workspace import Workspace, check_name

# Folder of the runs of all settings, hidden beside the folders of corpora: 'featcache runs' lists results only.
TRIALS = ".trials"
# Stands in the name of a run folder for an option that is searched.
SEARCHED = "searched"


@dataclass(frozen=True, kw_only=True)
class Search:
    """Search over settings.

    Attributes:
        request: The settings of the fit, with those of the search.
        space: Values to try.
        known: Settings that are resolved already: all of a grid, or a few examples.
        cache: The folder of the cache.
        trials: Folder of the runs of all settings.
        path: Run folder of the result.
        asked: Values to try, number of trials, and how the setting is chosen, in plain values.
        sha256: Checksum of what identifies the result.
        finished: The result; None if it does not exist yet.
    """

    request: FitSettings
    space: SearchSpace
    known: Sequence[PlannedRun]
    cache: Path
    trials: Path
    path: Path
    asked: dict[str, Any]
    sha256: str
    finished: RunFolder | None

    def proposals(self) -> Proposals:
        """Return a new source of settings.

        Raises:
            MissingPackageError: Optuna is needed, but not installed.
        """
        asked = self.request
        if asked.trials is None:
            return Grid(self.space)
        return Drawn(self.space, asked.trials, choose=asked.choose, seed=asked.seeds[0])


def plan_searches(
    requests: Sequence[FitSettings],
    *,
    cache: Path,
    name: str | None = None,
    overwrite: bool = False,
    home: str | os.PathLike[str] | None = None,
) -> list[Search]:
    """Resolve the settings of searches, and find the results that exist already.

    Args:
        requests: The settings of each search.
        cache: The folder of the cache that all runs read.
        name: Name of the run folder of the result, for a single search; by default made from the settings.
        overwrite: Whether everything is trained again.
        home: Folder of corpora, caches and runs; by default ``$FEATCACHE_HOME``, or ``data``.

    Returns:
        One item per request, in order.

    Raises:
        FeatcacheError: a setting cannot be fitted, the settings use different utterances, Optuna is needed and not
            installed, or the folder of the result contains another run.
    """
    runs = Workspace.at(home).runs(cache.name)
    trials = runs.parent / TRIALS / runs.name
    searches = []
    for request in requests:
        space = SearchSpace(request)
        settings = space.grid() if request.trials is None else space.checks()
        asked_for = [space.request_of(one) for one in settings]
        known = plan_runs(asked_for, cache=cache, overwrite=overwrite, folder=trials)
        _check_utterances(known)
        asked = _asked(request, space)
        sha256 = hash_of([asked, [identity(one.setup.config) for one in known]])
        named = {**known[0].setup.config, SWEEP: sha256}
        named |= dict.fromkeys({"head", "norm", "layers"} & space.options.keys(), SEARCHED)
        named |= {FROM_LAYER: [SEARCHED]} if FROM_LAYER in space.options else {}
        path = folder_of(runs, named) if name is None else runs / check_name("run", name, runs)
        searches.append(
            Search(
                request=request,
                space=space,
                known=known,
                cache=cache,
                trials=trials,
                path=path,
                asked=asked,
                sha256=sha256,
                finished=_finished(path, sha256, overwrite=overwrite),
            )
        )
        searches[-1].proposals()  # raises an error for a missing package now, and not after other searches
    return searches


def _asked(request: FitSettings, space: SearchSpace) -> dict[str, Any]:
    options = {
        name: request.sweep[name] if isinstance(values, Range) else space.listed(name, values)
        for name, values in space.options.items()
    }
    trials = {} if request.trials is None else {"trials": request.trials}
    return plain({"options": options, **trials, "choose": request.choose})


def _check_utterances(planned: Sequence[PlannedRun]) -> None:
    """Check that all settings train, validate and test with the same utterances.

    Raises:
        ModelError: a store of one setting misses utterances.
    """
    first = planned[0].setup
    for one in planned[1:]:
        if one.setup.folds != first.folds:
            names = [" + ".join(setup.config["features"]) for setup in (first, one.setup)]
            raise ModelError(
                f"the settings use different utterances ({names[0]} and {names[1]}), so their scores cannot be "
                "compared; extract the missing utterances"
            )


def _finished(path: Path, sha256: str, *, overwrite: bool) -> RunFolder | None:
    """Return the result in a folder; None if it does not exist or is replaced.

    Raises:
        StoreError: the folder contains something else.
    """
    run = existing_run(path, overwrite=overwrite)
    if run is not None and run.config.get(SWEEP, {}).get("sha256") != sha256:
        raise StoreError(f"{path} is a run with other settings; {REMEDY}")
    return run
