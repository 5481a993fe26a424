"""Cache → run folders: what ``featcache fit`` is asked for, as runs; those that are there are not run again."""

import logging
import os
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from featcache.cache.reader import FeatureCache
from featcache.errors import StoreError
from featcache.extractors import usable_device
from featcache.training.job import Job
from featcache.training.memory import Memory
from featcache.training.run_folder import Run, differences
from featcache.training.setup import Setup, hash_of, resolve
from featcache.workspace import Workspace

log = logging.getLogger(__name__)

# Source: Pepino et al. 2021 as run; further seeds go on in the same steps.
SEEDS = (123, 1234, 2345, 3456, 4567)


def first_seeds(number: int) -> tuple[int, ...]:
    """The seeds of Pepino et al. 2021, and beyond five more in the same steps."""
    return tuple(123 if i == 0 else 1234 + 1111 * (i - 1) for i in range(number))


def fit(*, head: str = "dense", norm: str = "speaker", layers: str = "all", **options: Any) -> Run:
    """Train a head over all folds and seeds of a protocol, and leave a run folder.

    Args:
        head: ``dense``, ``lstm``, ``fusion``, ``linear`` or ``svm``.
        norm: ``speaker``, ``global`` or ``none``.
        layers: ``all``, ``local``, ``last``, or a list such as ``0,4-8``.
        options: Those of :func:`sweep`.

    Returns:
        The finished run. One with the same settings that is there already is given back as it is.

    Raises:
        FeatcacheError: as :func:`sweep`.
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
    select: Mapping[str, Sequence[str]] | None = None,
    seeds: Sequence[int] = SEEDS,
    max_frames: int | None = None,
    training: Mapping[str, Any] | None = None,
    memory: str | None = None,
    pooling: str | None = None,
    scalar_norm: bool = False,
    device: str = "cpu",
    jobs: int = 1,
    scheduler: str | None = None,
    name: str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    home: str | os.PathLike[str] | None = None,
) -> list[Run]:
    """Train every combination of heads, normalisations and layers; those that can read the cache together do.

    Args:
        heads: ``dense``, ``lstm``, ``fusion``, ``linear``, ``svm``.
        norms: ``speaker``, ``global``, ``none``.
        layers: Each ``all``, ``local``, ``last``, or a list such as ``0,4-8``.
        features: Names of stores. By default the only model's store, with ``egemaps`` beside it for ``fusion``.
        layer_weighting: ``abs``, w = |a| / Σ|a|, or ``softmax``.
        corpus: Name under ``data/cache``; may be left out when there is one.
        protocol: A name in ``featcache.protocols.PROTOCOLS``; by default the manifest's split, ``loso`` for up to
            twelve speakers, ``group-kfold`` for more.
        target: The label to predict; by default the protocol's or the corpus's.
        select: Take only utterances whose labels have these values.
        seeds: One training each per fold.
        max_frames: How many frames of each utterance are used; by default 400 (8 s), for RAVDESS 250. 0 is all.
        training: Fields of :class:`~featcache.training.train.TrainingConfig` that differ from their defaults.
        memory: What the process may take, such as ``4GiB``, and in which dtype features are held; see
            :class:`~featcache.training.memory.Memory`. By default half of the machine's, and the most exact that fits.
        pooling: ``mean``, ``sum`` or ``max`` of an utterance's frames in place of them; ``linear`` and ``svm`` take
            the mean unless told otherwise.
        scalar_norm: Normalise with one mean and deviation for all dimensions of a layer, as Pepino et al. 2021 did
            spectrograms.
        device: As torch names it, or ``auto``.
        jobs: Processes that share the folds, and the cores.
        scheduler: Address of a Dask scheduler, such as ``tcp://host:8786``, whose workers share the folds instead. They
            read the cache and write the runs under the same paths as this process.
        name: Of the run folder, for a single run; by default made from the settings.
        resume: Go on with what was interrupted.
        overwrite: Train again although a finished run of that name is there.
        home: Where everything lives; by default ``$FEATCACHE_HOME``, or ``data``.

    Returns:
        The finished runs. Those with the same settings that are there already are given back as they are.

    Raises:
        FeatcacheError: nothing to fit, an unknown name, folds that cannot be made, one class only, features that an
            interrupted extraction left unfinished, a run that was interrupted.
    """
    workspace = Workspace.at(home)
    folder = workspace.find_cache(corpus)
    device = usable_device(device)
    asked = Memory.parse(memory)
    same: dict[str, Any] = {
        "names": _several(features),
        "layer_weighting": layer_weighting,
        "protocol": protocol,
        "target": target,
        "select": {column: _several(values) for column, values in (select or {}).items()},
        "seeds": tuple(dict.fromkeys(map(int, seeds))),
        "max_frames": max_frames,
        "training": dict(training or {}),
        "working_dtype": asked.dtype,
        "pooling": pooling,
        "scalar_norm": scalar_norm,
    }
    requests = [
        {**same, "head": head, "norm": norm, "layers": chosen}
        for head, norm, chosen in dict.fromkeys(product(heads, norms, layers))
    ]
    if name and len(requests) > 1:
        raise StoreError(f"--name is for a single run, and {len(requests)} are asked for; their names tell them apart")
    setups = [resolve(FeatureCache(folder), **request) for request in requests]
    paths = [workspace.runs(folder.name) / _checked(name or _run_name(setup.config)) for setup in setups]
    found = [_finished(path, setup.config, overwrite=overwrite) for path, setup in zip(paths, setups, strict=True)]
    for run in filter(None, found):
        log.info("%s is there already; --overwrite trains it again", run.path)
    todo = [position for position, run in enumerate(found) if run is None]
    if todo:
        _tell([setups[i] for i in todo])
        job = Job(cache=folder, requests=[requests[i] for i in todo], paths=[paths[i] for i in todo], device=device)
        left = [setups[i] for i in todo]
        job.carry_out(left, asked, processes=jobs, scheduler=scheduler, resume=resume, overwrite=overwrite)
    return [run or Run(path) for run, path in zip(found, paths, strict=True)]


def _tell(setups: Sequence[Setup]) -> None:
    for note in dict.fromkeys(note for setup in setups for note in setup.notes):
        log.info("%s", note)
    for warning in dict.fromkeys(warning for setup in setups for warning in setup.warnings):
        log.warning("%s", warning)


def _several(names: str | Sequence[str] | None) -> Sequence[str]:
    """One name is a sequence too, but of letters."""
    return [names] if isinstance(names, str) else names or []


def _checked(name: str) -> str:
    if name.startswith(".") or Path(name).name != name:
        raise StoreError(f"--name {name!r}: expected the name of a folder, with no slash in it and no dot at its start")
    return name


def _run_name(config: Mapping[str, Any]) -> str:
    layers = "" if config["layers"] in ("all", "-") else f"_{config['layers']}"
    features = "+".join(config["features"])
    return f"{features}{layers}_{config['head']}_{config['norm']}_{config['protocol']}_{hash_of(config)[:6]}"


def _finished(folder: Path, config: Mapping[str, Any], *, overwrite: bool) -> Run | None:
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
