"""Plan → shards, on the workers of a Dask cluster that shares its folders with this machine.

A task is a group of utterances, and its worker writes the group's shard of each store. The shards' numbers are given
out before, so that a task that is done again, because its worker was lost, writes the same files. While the
extraction goes on a marker lies beside the shards: a worker that does not see it sees other folders, and one that
reads there that the extraction is stopping begins nothing more.
"""

import json
import logging
import threading
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featcache._version import __version__
from featcache.cache import layout
from featcache.cache.writer import StoreWriter
from featcache.errors import ClusterError, listed
from featcache.extraction.plan import Item, Plan, Target, default_batch_seconds, groups
from featcache.extraction.report import Failure
from featcache.extraction.run import Run
from featcache.extractors import DESCRIPTORS, create_extractor, usable_devices
from featcache.extractors.base import Extractor
from featcache.files import remove_unfinished, replace_file
from featcache.progress import progress, real_time
from featcache.threads import keep_to_one_thread

if TYPE_CHECKING:
    from distributed import Client, Future

log = logging.getLogger(__name__)

CONNECT_SECONDS = 10
RUNNING, STOPPING = b"running", b"stopping"

# The threads of a worker make an extractor one after the other, so that only the first one makes it.
_TURN = threading.Lock()


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a worker makes an extractor.

    Attributes:
        model: As :func:`~featcache.extractors.create_extractor` takes it; likewise ``options``, name by name.
        device: As the user named it, of the worker's machine.
    """

    model: str
    options: tuple[tuple[str, Any], ...]
    device: str


@dataclass(frozen=True, kw_only=True)
class Store:
    """A store that the workers fill; ``settings`` are its identity as JSON, which every worker's must equal."""

    name: str
    folder: Path
    recipe: Recipe
    storage_dtype: str
    settings: str


@dataclass(frozen=True, kw_only=True)
class Job:
    """What all tasks of one extraction have in common."""

    root: Path
    marker: Path
    stores: tuple[Store, ...]
    batch_seconds: float | None
    strict: bool
    version: str = __version__


@dataclass(frozen=True, kw_only=True)
class Group:
    """What one task does.

    Attributes:
        items: Its utterances.
        todo: Store → the ids of those that it lacks.
        numbers: Store → the number of the shard to be written.
    """

    items: list[Item]
    todo: dict[str, set[str]]
    numbers: dict[str, int]


@dataclass(frozen=True, kw_only=True)
class Done:
    """What a task did."""

    extracted: set[str]
    failures: list[Failure]


def recipe_of(model: str, options: Mapping[str, Any], device: str) -> Recipe:
    """How workers make the extractor that is made here with these options; a folder is named from the root on."""
    if model not in DESCRIPTORS and Path(model).is_dir():
        model = str(Path(model).absolute())
    return Recipe(model=model, options=tuple(sorted(options.items())), device=device)


@contextmanager
def connected(address: str) -> Iterator["Client"]:
    """A client of the Dask scheduler at this address.

    Raises:
        ClusterError: Dask is not installed, or no scheduler answers.
    """
    try:
        from distributed import Client
    except ImportError:
        raise ClusterError("--scheduler needs Dask, which is not installed: pip install 'featcache[dask]'") from None
    try:
        client = Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
    except (OSError, ValueError) as error:
        raise ClusterError(
            f"--scheduler {address}: no Dask scheduler answers ({error}); expected an address such as tcp://host:8786"
        ) from error
    with client:
        threads = client.nthreads()
        log.info("%s: %d workers, %d threads", address, len(threads), sum(threads.values()))
        if not threads:
            log.warning("%s has no workers yet; the extraction begins when one joins", address)
        yield client


class ClusterRun:
    """Carries out a plan on a cluster; ``extracted`` grows by the ids of what is written."""

    def __init__(
        self,
        client: "Client",
        targets: Sequence[Target],
        recipes: Mapping[str, Recipe],
        root: Path,
        plan: Plan,
        *,
        batch_seconds: float | None,
        strict: bool,
    ) -> None:
        self._client = client
        self._targets = targets
        self._plan = plan
        self._id = uuid.uuid4().hex
        self._job = Job(
            root=root.absolute(),
            marker=targets[0].writer.folder.absolute() / f".job-{self._id}.tmp",
            stores=tuple(
                Store(
                    name=target.name,
                    folder=target.writer.folder.absolute(),
                    recipe=recipes[target.name],
                    storage_dtype=target.writer.storage_dtype,
                    settings=_settings(target.extractor, target.writer.storage_dtype),
                )
                for target in targets
            ),
            batch_seconds=batch_seconds,
            strict=strict,
        )
        self.extracted: set[str] = set()

    def to_the_end(self) -> bool:
        """Have every group done; true when Ctrl-C ended it early.

        Raises:
            ClusterError: the scheduler or a worker is not set up as this machine is; a group's workers are lost again
                and again; the scheduler is lost. What was written is kept.
        """
        if not self._plan.items:
            return False
        title = " + ".join(target.name for target in self._targets)
        replace_file(self._job.marker, RUNNING)
        pending: dict[Future[Done | None], Group] = {}
        try:
            try:
                with progress(title, self._plan.seconds, rate=real_time) as advance:
                    for number, group in enumerate(self._groups()):
                        key = f"extract-{self._id}-{number}"
                        pending[self._client.submit(do_group, self._job, group, key=key, pure=False)] = group
                    for group in self._collect(pending):
                        advance(sum(item.seconds for item in group.items))
                return False
            except KeyboardInterrupt:
                log.warning("stopping: what is under way is finished and written first")
                replace_file(self._job.marker, STOPPING)
                for _ in self._collect(pending):
                    pass
                return True
        except BaseException:
            self._stop(pending)
            raise
        finally:
            for target in self._targets:
                remove_unfinished(target.writer.folder)  # the marker, and what lost workers left

    def _groups(self) -> Iterator[Group]:
        numbers = {target.name: target.writer.next_number() for target in self._targets}
        for items in groups(self._plan.items):
            ids = {item.utterance.utterance_id for item in items}
            todo = {target.name: target.todo & ids for target in self._targets}
            yield Group(items=items, todo=todo, numbers=dict(numbers))
            for name in numbers:
                numbers[name] += bool(todo[name])

    def _collect(self, pending: "dict[Future[Done | None], Group]") -> Iterator[Group]:
        """Take in results as they come, and give the groups that were done."""
        from distributed import CancelledError, KilledWorker, as_completed

        for future in as_completed(list(pending), loop=self._client.loop):
            group = pending.pop(future)
            try:
                done = future.result()
            except KilledWorker as error:
                ids = listed(item.utterance.utterance_id for item in group.items)
                raise ClusterError(
                    f"{error.allowed_failures + 1} workers were lost over the utterances {ids}; their logs may say "
                    "whether they ran out of memory or lack featcache. What was written is kept, and the same command "
                    "does the rest"
                ) from error
            except CancelledError as error:
                raise ClusterError(
                    "the connection to the Dask scheduler was lost; what was written is kept, and the same command "
                    "does the rest"
                ) from error
            except (ImportError, RuntimeError) as error:  # Dask wraps what a machine could not unpack
                missing = error if isinstance(error, ImportError) else error.__cause__
                if not isinstance(missing, ImportError):
                    raise
                raise ClusterError(
                    f"the Dask scheduler or a worker cannot run featcache ({missing}); install the same version of it "
                    "on all machines"
                ) from error
            if done is not None:
                self.extracted |= done.extracted
                for failure in done.failures:
                    next(t for t in self._targets if t.name == failure.store).failures[failure.utterance_id] = failure
                yield group

    def _stop(self, pending: "dict[Future[Done | None], Group]") -> None:
        """Let nothing new begin, and wait for what is under way."""
        from distributed import as_completed

        replace_file(self._job.marker, STOPPING)
        for _ in as_completed(list(pending), loop=self._client.loop):
            pass


def do_group(job: Job, group: Group) -> Done | None:
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
            target = Target(store.name, extractor, writer, todo=group.todo[store.name])
            target.number = group.numbers[store.name]
            targets.append(target)
    keep_to_one_thread()
    batch_seconds = job.batch_seconds
    if batch_seconds is None:
        batch_seconds = default_batch_seconds(usable_devices(job.stores[0].recipe.device))
    plan = Plan(items=group.items, bytes=0, seconds=0.0)
    run = Run(targets, job.root, plan, workers=1, batch_seconds=batch_seconds, strict=job.strict)
    run.as_one_group()
    return Done(
        extracted=run.extracted, failures=[failure for target in targets for failure in target.failures.values()]
    )


def _state(job: Job) -> bytes:
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


def _tools(job: Job, store: Store) -> tuple[Extractor, StoreWriter]:
    with _TURN:
        extractor = _extractor(store.recipe, store.settings, store.storage_dtype)
        return extractor, _writer(job.marker, store, extractor)


@lru_cache(maxsize=4)
def _extractor(recipe: Recipe, settings: str, storage_dtype: str) -> Extractor:
    extractor = create_extractor(recipe.model, device=usable_devices(recipe.device), **dict(recipe.options))
    mine, expected = json.loads(_settings(extractor, storage_dtype)), json.loads(settings)
    differing = sorted(name for name in mine | expected if mine.get(name) != expected.get(name))
    if differing:
        raise ClusterError(
            f"{_here()} makes another {recipe.model} than the machine that started the extraction "
            f"({', '.join(differing)} differ); give both the same weights and the same versions"
        )
    return extractor


@lru_cache(maxsize=4)
def _writer(_marker: Path, store: Store, extractor: Extractor) -> StoreWriter:
    return StoreWriter(store.folder, extractor.description, store.storage_dtype)


def _settings(extractor: Extractor, storage_dtype: str) -> str:
    return json.dumps(layout.identity(extractor.description, storage_dtype), sort_keys=True)


def _here() -> str:
    from distributed import get_worker

    return f"the worker {get_worker().address}"
