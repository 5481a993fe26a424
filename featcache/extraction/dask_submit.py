"""Plan → shards, on the workers of a Dask cluster that shares its folders with this machine.

A task is a group of utterances, and its worker writes one shard of each store for it. The numbers of the shards are
assigned beforehand. Thus a task that is repeated, because its worker was lost, writes the same files.
"""

import logging
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from featcache.errors import ClusterError, listed
from featcache.extraction.dask_worker import (
    RUNNING,
    STOPPING,
    Done,
    Recipe,
    WorkerGroup,
    WorkerJob,
    WorkerStore,
    do_group,
)
from featcache.extraction.inputs import Input
from featcache.extraction.plan import ExtractionPlan, StoreJob, groups, title_of
from featcache.files.regular import remove_unfinished, replace_file
from featcache.terminal.progress import progress

if TYPE_CHECKING:
    from distributed import Client, Future

log = logging.getLogger(__name__)


class ClusterRun:
    """Execution of a plan on a cluster.

    Args:
        client: Client of the Dask cluster.
        targets: The stores that are filled.
        recipes: Name of a store → recipe of its extractor.
        source: Input of the extractors.
        plan: Missing utterances.
        batch_length: Length of a batch, in seconds or tokens; None for the default of each worker's device.
        strict: Whether the first utterance that fails ends the extraction.

    Attributes:
        extracted: Ids of the utterances that were written.
    """

    def __init__(
        self,
        client: "Client",
        targets: Sequence[StoreJob],
        recipes: Mapping[str, Recipe],
        source: Input,
        plan: ExtractionPlan,
        *,
        batch_length: float | None,
        strict: bool,
    ) -> None:
        self._client = client
        self._targets = targets
        self._plan = plan
        self._source = source
        self._id = uuid.uuid4().hex
        self._job = WorkerJob(
            root=source.root.absolute(),
            marker=targets[0].writer.folder.absolute() / f".job-{self._id}.tmp",
            stores=tuple(
                WorkerStore(
                    name=target.name,
                    folder=target.writer.folder.absolute(),
                    recipe=recipes[target.name],
                    identity=target.writer.identity,
                    view=target.view,
                )
                for target in targets
            ),
            batch_length=batch_length,
            strict=strict,
        )
        self.extracted: set[str] = set()

    def to_the_end(self) -> bool:
        """Compute and write all groups; return True if Ctrl-C stopped the extraction.

        Raises:
            ClusterError: the scheduler or a worker differs from this machine, several workers of the same group are
                lost, or the scheduler is lost. Written features are kept.
        """
        if not self._plan.items:
            return False
        title = title_of(self._targets)
        replace_file(self._job.marker, RUNNING)
        pending: dict[Future[Done | None], WorkerGroup] = {}
        try:
            try:
                with progress(title, self._plan.length, rate=self._source.unit.describe_speed) as advance:
                    for number, group in enumerate(self._groups()):
                        key = f"extract-{self._id}-{number}"
                        pending[self._client.submit(do_group, self._job, group, key=key, pure=False)] = group
                    for group in self._collect(pending):
                        advance(sum(item.length for item in group.items))
                return False
            except KeyboardInterrupt:
                log.warning("stopping after the running utterances; press Ctrl-C again to stop at once")
                replace_file(self._job.marker, STOPPING)
                with suppress(KeyboardInterrupt):
                    for _ in self._collect(pending):
                        pass
                return True
        except BaseException:
            self._stop(pending)
            raise
        finally:
            for target in self._targets:
                remove_unfinished(target.writer.folder)  # The marker, and unfinished files of lost workers.

    def _groups(self) -> Iterator[WorkerGroup]:
        numbers = {target.name: target.writer.next_number() for target in self._targets}
        for items in groups(self._plan.items, self._source):
            ids = {item.utterance.utterance_id for item in items}
            todo = {target.name: target.todo & ids for target in self._targets}
            yield WorkerGroup(items=items, todo=todo, numbers=dict(numbers))
            for name in numbers:
                numbers[name] += bool(todo[name])

    def _collect(self, pending: "dict[Future[Done | None], WorkerGroup]") -> Iterator[WorkerGroup]:
        """Yield each group as soon as its result arrives, and keep the result."""
        from distributed import CancelledError, KilledWorker, as_completed

        for future in as_completed(list(pending), loop=self._client.loop):
            group = pending.pop(future)
            try:
                done = future.result()
            except KilledWorker as error:
                ids = listed(item.utterance.utterance_id for item in group.items)
                raise ClusterError(
                    f"{error.allowed_failures + 1} workers were lost while they computed the utterances {ids}; see "
                    "their logs: they may have run out of memory, or featcache is not installed there. Written "
                    "features are kept; run the same command again to continue"
                ) from error
            except CancelledError as error:
                raise ClusterError(
                    "the connection to the Dask scheduler was lost; written features are kept; run the same command "
                    "again to continue"
                ) from error
            except (ImportError, RuntimeError) as error:  # Dask wraps errors from unpickling on another machine.
                missing = error if isinstance(error, ImportError) else error.__cause__
                if not isinstance(missing, ImportError):
                    raise
                raise ClusterError(
                    f"the Dask scheduler or a worker cannot run featcache ({missing}); install the same version on "
                    "all machines"
                ) from error
            if done is not None:
                self.extracted |= done.extracted
                for failure in done.failures:
                    next(t for t in self._targets if t.name == failure.store).failures[failure.utterance_id] = failure
                yield group

    def _stop(self, pending: "dict[Future[Done | None], WorkerGroup]") -> None:
        """Start no new group, and wait for the running ones."""
        from distributed import as_completed

        replace_file(self._job.marker, STOPPING)
        for _ in as_completed(list(pending), loop=self._client.loop):
            pass
