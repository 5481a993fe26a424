"""Cache → run folders: what ``featcache fit`` is asked for, as runs; those that are there are not run again."""

import logging
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

from featcache.errors import StoreError
from featcache.extractors import usable_device
from featcache.fitting.job import FitJob
from featcache.fitting.plan import PlannedRun, plan_runs, tell_conditions
from featcache.fitting.request import FitRequest
from featcache.fitting.resolve import ResolvedFit
from featcache.fitting.results import epochs_of
from featcache.normalise import SPEAKER
from featcache.runs.reader import RunFolder
from featcache.training.finite import check_finite
from featcache.training.memory import Memory
from featcache.workspace import Workspace

log = logging.getLogger(__name__)

AGAIN = "--overwrite trains it again"

# Source: Pepino et al. 2021 as run; further seeds go on in the same steps.
SEEDS = (123, 1234, 2345, 3456, 4567)


def first_seeds(number: int) -> tuple[int, ...]:
    """The seeds of Pepino et al. 2021, and beyond five more in the same steps."""
    return tuple(123 if i == 0 else 1234 + 1111 * (i - 1) for i in range(number))


def fit(*, head: str = "dense", norm: str = "speaker", layers: str = "all", **options: Any) -> RunFolder:
    """Train a head over all folds and seeds of a protocol, and leave a run folder.

    Args:
        head: ``dense``, ``lstm``, ``fusion``, ``linear``, ``ffn`` or ``svm``.
        norm: ``speaker``, ``global`` or ``none``.
        layers: ``all``, ``local``, ``last``, or a list such as ``0,4-8``.
        options: Those of :func:`sweep`.

    Returns:
        The finished run. One with the same settings that is there already is given back as it is.

    Raises:
        FeatcacheError: as :func:`sweep`.

    Example:
        >>> run = featcache.fit(head="dense", norm="speaker", features="wav2vec2-base", seeds=[123, 1234])
        >>> run.metrics["num_seeds"]
        2
    """
    return sweep(heads=[head], norms=[norm], layers=[layers], **options)[0]


def sweep(
    *,
    heads: Sequence[str] = ("dense",),
    norms: Sequence[str] = ("speaker",),
    layers: Sequence[str] = ("all",),
    features: Sequence[str] | None = None,
    layer_weighting: str = "abs",
    corpus: str | None = None,
    protocol: str | None = None,
    target: str | None = None,
    task: str | None = None,
    label_range: tuple[float, float] | None = None,
    select: Mapping[str, Sequence[str]] | None = None,
    seeds: Sequence[int] = SEEDS,
    max_frames: int | None = None,
    training: Mapping[str, Any] | None = None,
    memory: str | None = None,
    pooling: str | None = None,
    scalar_norm: bool = False,
    norm_by: str = SPEAKER,
    device: str = "cpu",
    jobs: int = 1,
    scheduler: str | None = None,
    name: str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    home: str | os.PathLike[str] | None = None,
) -> list[RunFolder]:
    """Train every combination of heads, normalisations and layers; those that can read the cache together do.

    Args:
        heads: ``dense``, ``lstm``, ``fusion``, ``linear``, ``ffn``, ``svm``; several stores for ``fusion`` and ``ffn``.
        norms: ``speaker``, ``global``, ``none``.
        layers: Each ``all``, ``local``, ``last``, or a list such as ``0,4-8``.
        features: Names of stores. By default the only model's store, with ``egemaps`` beside it for ``fusion``.
        layer_weighting: ``abs``, w = |a| / Σ|a|, or ``softmax``.
        corpus: Name under ``data/cache``; may be left out when there is one.
        protocol: A name in ``featcache.protocols.PROTOCOLS``; by default, for corpora of dialogues, the first published
            one that keeps speakers and their partners apart; for others the manifest's split or folds, ``loso`` for up
            to twelve speakers, ``group-kfold`` for more.
        target: The label to predict; by default the protocol's or the corpus's. ``LABEL=CLASS`` tells one class from
            all others; several labels, as in ``arousal,valence``, are numbers that one head predicts together.
        task: ``classification`` or ``regression``; by default regression for several labels, and for those that the
            corpus knows as numbers.
        label_range: What numbers lie between; by default what the corpus says, or else the lowest and the highest.
        select: Take only utterances whose labels have these values.
        seeds: One training each per fold.
        max_frames: How many frames of each utterance are used; by default 400 (8 s), for RAVDESS 250. 0 is all. Stores
            whose frames do not pair are cut after the same time as the first that has a frame shift, tokens never.
        training: Fields of :class:`~featcache.training.train.TrainingConfig` that differ from their defaults.
        memory: What the process may take, such as ``4GiB``, and in which dtype features are held; see
            :class:`~featcache.training.memory.Memory`. By default half of the machine's, and the most exact that fits.
        pooling: ``mean``, ``sum``, ``max`` or ``mean+max`` of all of an utterance's frames in place of them; ``linear``
            and ``svm`` take the mean unless told otherwise, ``ffn`` takes ``mean+max`` where each store gives a single
            layer and ``max_frames`` is not given: that is what it would find itself, and no frame is read.
        scalar_norm: Normalise with one mean and deviation for all dimensions of a layer, as Pepino et al. 2021 did
            spectrograms.
        norm_by: What ``speaker`` takes for the speaker: ``speaker_id``, or a label such as ``dialogue_half``.
        device: As torch names it, or ``auto``.
        jobs: Processes that share the folds, and the cores.
        scheduler: Address of a Dask scheduler, such as ``tcp://host:8786``, whose workers share the folds instead. They
            read the cache and write the runs under the same paths as this process.
        name: Of the run folder, for a single run; by default made from the settings.
        resume: Go on with what was interrupted, with the dtypes that it was begun with, whatever memory is free now.
        overwrite: Train again although a finished run of that name is there.
        home: Where everything lives; by default ``$FEATCACHE_HOME``, or ``data``.

    Returns:
        The finished runs. Those with the same settings that are there already are given back as they are.

    Raises:
        FeatcacheError: nothing to fit, an unknown name, folds that cannot be made, one class only, features that an
            interrupted extraction left unfinished, a run that was interrupted.

    Example:
        >>> runs = featcache.sweep(heads=["dense", "linear"], norms=["speaker"], features="wav2vec2-base", seeds=[123])
        >>> [run.config["head"] for run in runs]
        ['dense', 'linear']
    """
    asked = Memory.parse(memory)
    common = FitRequest(
        features=tuple(_several(features)),
        layer_weighting=layer_weighting,
        protocol=protocol,
        target=target,
        task=task,
        label_range=None if label_range is None else (float(label_range[0]), float(label_range[1])),
        select={column: _several(values) for column, values in (select or {}).items()},
        seeds=tuple(dict.fromkeys(map(int, seeds))),
        max_frames=max_frames,
        training=dict(training or {}),
        working_dtype=asked.dtype,
        pooling=pooling,
        scalar_norm=scalar_norm,
        norm_by=norm_by,
    )
    combinations = dict.fromkeys(product(heads, norms, layers))
    requests = [replace(common, head=head, norm=norm, layers=chosen) for head, norm, chosen in combinations]
    if name and len(requests) > 1:
        raise StoreError(f"--name is for a single run, and {len(requests)} are asked for; their names tell them apart")
    cache = Workspace.at(home).find_cache(corpus)
    device = usable_device(device)
    planned = plan_runs(requests, cache=cache, name=name, overwrite=overwrite, home=home)
    _tell_finished(planned, tell_conditions(planned, memory=asked, device=device, jobs=jobs, remedy=AGAIN))
    going_on = {"resume": resume, "overwrite": overwrite}
    runs = fit_all(planned, cache=cache, memory=asked, device=device, jobs=jobs, scheduler=scheduler, **going_on)
    tell_epochs(runs)
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
    """Train the runs that are not finished; those that read the same features with the same folds do so together.

    Args:
        planned: The runs, as :func:`~featcache.fitting.plan.plan_runs` returns them.
        cache: The folder of the cache that all of them read.
        memory: How much memory the process may take.
        device: A device of torch that is here, as ``usable_device`` returns it.
        jobs: How many processes share the folds.
        scheduler: Address of a Dask scheduler, whose workers share the folds instead.
        resume: Go on with what was interrupted.
        overwrite: Train again although trainings of an interrupted run are there.

    Returns:
        The finished runs, in order; two requests that come to the same settings are one run.

    Raises:
        FeatcacheError: features that are not finite, another process that trains one of the runs, an interrupted run
            without ``resume``, too little memory, a full disk.
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
        log.info("%s is there already; %s", run.path, AGAIN)


def tell_epochs(runs: Sequence[RunFolder]) -> None:
    """Report for each run how many trainings reached ``--max-epochs`` while they still improved."""
    runs = list({run.path: run for run in runs}.values())
    for run in runs:
        for note in epochs_of(run):
            log.info("%s", f"{run.name}: {note}" if len(runs) > 1 else note)


def _tell(setups: Sequence[ResolvedFit]) -> None:
    for note in dict.fromkeys(note for setup in setups for note in setup.notes):
        log.info("%s", note)
    for warning in dict.fromkeys(warning for setup in setups for warning in setup.warnings):
        log.warning("%s", warning)


def _check_features(setups: Sequence[ResolvedFit]) -> None:
    """Refuse features that are not finite; those that several runs read are looked at once."""
    seen = set()
    for setup in setups:
        ids = setup.measured.utterance_ids
        for features in setup.features:
            key = (features.store.path, features.layers, features.pooling, setup.config["norm"] == "none", ids)
            if key not in seen:
                check_finite(features, ids, norm=setup.config["norm"])
            seen.add(key)


def _several(names: str | Sequence[str] | None) -> Sequence[str]:
    """One name is a sequence too, but of letters."""
    return [names] if isinstance(names, str) else names or []
