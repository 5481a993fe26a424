"""Planned runs → finished runs; those with the same features are trained together."""

import logging
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from featcache.fitting.job import FitJob
from featcache.fitting.plan import PlannedRun
from featcache.fitting.resolve import ResolvedFit
from featcache.fitting.stored_rounding import rounding_notes
from featcache.runs.reader import RunFolder
from featcache.terminal.progress import long_progress
from featcache.training.finite import check_finite
from featcache.training.memory import Memory
from featcache.training.store_features import StoreFeatures

log = logging.getLogger(__name__)

AGAIN = "--overwrite trains it again"


def fit_all(
    planned: Sequence[PlannedRun],
    *,
    cache: Path,
    memory: Memory | None = None,
    device: str = "cpu",
    jobs: int = 1,
    scheduler: str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    reports: bool = True,
) -> list[RunFolder]:
    """Train the runs that are not finished; runs with the same features and folds are trained together.

    Args:
        planned: The runs, as :func:`~featcache.fitting.plan.plan_runs` returns them.
        cache: The folder of the cache that all runs read.
        memory: Memory and dtype for the features.
        device: Available torch device, as ``usable_device`` returns it.
        jobs: Number of processes that share the folds.
        scheduler: Address of a Dask scheduler; its workers share the folds in place of local processes.
        resume: Whether to continue interrupted runs.
        overwrite: Whether to start interrupted runs again.
        reports: Whether to write reports and figures.

    Returns:
        The finished runs, in order; requests with the same settings give the same run.

    Raises:
        FeatcacheError: features are not finite, another process trains one of the runs, a run was interrupted and
            neither ``resume`` nor ``overwrite`` is given, or the memory or the disk is full.
    """
    todo = list({one.path: one for one in planned if one.finished is None}.values())
    if todo:
        setups = [one.setup for one in todo]
        _tell(setups)
        _check_features(setups)
        _load_models(setups)
        job = FitJob(
            cache=cache,
            requests=[one.request for one in todo],
            paths=[one.path for one in todo],
            device=device,
        )
        job.carry_out(
            setups,
            memory or Memory(),
            processes=jobs,
            scheduler=scheduler,
            resume=resume,
            overwrite=overwrite,
            reports=reports,
        )
        for setup in setups:
            setup.forget_blocks()
    return [one.finished or RunFolder(one.path) for one in planned]


def tell_finished(planned: Sequence[PlannedRun], told: Collection[Path]) -> None:
    """Log the runs that exist already.

    Args:
        planned: The planned runs.
        told: Folders of runs that were logged before.
    """
    for run in filter(None, (one.finished for one in planned if one.path not in told)):
        log.info("%s exists already; %s", run.path, AGAIN)


def _tell(setups: Sequence[ResolvedFit]) -> None:
    for note in dict.fromkeys(note for setup in setups for note in setup.notes):
        log.info("%s", note)
    for warning in dict.fromkeys(warning for setup in setups for warning in setup.warnings):
        log.warning("%s", warning)


def _load_models(setups: Sequence[ResolvedFit]) -> None:
    """Load the models of fine-tunings, so that an error comes before the first training; note how stores round."""
    told: set[str] = set()
    for number, setup in enumerate(setups):
        setup.share_blocks(setups[:number])
        notes = rounding_notes(setup.features, list(setup.blocks.values())) if setup.tuned else []
        setup.notes.extend(notes)
        for note in notes:
            if note not in told:
                log.info("%s", note)
        told.update(notes)


def _check_features(setups: Sequence[ResolvedFit]) -> None:
    """Check that all features are finite; features of several runs are checked once."""
    checks: dict[Any, tuple[StoreFeatures, tuple[str, ...], str]] = {}
    for setup in setups:
        norm = setup.config["norm"]
        for features, checked in (one for item in setup.features for one in item.of_stores(setup.checked_ids)):
            ids = tuple(checked)
            key = (features.store.path, features.layers, features.pooling, norm == "none", ids)
            checks.setdefault(key, (features, ids, norm))
    number = sum(len(ids) for _, ids, _ in checks.values())
    with long_progress("Checking features", number) as advance:
        for features, ids, norm in checks.values():
            check_finite(features, ids, norm=norm, advance=advance)
