"""Group → shards, in a worker process of a Dask cluster: the description of a task, and its execution.

During an extraction, a marker file lies next to the shards. A worker that does not see it has other folders. A worker
that reads in it that the extraction is stopping starts no further task.
"""

import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from featcache._version import __version__
from featcache.augmentation.augmented_view import AugmentedView
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

# Only one thread of a worker at a time creates an extractor; the others then get the same one.
_TURN = threading.Lock()


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Arguments with which a worker creates an extractor.

    Attributes:
        model: Model, see :func:`~featcache.extractors.create_extractor`.
        options: Names and values of its options.
        device: Device on the worker's machine, as the user named it.
        plugins: External code that the user named, with absolute paths.
        replaced: Settings of the store that replace those of the extractor, as JSON.
    """

    model: str
    options: tuple[tuple[str, Any], ...]
    device: str
    plugins: tuple[str, ...] = ()
    replaced: str = ""

    @property
    def is_tuned(self) -> bool:
        """Whether the model was fine-tuned in a run."""
        return bool(self.replaced)

    def create(self, device: str) -> Extractor:
        """Create the extractor.

        Args:
            device: Torch device of its model, or several, as :func:`~featcache.extractors.usable_devices` returns them.

        Raises:
            ModelError: see :func:`~featcache.extractors.create_extractor`.
        """
        extractor = create_extractor(self.model, device=device, **dict(self.options))
        if self.is_tuned:
            settings = {**extractor.description.settings, **json.loads(self.replaced)}
            extractor.description = replace(extractor.description, settings=settings)
        return extractor


@dataclass(frozen=True, kw_only=True)
class WorkerStore:
    """Store that the workers fill.

    Attributes:
        name: Name of the store.
        folder: Its folder.
        recipe: Recipe of its extractor.
        identity: Identity that the extractor of each worker must have.
        view: Augmentation of the speech; None for the speech as it is.
    """

    name: str
    folder: Path
    recipe: Recipe
    identity: StoreIdentity
    view: AugmentedView | None = None


@dataclass(frozen=True, kw_only=True)
class WorkerJob:
    """Data that all tasks of one extraction share.

    Attributes:
        root: Folder of the corpus.
        marker: Path of the marker file.
        stores: The stores that are filled.
        batch_length: Length of a batch, in seconds or tokens; None for the default of the worker's device.
        strict: Whether the first utterance that fails ends the extraction.
        version: Version of featcache that started the extraction.
    """

    root: Path
    marker: Path
    stores: tuple[WorkerStore, ...]
    batch_length: float | None
    strict: bool
    version: str = __version__


@dataclass(frozen=True, kw_only=True)
class WorkerGroup:
    """Utterances of one task.

    Attributes:
        items: The utterances.
        todo: Name of a store → ids of the utterances that are missing in it.
        numbers: Name of a store → number of the shard to write.
    """

    items: list[PlannedUtterance]
    todo: dict[str, set[str]]
    numbers: dict[str, int]


@dataclass(frozen=True, kw_only=True)
class Done:
    """Result of a task.

    Attributes:
        extracted: Ids of the utterances that were written.
        failures: Utterances that failed.
    """

    extracted: set[str]
    failures: list[Failure]


def recipe_of(model: str, options: Mapping[str, Any], device: str) -> Recipe:
    """Return the recipe with which workers create the same extractor; files and folders get absolute paths."""
    return Recipe(
        model=from_everywhere(model),
        options=tuple(sorted(options.items())),
        device=device,
        plugins=named_plugins(),
    )


def do_group(job: WorkerJob, group: WorkerGroup) -> Done | None:
    """Extract a group on a worker and write its shards; return None if the extraction is stopping.

    Raises:
        FeatcacheError: this worker has other folders, another version of featcache or other weights than the machine
            that started the extraction; or any error of a local extraction.
    """
    if _state(job) == STOPPING:
        return None
    if job.version != __version__:
        raise ClusterError(
            f"{_here()} has featcache {__version__}, the machine that started the extraction has {job.version}; "
            "install the same version on all machines"
        )
    targets = []
    for store in job.stores:
        if group.todo[store.name]:
            extractor, writer = _tools(job, store)
            target = StoreJob(store.name, extractor, writer, todo=group.todo[store.name], view=store.view)
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
        f"{_here()} does not see {missing} like the machine that started the extraction; the corpus and the cache "
        "must be in folders that all machines share under the same paths"
    )


def _tools(job: WorkerJob, store: WorkerStore) -> tuple[Extractor, StoreWriter]:
    with _TURN:
        extractor = _extractor(store.recipe, store.identity.without_view())
        return extractor, _writer(job.marker, store, extractor)


@lru_cache(maxsize=4)
def _extractor(recipe: Recipe, expected: StoreIdentity) -> Extractor:
    name_plugins(recipe.plugins)
    extractor = recipe.create(usable_devices(recipe.device))
    made = StoreIdentity.of(extractor.description, expected.storage_dtype, pool=expected.pool)
    differing = made.differences(expected)
    if differing:
        raise ClusterError(
            f"{_here()} creates another {recipe.model} than the machine that started the extraction "
            f"({', '.join(differing)} differ); use the same weights and versions on both"
        )
    return extractor


@lru_cache(maxsize=64)
def _writer(_marker: Path, store: WorkerStore, extractor: Extractor) -> StoreWriter:
    description = extractor.description if store.view is None else store.view.described(extractor.description)
    return StoreWriter(store.folder, description, store.identity.storage_dtype, pool=store.identity.pool)


def _here() -> str:
    from distributed import get_worker

    return f"the worker {get_worker().address}"
