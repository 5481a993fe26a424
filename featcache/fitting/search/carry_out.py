"""Searches → their results; settings of all searches that are known at the same time are trained together."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from featcache.fitting.plan import PlannedRun, plan_runs
from featcache.fitting.search.choice import Tried
from featcache.fitting.search.plan import Search
from featcache.fitting.search.result import write_result
from featcache.runs.reader import RunFolder
from featcache.units import counted

log = logging.getLogger(__name__)

Train = Callable[[Sequence[PlannedRun]], list[RunFolder]]


class RunningSearch:
    """Search that is carried out.

    Args:
        search: The search.
        overwrite: Whether runs of settings are trained again.
    """

    def __init__(self, search: Search, *, overwrite: bool) -> None:
        self._search = search
        self._overwrite = overwrite
        self._proposals = search.proposals()
        self._batch: list[PlannedRun] = []
        self._tried: dict[Path, Tried] = {}

    def next(self) -> list[PlannedRun]:
        """Return the settings to train next as planned runs; empty at the end."""
        search = self._search
        requests = [search.space.request_of(one) for one in self._proposals.next()]
        if search.request.trials is None and requests:
            self._batch = list(search.known)
            return self._batch
        planned = plan_runs(requests, cache=search.cache, overwrite=self._overwrite, folder=search.trials)
        self._batch = [
            replace(one, finished=self._tried[one.path].run) if one.path in self._tried else one for one in planned
        ]
        return self._batch

    def tell(self, runs: Sequence[RunFolder]) -> None:
        """Receive the finished runs of the last settings."""
        for planned, run in zip(self._batch, runs, strict=True):
            if planned.path not in self._tried:
                values = self._search.space.values(planned.request)
                self._tried[planned.path] = Tried.of(values, planned, run, how=self._search.request.choose)
        scores = [self._tried[planned.path].over_folds["mean"] for planned in self._batch]
        self._proposals.tell(scores)

    def finish(self) -> RunFolder:
        """Choose the setting of each fold, and write the result."""
        return write_result(self._search, list(self._tried.values()))


def carry_out(
    searches: Sequence[Search], train: Train, tell: Callable[[Sequence[PlannedRun]], Any], *, overwrite: bool = False
) -> list[RunFolder]:
    """Train the settings of searches, and write a run folder with the chosen setting of each search.

    Args:
        searches: The searches.
        train: Function that trains planned runs and returns the finished ones.
        tell: Function that logs under which conditions finished runs were computed.
        overwrite: Whether runs of settings are trained again.

    Returns:
        The results, in order.

    Raises:
        FeatcacheError: a setting cannot be fitted or trained.
    """
    results = {one.path: one.finished for one in searches if one.finished}
    for path in results:
        log.info("%s exists already; --overwrite searches again", path)
    running = {one.path: RunningSearch(one, overwrite=overwrite) for one in searches if one.finished is None}
    while any((batches := {path: one.next() for path, one in running.items()}).values()):
        planned = [one for batch in batches.values() for one in batch]
        _tell_number(planned)
        tell(planned)
        finished = iter(train(planned))
        for path, batch in batches.items():
            running[path].tell([next(finished) for _ in batch])
    results |= {path: one.finish() for path, one in running.items()}
    return [results[one.path] for one in searches]


def _tell_number(planned: Sequence[PlannedRun]) -> None:
    paths = {one.path: one for one in planned}
    there = sum(one.finished is not None for one in paths.values())
    told = f", of which {there} exist already" if there else ""
    log.info("%s", f"training {counted(len(paths), 'setting')}{told}")
