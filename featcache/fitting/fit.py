"""Cache × options → run folders. Runs that exist already are not trained again."""

import os
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import product
from typing import Any

from featcache.errors import StoreError
from featcache.extractors import usable_device
from featcache.fitting.common_options import are_solved, options_for
from featcache.fitting.convergence import tell_convergence
from featcache.fitting.curve import draw_curve, tell_equal_fractions
from featcache.fitting.fit_planned import AGAIN, fit_all, tell_finished
from featcache.fitting.other_corpora import find_caches, with_label_map
from featcache.fitting.plan import plan_runs, tell_conditions
from featcache.fitting.repeat import expanded
from featcache.fitting.search.carry_out import carry_out
from featcache.fitting.search.plan import plan_searches
from featcache.runs.reader import RunFolder
from featcache.settings.checked import configured
from featcache.settings.fits import FitSettings, LayerWeighting, Norm, Pooling, Task
from featcache.settings.public import documented, without
from featcache.settings.searches import Choose
from featcache.settings.training_loop import Criterion, Optimizer, Sampler, Schedule
from featcache.settings.types import read_names
from featcache.training.memory import Memory
from featcache.workspace import Workspace


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
    fold: int | None = None,
    train_fraction: float = 1.0,
    sweep: Mapping[str, Any] | None = None,
    trials: int | None = None,
    choose: Choose = "over-folds",
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
    fold: int | None = None,
    train_fraction: float | Sequence[float] = 1.0,
    sweep: Mapping[str, Any] | None = None,
    trials: int | None = None,
    choose: Choose = "over-folds",
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
    combinations = [{**given, **dict(zip(varied, values, strict=True))} for values in product(*varied.values())]
    if heads and not are_solved(heads):  # options of training steps are for the other heads
        combinations = [options_for(one["head"], one) for one in combinations]
    requests = [configured(FitSettings, one) for one in combinations]
    if not requests:
        raise StoreError("nothing to fit: heads, norms, layers and train_fraction need at least one value each")
    return train_requests(requests, home=home)


def train_requests(requests: Sequence[FitSettings], *, home: str | os.PathLike[str] | None = None) -> list[RunFolder]:
    """Train runs that share all options which do not affect results.

    Args:
        requests: The settings of each run, at least one.
        home: Folder of corpora, caches and runs; by default ``$FEATCACHE_HOME``, or ``data``.

    Returns:
        The finished runs.

    Raises:
        FeatcacheError: a fit is not possible, see :func:`fit`.
    """
    asked = requests[0]
    if asked.name is not None and len(requests) > 1:
        raise StoreError(f"--name is for a single run, found {len(requests)} runs; remove --name")
    memory = Memory.parse(asked.memory)
    cache = find_caches(Workspace.at(home), asked)
    requests = [with_label_map(request) for request in requests]
    device = usable_device(asked.device)
    train = partial(
        fit_all,
        cache=cache,
        memory=memory,
        device=device,
        jobs=asked.jobs,
        scheduler=asked.scheduler,
        resume=asked.resume,
        overwrite=asked.overwrite,
    )
    where: Any = {"cache": cache, "name": asked.name, "overwrite": asked.overwrite, "home": home}
    tell = partial(tell_conditions, memory=memory, device=device, jobs=asked.jobs, remedy=AGAIN)
    if asked.is_search:
        searches = plan_searches(requests, **where)
        planned = [one.known[0] for one in searches]  # all settings of a search have the same folds
        tell_equal_fractions(planned)
        runs = carry_out(searches, partial(train, reports=False), tell, overwrite=asked.overwrite)
    else:
        planned = plan_runs(requests, **where)
        tell_finished(planned, tell(planned))
        tell_equal_fractions(planned)
        runs = train(planned)
    draw_curve(planned, runs)
    tell_convergence(runs)
    return runs


def _several(names: str | Sequence[str] | None) -> Sequence[str]:
    """Return a list of names; a single text is one name, not a sequence of letters."""
    return [names] if isinstance(names, str) else names or []
