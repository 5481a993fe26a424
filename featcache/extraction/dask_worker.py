"""Group → shards, in a worker process of a Dask cluster. What a task is told, and how it is done.

While an extraction goes on a marker lies beside the shards: a worker that does not see it sees other folders, and one
that reads there that the extraction is stopping begins nothing more.
"""

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from featcache._version import __version__
from featcache.cache.failures import Failure
from featcache.cache.identity import StoreIdentity
from featcache.cache.writer import StoreWriter
from featcache.errors import ClusterError
from featcache.extraction.inputs import input_of
from featcache.extraction.plan import ExtractionPlan, PlannedUtterance, StoreJob
from featcache.extraction.run import ExtractionRun
from featcache.extractors import create_extractor, usable_devices
from featcache.extractors.base import Extractor
from featcache.extractors.references import from_everywhere
from featcache.registry import name_plugins, named_plugins
from featcache.threads import keep_to_one_thread

RUNNING, STOPPING = b"running", b"stopping"

# The threads of a worker make an extractor one after the other, so that only the first one makes it.
_TURN = threading.Lock()


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a worker makes an extractor.

    Attributes:
        model: As :func:`~featcache.extractors.create_extractor` takes it; likewise ``options``, name by name.
        device: As the user named it, of the worker's machine.
        plugins: The parts from outside that the user named, with absolute paths.
    """

    model: str
    options: tuple[tuple[str, Any], ...]
    device: str
    plugins: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class WorkerStore:
    """A store that the workers fill; what each worker makes must have this identity."""

    name: str
    folder: Path
    recipe: Recipe
    identity: StoreIdentity


@dataclass(frozen=True, kw_only=True)
class WorkerJob:
    """What all tasks of one extraction have in common."""

    root: Path
    marker: Path
    stores: tuple[WorkerStore, ...]
    batch_length: float | None
    strict: bool
    version: str = __version__


@dataclass(frozen=True, kw_only=True)
class WorkerGroup:
    """What one task does.

    Attributes:
        items: Its utterances.
        todo: Store → the ids of those that it lacks.
        numbers: Store → the number of the shard to be written.
    """

    items: list[PlannedUtterance]
    todo: dict[str, set[str]]
    numbers: dict[str, int]


@dataclass(frozen=True, kw_only=True)
class Done:
    """What a task did."""

    extracted: set[str]
    failures: list[Failure]


def recipe_of(model: str, options: Mapping[str, Any], device: str) -> Recipe:
    """How workers make the extractor that is made here with these options; files and folders have absolute paths."""
    return Recipe(
        model=from_everywhere(model),
        options=tuple(sorted(options.items())),
        device=device,
        plugins=named_plugins(),
    )


def do_group(job: WorkerJob, group: WorkerGroup) -> Done | None:
    """What a worker does: extract a group and write its shards; nothing, when the extraction is stopping.

    Raises:
        FeatcacheError: this worker has other folders, another featcache or other weights than the machine that
            started the extraction; or what a local extraction raises.
    """
    if _state(job) == STOPPING:
        return None
    if job.version != __version__:
        raise ClusterError(
            f"{_here()} has featcache {__version__}, the machine that started the extraction {job.version}; "
            "install the same everywhere"
        )
    targets = []
    for store in job.stores:
        if group.todo[store.name]:
            extractor, writer = _tools(job, store)
            target = StoreJob(store.name, extractor, writer, todo=group.todo[store.name])
            target.number = group.numbers[store.name]
            targets.append(target)
    keep_to_one_thread()
    source = input_of(targets[0].extractor, job.root)
    batch_length = job.batch_length
    if batch_length is None:
        batch_length = source.batch_length(usable_devices(job.stores[0].recipe.device))
    plan = ExtractionPlan(items=group.items, bytes=0, length=0.0, spooled=0)
    run = ExtractionRun(targets, source, plan, workers=1, batch_length=batch_length, strict=job.strict)
    run.as_one_group()
    return Done(
        extracted=run.extracted, failures=[failure for target in targets for failure in target.failures.values()]
    )


def _state(job: WorkerJob) -> bytes:
    try:
        state = job.marker.read_bytes()
    except FileNotFoundError:
        state = b""
    if state and job.root.is_dir():
        return state
    missing = job.root if state else job.marker.parent
    raise ClusterError(
        f"{_here()} does not see {missing} as the machine that started the extraction does; the corpus and the cache "
        "must lie in folders that all machines share, under the same paths"
    )


def _tools(job: WorkerJob, store: WorkerStore) -> tuple[Extractor, StoreWriter]:
    with _TURN:
        extractor = _extractor(store.recipe, store.identity)
        return extractor, _writer(job.marker, store, extractor)


@lru_cache(maxsize=4)
def _extractor(recipe: Recipe, expected: StoreIdentity) -> Extractor:
    name_plugins(recipe.plugins)
    extractor = create_extractor(recipe.model, device=usable_devices(recipe.device), **dict(recipe.options))
    made = StoreIdentity.of(extractor.description, expected.storage_dtype, pool=expected.pool)
    differing = made.differences(expected)
    if differing:
        raise ClusterError(
            f"{_here()} makes another {recipe.model} than the machine that started the extraction "
            f"({', '.join(differing)} differ); give both the same weights and the same versions"
        )
    return extractor


@lru_cache(maxsize=4)
def _writer(_marker: Path, store: WorkerStore, extractor: Extractor) -> StoreWriter:
    return StoreWriter(store.folder, extractor.description, store.identity.storage_dtype, pool=store.identity.pool)


def _here() -> str:
    from distributed import get_worker

    return f"the worker {get_worker().address}"
