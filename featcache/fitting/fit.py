"""Cache × options → run folders. Runs that exist already are not trained again."""

import logging
import os
from collections.abc import Collection, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from featcache.errors import StoreError
from featcache.extractors import usable_device
from featcache.fitting.convergence import tell_convergence
from featcache.fitting.curve import draw_curve, tell_equal_fractions
from featcache.fitting.job import FitJob
from featcache.fitting.other_corpora import find_caches, with_label_map
from featcache.fitting.plan import PlannedRun, plan_runs, tell_conditions
from featcache.fitting.repeat import expanded
from featcache.fitting.resolve import ResolvedFit
from featcache.runs.reader import RunFolder
from featcache.settings.checked import configured
from featcache.settings.fits import FitSettings, LayerWeighting, Norm, Pooling, Task
from featcache.settings.public import documented, without
from featcache.settings.training_loop import Criterion, Optimizer, Sampler, Schedule
from featcache.settings.types import read_names
from featcache.terminal.progress import long_progress
from featcache.training.finite import check_finite
from featcache.training.memory import Memory
from featcache.training.store_features import StoreFeatures
from featcache.workspace import Workspace

log = logging.getLogger(__name__)

AGAIN = "--overwrite trains it again"


@documented("featcache.fit", FitSettings, expand=expanded)
def fit(
    *,
    head: str = "dense",
    set: Mapping[str, Any] | None = None,
    norm: Norm = "speaker",
    seeds: int | Sequence[int] = 5,
    features: str | Sequence[str] = (),
    layers: str = "all",
    layer_weighting: LayerWeighting = "abs",
    pooling: Pooling | None = None,
    scalar_norm: bool = False,
    norm_by: str = "speaker_id",
    max_frames: int | None = None,
    train_views: str | Sequence[str] = (),
    test_view: str | None = None,
    protocol: str | None = None,
    target: str | None = None,
    task: Task | None = None,
    label_range: tuple[float, float] | None = None,
    select: Mapping[str, str | Sequence[str]] | None = None,
    limit: int | None = None,
    loss: str | None = None,
    class_weights: str | Mapping[str, float] = "none",
    final: bool = False,
    train_fraction: float = 1.0,
    learning_rate: float = 1e-4,
    batch_size: int | None = None,
    max_epochs: int = 100,
    patience: int = 4,
    clip_value: float = 1.0,
    epsilon: float = 1e-7,
    train: str | Sequence[str] = (),
    test: str | Sequence[str] = (),
    label_map: str | os.PathLike[str] | Mapping[str, Any] | None = None,
    also: str | Sequence[str] | Mapping[str, float] | None = None,
    mixup: float = 0.0,
    mask_time: str | None = None,
    mask_dims: str | None = None,
    feature_noise: float = 0.0,
    crop: int = 0,
    optimizer: Optimizer = "adam",
    weight_decay: float | None = None,
    schedule: Schedule = "constant",
    warmup: float = 0.0,
    stop_on: Criterion = "loss",
    evaluate_every: int | None = None,
    sampler: Sampler = "shuffled",
    corpus: str | None = None,
    device: str = "cpu",
    plugin: str | Sequence[str] = (),
    memory: str | None = None,
    jobs: int = 1,
    scheduler: str | None = None,
    name: str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    config: str | os.PathLike[str] | None = None,
    home: str | os.PathLike[str] | None = None,
) -> RunFolder:
    """Train a head over all folds and seeds of a protocol, and write a run folder.

    Args:
        home: Folder of corpora, caches and runs; by default ``$FEATCACHE_HOME``, or ``data``.

    Returns:
        The finished run. A run with the same settings that exists already is returned as it is.

    Raises:
        FeatcacheError: there is no cache, a name or value is unknown, the protocol cannot make folds, the label has a
            single class, an extraction is unfinished, features are not finite, the memory or the disk is full, or a run
            of that name exists with other settings or was interrupted (see ``resume`` and ``overwrite``).
        TypeError: an option does not exist.

    Example:
        >>> run = featcache.fit(head="dense", norm="speaker", features="wav2vec2-base", seeds=2, max_epochs=2)
        >>> run.metrics["num_seeds"]
        2
    """
    return fit_combinations(without(locals(), "home"), home=home)[0]


@documented("featcache.sweep", FitSettings, expand=expanded)
def sweep(
    *,
    heads: str | Sequence[str] = ("dense",),
    norms: str | Sequence[str] = ("speaker",),
    layers: str | Sequence[str] = ("all",),
    set: Mapping[str, Any] | None = None,
    seeds: int | Sequence[int] = 5,
    features: str | Sequence[str] = (),
    layer_weighting: LayerWeighting = "abs",
    pooling: Pooling | None = None,
    scalar_norm: bool = False,
    norm_by: str = "speaker_id",
    max_frames: int | None = None,
    train_views: str | Sequence[str] = (),
    test_view: str | None = None,
    protocol: str | None = None,
    target: str | None = None,
    task: Task | None = None,
    label_range: tuple[float, float] | None = None,
    select: Mapping[str, str | Sequence[str]] | None = None,
    limit: int | None = None,
    loss: str | None = None,
    class_weights: str | Mapping[str, float] = "none",
    final: bool = False,
    train_fraction: float | Sequence[float] = 1.0,
    learning_rate: float = 1e-4,
    batch_size: int | None = None,
    max_epochs: int = 100,
    patience: int = 4,
    clip_value: float = 1.0,
    epsilon: float = 1e-7,
    train: str | Sequence[str] = (),
    test: str | Sequence[str] = (),
    label_map: str | os.PathLike[str] | Mapping[str, Any] | None = None,
    also: str | Sequence[str] | Mapping[str, float] | None = None,
    mixup: float = 0.0,
    mask_time: str | None = None,
    mask_dims: str | None = None,
    feature_noise: float = 0.0,
    crop: int = 0,
    optimizer: Optimizer = "adam",
    weight_decay: float | None = None,
    schedule: Schedule = "constant",
    warmup: float = 0.0,
    stop_on: Criterion = "loss",
    evaluate_every: int | None = None,
    sampler: Sampler = "shuffled",
    corpus: str | None = None,
    device: str = "cpu",
    plugin: str | Sequence[str] = (),
    memory: str | None = None,
    jobs: int = 1,
    scheduler: str | None = None,
    name: str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    home: str | os.PathLike[str] | None = None,
) -> list[RunFolder]:
    """Train every combination of heads, normalisations, layers and fractions of the training speakers.

    Combinations that need the same features are trained together, so that the cache is read once. With several
    fractions, a learning curve is drawn: see :func:`~featcache.fitting.fit.fit_combinations`.

    Args:
        heads: Heads; for each, see the option ``head`` of :func:`fit`.
        norms: Normalisations; for each, see the option ``norm`` of :func:`fit`.
        layers: Selections of layers; for each, see the option ``layers`` of :func:`fit`.
        train_fraction: Fractions; for each, see the option ``train_fraction`` of :func:`fit`.
        home: Folder of corpora, caches and runs; by default ``$FEATCACHE_HOME``, or ``data``.

    Returns:
        The finished runs, in the order of heads, norms, layers and fractions. Runs with the same settings that exist
        already are returned as they are.

    Raises:
        FeatcacheError: a fit of a combination is not possible, see :func:`fit`; ``name`` is given for several runs.
        TypeError: an option does not exist.

    Example:
        >>> runs = featcache.sweep(heads=["dense", "linear"], norms="speaker", features="wav2vec2-base", seeds=1)
        >>> [run.config["head"] for run in runs]
        ['dense', 'linear']
    """
    fractions = [train_fraction] if isinstance(train_fraction, int | float | str) else train_fraction
    return fit_combinations(
        without(locals(), "home", "heads", "norms", "fractions"),
        heads=read_names(heads),
        norms=read_names(norms),
        layers=_several(layers),
        fractions=fractions,
        home=home,
    )


def fit_combinations(
    given: Mapping[str, Any],
    *,
    heads: Sequence[str] | None = None,
    norms: Sequence[str] | None = None,
    layers: Sequence[str] | None = None,
    fractions: Sequence[float | str] | None = None,
    home: str | os.PathLike[str] | None = None,
) -> list[RunFolder]:
    """Train every combination of heads, normalisations, layers and fractions that share all other options.

    With several fractions, ``learning_curve.png``, ``.svg``, ``.pdf`` and ``.csv`` are written beside the run folders.

    Args:
        given: Options of ``fit``, by name.
        heads: Heads; None for the option ``head``.
        norms: Normalisations; None for the option ``norm``.
        layers: Selections of layers; None for the option ``layers``.
        fractions: Fractions of the training speakers; None for the option ``train_fraction``.
        home: Folder of corpora, caches and runs; by default ``$FEATCACHE_HOME``, or ``data``.

    Returns:
        The finished runs.

    Raises:
        FeatcacheError: a fit is not possible, see :func:`fit`.
    """
    axes = {"head": heads, "norm": norms, "layers": layers, "train_fraction": fractions}
    varied = {option: tuple(dict.fromkeys(values)) for option, values in axes.items() if values is not None}
    requests = [
        configured(FitSettings, {**given, **dict(zip(varied, values, strict=True))})
        for values in product(*varied.values())
    ]
    if not requests:
        raise StoreError("nothing to fit: heads, norms, layers and train_fraction need at least one value each")
    asked = requests[0]
    if asked.name is not None and len(requests) > 1:
        raise StoreError(f"--name is for a single run, found {len(requests)} runs; remove --name")
    memory = Memory.parse(asked.memory)
    cache = find_caches(Workspace.at(home), asked)
    requests = [with_label_map(request) for request in requests]
    device = usable_device(asked.device)
    planned = plan_runs(requests, cache=cache, name=asked.name, overwrite=asked.overwrite, home=home)
    tell_equal_fractions(planned)
    _tell_finished(planned, tell_conditions(planned, memory=memory, device=device, jobs=asked.jobs, remedy=AGAIN))
    runs = fit_all(
        planned,
        cache=cache,
        memory=memory,
        device=device,
        jobs=asked.jobs,
        scheduler=asked.scheduler,
        resume=asked.resume,
        overwrite=asked.overwrite,
    )
    tell_convergence(runs)
    draw_curve(planned, runs)
    return runs


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
        job = FitJob(
            cache=cache,
            requests=[one.request for one in todo],
            paths=[one.path for one in todo],
            device=device,
        )
        job.carry_out(
            setups, memory or Memory(), processes=jobs, scheduler=scheduler, resume=resume, overwrite=overwrite
        )
    return [one.finished or RunFolder(one.path) for one in planned]


def _tell_finished(planned: Sequence[PlannedRun], told: Collection[Path]) -> None:
    for run in filter(None, (one.finished for one in planned if one.path not in told)):
        log.info("%s exists already; %s", run.path, AGAIN)


def _tell(setups: Sequence[ResolvedFit]) -> None:
    for note in dict.fromkeys(note for setup in setups for note in setup.notes):
        log.info("%s", note)
    for warning in dict.fromkeys(warning for setup in setups for warning in setup.warnings):
        log.warning("%s", warning)


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


def _several(names: str | Sequence[str] | None) -> Sequence[str]:
    """Return a list of names; a single text is one name, not a sequence of letters."""
    return [names] if isinstance(names, str) else names or []
