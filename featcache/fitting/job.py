"""Runs → trained heads and finished run folders, with shared features, threads and processes."""

import logging
import os
import platform
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import starmap
from pathlib import Path
from typing import Any

from featcache.dask_client import connected
from featcache.errors import ClusterError, FeatcacheError
from featcache.files.disk import disk_errors
from featcache.fitting.conditions import conditions, recorded_copy
from featcache.fitting.groups import Member, TrainingGroup, group
from featcache.fitting.memory_plan import plan_at_once, plan_copies
from featcache.fitting.normalisation import (
    Known,
    fit_normalisers,
    head_inputs,
    normalisers_of_runs,
    write_normalisation,
)
from featcache.fitting.other_corpora import open_cache
from featcache.fitting.resolve import ResolvedFit, resolve
from featcache.fitting.results import decided_target, record_of, write_results
from featcache.fitting.trainings import begun_training
from featcache.fitting.watch import FitWatch, Recorder, state_file
from featcache.machine import give_back
from featcache.registry import name_plugins, named_plugins
from featcache.runs.identity import HEAD_INPUTS, STORE_SETTINGS
from featcache.runs.writer import UnfinishedRun
from featcache.settings.fits import FitSettings
from featcache.terminal.streams import lasting_streams
from featcache.terminal.watched import watched
from featcache.threads import available_cores, usual_threads
from featcache.training.batches import FeatureWindows
from featcache.training.memory import Memory, WorkingCopy
from featcache.training.together import train_together
from featcache.training.trainable import Trainable
from featcache.units import counted

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class FitJob:
    """Runs that are trained together, in plain values that can be sent to other processes.

    Attributes:
        cache: The folder of the cache; for several corpora, see :func:`~featcache.fitting.other_corpora.find_caches`.
        requests: The settings of each run, for :func:`~featcache.fitting.resolve.resolve`.
        paths: The run folders.
        device: Device of heads and features.
        copies: Dtypes and size of the in-memory features of each run.
        at_once: Number of trainings of each process that fit in memory, for each run and those that train with it.
        threads: Number of threads of a fine-tuning.
        plugins: Code from outside of featcache that the user named, for other processes.
        parts: Origin of the code from outside of featcache that each run uses, as in ``config.yaml``.
    """

    cache: Path
    requests: list[FitSettings]
    paths: list[Path]
    device: str
    copies: tuple[WorkingCopy, ...] = ()
    at_once: tuple[int, ...] = ()
    threads: int = 1
    plugins: tuple[str, ...] = ()
    parts: tuple[Mapping[str, Any], ...] = ()

    def carry_out(
        self,
        setups: Sequence[ResolvedFit],
        memory: Memory,
        *,
        processes: int,
        scheduler: str | None,
        resume: bool,
        overwrite: bool,
        reports: bool = True,
    ) -> None:
        """Train everything that is not finished yet, then write the run folders.

        Args:
            setups: The resolved requests.
            memory: Memory of all processes, and dtype of the features.
            processes: Number of processes that share the folds.
            scheduler: Address of a Dask scheduler; its workers share the folds in place of local processes.
            resume: Whether to continue interrupted runs.
            overwrite: Whether to start interrupted runs again.
            reports: Whether to write reports and figures, which take longer than short trainings.

        Raises:
            FeatcacheError: another process trains one of the runs, a run was interrupted and neither ``resume`` nor
                ``overwrite`` is given, or the memory or the disk is full. Finished trainings are kept.
        """
        # If a store has fewer utterances than others, its runs may have fewer folds.
        folds = range(1, max(len(setup.folds) for setup in setups) + 1)
        total = sum(len(setup.folds) * len(setup.config["seeds"]) for setup in setups)
        with ExitStack() as stack:
            stack.enter_context(disk_errors(self.paths[0].parent))
            if scheduler is not None:
                processes = stack.enter_context(_on_cluster(scheduler))
            workers = 1 if scheduler is not None else max(1, available_cores() // processes)
            job = self._planned(setups, memory, processes, workers, continues=not overwrite)
            runs = job.unfinished(setups)
            for run in runs:
                stack.enter_context(run.locked())
                run.begin(resume=resume, overwrite=overwrite)
            alone = scheduler is None and processes == 1
            states = None if alone else runs[0].folder_of_states()
            watch = FitWatch(setups, [len(run.finished()) for run in runs], states)
            stack.enter_context(watched(watch.look))
            known: Known = {}
            trained: Generator[None]
            if states is None:
                trained = job.train(folds, workers, setups, known, watch.recorder)
            else:
                trained = job.share_out(folds, None if scheduler is not None else processes, workers, states)
            written = 0
            write = write_results if reports else partial(write_results, report=False)
            try:
                with closing(trained), _told_at_once(setups):
                    for _ in trained:
                        pass
                give_back()
                watch.end()
                normalisers = normalisers_of_runs(setups, job.copies, known)
                for run, setup, of_run in zip(runs, setups, normalisers, strict=True):
                    write_normalisation(run.folder, setup, of_run)
                    write(run, setup)
                    run.finish()
                    written += len(setup.folds) * len(setup.config["seeds"])
            except BaseException as error:
                told = _told_kept(runs, written, total, resume=resume)
                for run in runs:
                    run.leave()
                if told and isinstance(error, KeyboardInterrupt):  # The command line prints it in its last line.
                    raise KeyboardInterrupt(told) from error
                if told:
                    log.warning("%s", told)
                raise

    def _planned(
        self, setups: Sequence[ResolvedFit], memory: Memory, processes: int, workers: int, *, continues: bool
    ) -> "FitJob":
        """Return the job with everything that other processes need, and log how features are kept in memory."""
        recorded = [_begun_copy(path) if continues else None for path in self.paths]
        copies = plan_copies(setups, memory, processes, workers, self.device, recorded)
        _tell_copies(setups, copies)
        return replace(
            self,
            copies=tuple(copies),
            at_once=tuple(plan_at_once(setups, copies, memory, processes, workers, self.device)),
            threads=min(workers, usual_threads()),
            plugins=named_plugins(),
            parts=tuple(setup.config.get("parts", {}) for setup in setups),
        )

    def unfinished(self, setups: Sequence[ResolvedFit]) -> list[UnfinishedRun]:
        """Return the unfinished runs, with the content of ``config.yaml``."""
        return [
            UnfinishedRun(
                path,
                {
                    **setup.config,
                    **conditions(
                        self.device, copy, setup.config["head"], threads=self.threads if setup.tuned else None
                    ),
                    HEAD_INPUTS: head_inputs(setup.features),
                    STORE_SETTINGS: {store.name: dict(store.identity.settings) for store in setup.stores},
                },
            )
            for path, setup, copy in zip(self.paths, setups, self.copies, strict=True)
        ]

    def resolved_elsewhere(self) -> list[ResolvedFit]:
        """Resolve the requests in another process.

        Returns:
            The resolved requests.

        Raises:
            ClusterError: code from outside of featcache is missing in this process, or has another version.
        """
        name_plugins(self.plugins)
        setups = []
        for request, parts in zip(self.requests, self.parts, strict=True):
            here = f"process {os.getpid()} of {platform.node()}"
            try:
                setups.append(resolve(open_cache(self.cache, request), request))
            except FeatcacheError as error:
                if not parts:
                    raise
                raise ClusterError(f"{here} differs from the process that started the fit: {error}") from error
            found = setups[-1].config.get("parts", {})
            if differing := [kind for kind in {**parts, **found} if parts.get(kind) != found.get(kind)]:
                named = ", ".join(str(parts.get(kind, found.get(kind))["reference"]) for kind in differing)
                raise ClusterError(
                    f"{here} has another version of {named} than the process that started the fit; install the same "
                    "version everywhere"
                )
            setups[-1].share_blocks(setups[:-1])
        return setups

    def share_out(self, folds: Sequence[int], processes: int | None, workers: int, states: Path) -> Generator[None]:
        """Train folds in other processes, by default all of joblib's backend; yield None after each fold.

        Args:
            folds: Numbers of the folds, from 1 on.
            processes: Number of processes; None for all of joblib's backend.
            workers: Number of threads of each process.
            states: Folder where each process writes its state for the progress bar.
        """
        import joblib

        job = replace(self, cache=self.cache.absolute(), paths=[path.absolute() for path in self.paths])
        parallel = joblib.Parallel(n_jobs=processes, return_as="generator_unordered")
        yield from parallel(joblib.delayed(_train_fold)(job, fold, workers, states.absolute()) for fold in folds)

    def train(
        self,
        folds: Sequence[int],
        workers: int,
        setups: Sequence[ResolvedFit],
        known: Known,
        recorder: Recorder,
    ) -> Generator[None]:
        """Train everything in some folds that is not finished yet, and write each training when it is finished.

        Args:
            folds: Numbers of the folds, from 1 on.
            workers: Number of threads.
            setups: The resolved requests.
            known: Dictionary to which the normalisers of the trainings are added.
            recorder: Receiver of the state of all trainings.

        Yields:
            None, after each training that is finished and written.
        """
        runs = self.unfinished(setups)
        finished = [run.finished() for run in runs]
        for item in group(setups, folds, self.copies):
            waiting = [
                (member, seed)
                for member in item.members
                for seed in setups[member.run].config["seeds"]
                if (seed, member.fold) not in finished[member.run]
            ]
            if waiting:
                yield from self._train_group(item, waiting, workers, setups, runs, known, recorder)

    def _train_group(
        self,
        item: TrainingGroup,
        waiting: Sequence[tuple[Member, int]],
        workers: int,
        setups: Sequence[ResolvedFit],
        runs: Sequence[UnfinishedRun],
        known: Known,
        recorder: Recorder,
    ) -> Generator[None]:
        """Train members of a group, each with a seed; further arguments and result as in :meth:`train`."""
        lead, copy = setups[item.lead], self.copies[item.lead]
        recorder.step = "computing the statistics of the normalisation"
        normalisers = known[item.lead, item.fold] = fit_normalisers(lead, item.features, item.fold)
        source = FeatureWindows(item.features, normalisers, copy, workers=workers, device=self.device)
        recorder.reads(source)
        source.load(lead.loaded_ids)
        recorder.reads(None)
        recorder.step = ""
        members: dict[Trainable, Member] = {}

        def begin(member: Member, seed: int) -> Trainable:
            checkpoint = runs[member.run].checkpoint(seed, member.fold)
            one = begun_training(setups[member.run], member, seed, copy, self.device, checkpoint)
            members[one] = member
            recorder.begins((member.run, seed, member.fold), one)
            return one

        at_once = min(self.at_once[member.run] for member in item.members)
        threads = 1
        if lead.tuned:  # a model needs all cores and much memory: one is trained after another
            workers, threads, at_once = 1, self.threads, 1
        elif self.device != "cpu":  # one training keeps a GPU busy; several would only alternate
            workers = 1
        trainings = train_together(starmap(begin, waiting), source, workers=workers, threads=threads, at_once=at_once)
        with closing(trainings):
            for training in trainings:
                member = members.pop(training)
                record = record_of(training, setups[member.run])
                chosen = decided_target(setups[member.run], member.fold, training.predictions).saved()
                runs[member.run].keep(
                    training.seed, member.fold, record, {**training.state(), **chosen}, training.models()
                )
                recorder.ends((member.run, training.seed, member.fold))
                del training  # a finished one takes no memory while others begin
                yield


def _told_kept(runs: Sequence[UnfinishedRun], written: int, total: int, *, resume: bool) -> str:
    """Return what is kept of runs that end early, and how to continue; an empty text if nothing is kept."""
    kept = written + sum(len(run.finished()) for run in runs)
    begun = ", and the last evaluation of others" if any(run.has_checkpoints() for run in runs) else ""
    if not (kept or begun):
        return ""
    again = "the same command" if resume else "the same command with --resume"
    return f"{kept} of {total} trainings are finished and kept{begun}; continue with {again}"


@contextmanager
def _told_at_once(setups: Sequence[ResolvedFit]) -> Iterator[None]:
    """Confirm Ctrl-C immediately, because other processes and threads may take a while to end."""
    others = "kept up to their last evaluation" if any(setup.tuned for setup in setups) else "discarded"
    try:
        yield
    except KeyboardInterrupt:
        log.warning("stopping: unfinished trainings are %s, finished ones are kept", others)
        raise


@contextmanager
def _on_cluster(address: str) -> Iterator[int]:
    """Use the workers of a Dask cluster for joblib; yield the largest number of threads of one worker."""
    import joblib

    with connected(address) as client, joblib.parallel_config(backend="dask", scheduler_host=address, n_jobs=-1):
        yield max(client.nthreads().values(), default=1)


def _train_fold(job: FitJob, fold: int, workers: int, states: Path) -> None:
    recorder = Recorder()
    with lasting_streams(), recorder.shared(state_file(states, fold)):  # each process has its own stream of warnings
        for _ in job.train([fold], workers, job.resolved_elsewhere(), {}, recorder):
            pass


def _begun_copy(path: Path) -> WorkingCopy | None:
    """Return the plan of the in-memory features of an interrupted run; None if there is no such run."""
    return recorded_copy(UnfinishedRun(path, {}).begun())


def _tell_copies(setups: Sequence[ResolvedFit], copies: Sequence[WorkingCopy]) -> None:
    runs: dict[tuple[str, str, str], set[int]] = {}
    for item in group(setups, [1], copies):
        names = " and ".join(features.store.name for features in item.features)
        alike = (names, setups[item.lead].config["norm"], str(copies[item.lead]))
        runs.setdefault(alike, set()).update(member.run for member in item.members)
    for (names, norm, copy), found in runs.items():
        log.info("%s, %s normalisation, %s: %s", names, norm, counted(len(found), "run"), copy)
