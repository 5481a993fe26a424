"""Pipeline, corpus → missing features are extracted, missing runs are trained, and the table is written."""

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from featcache.extraction import ExtractionReport, summarise_report
from featcache.extractors import store_name, usable_device
from featcache.files.regular import replace_file
from featcache.fitting.convergence import tell_convergence
from featcache.fitting.ensemble import asked_of, ensemble, notes
from featcache.fitting.fit_planned import fit_all
from featcache.fitting.plan import PlannedRun, plan_runs, tell_conditions
from featcache.fitting.resolve import ResolvedFit
from featcache.fitting.search.carry_out import carry_out
from featcache.fitting.search.plan import plan_searches
from featcache.fitting.search.space import SearchSpace
from featcache.fitting.task import selected
from featcache.fitting.voters import Voter
from featcache.pipeline.locate import PipelineCorpus, find_places
from featcache.pipeline.other_model import with_model
from featcache.pipeline.outputs import cited_rows, comparisons_of, contrasts_of, draw_figures, notes_of, score_of
from featcache.pipeline.read import find_pipeline, published_of, published_parameters, read_pipeline
from featcache.pipeline.rows import Row, ensembles_of, notes_on, notes_on_corpus, rows_of, stores_of
from featcache.pipeline.schema import EACH, EnsembleSpec, Pipeline
from featcache.pipeline.stores import PipelineStore
from featcache.pipeline.transcripts import transcripts_of
from featcache.pipeline.tuned_stores import finished_sources, with_sources
from featcache.protocols import mixes_speakers
from featcache.published import PublishedResult
from featcache.registry import naming
from featcache.report.contrast import Contrast
from featcache.report.experiment import ComparedRow, write_compared
from featcache.runs.costs import Costs
from featcache.runs.identity import hash_of
from featcache.runs.reader import RunFolder
from featcache.settings.checked import configured
from featcache.settings.extractions import Weights
from featcache.settings.finetunings import FinetuneSettings
from featcache.settings.public import documented, without
from featcache.settings.trials import PipelineSettings, TrialSettings
from featcache.transcription import TranscriptionReport, summarise
from featcache.workspace import Workspace, check_name

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class PipelineOutcome:
    """The result of running a pipeline.

    Attributes:
        folders: Folders of the tables, one per corpus.
        transcriptions: Reports of the transcriptions of this call.
        extractions: Reports of the extractions of this call.
        interrupted: Whether Ctrl-C ended the call during transcription or extraction.
    """

    folders: tuple[Path, ...]
    transcriptions: tuple[TranscriptionReport, ...]
    extractions: tuple[ExtractionReport, ...]
    interrupted: bool = False

    @property
    def num_failures(self) -> int:
        """Number of utterances that could not be transcribed or extracted in this call."""
        of_words = sum(len(report.failures) for report in self.transcriptions)
        return of_words + sum(len(report.failures) for report in self.extractions)


class Listener:
    """Receiver of the progress of a pipeline. This one ignores it; the command line has one that prints."""

    def planned(self, title: str, work: "PipelineWork") -> None:
        """Receive the plan for a corpus (title of the pipeline, and its work) before the work starts."""

    def filled(self, summary: str) -> None:
        """Receive a summary when transcripts or a store are finished or interrupted."""

    def finished(
        self,
        rows: Sequence[ComparedRow],
        notes: Sequence[str],
        comparisons: Sequence[tuple[str, Sequence[str]]],
        contrasts: Sequence[Contrast],
        folder: Path,
    ) -> None:
        """Receive the results of a corpus before the files are written; see :func:`write_compared`."""


@documented("featcache.run_pipeline", PipelineSettings, expand=naming("model", "protocol", "layout", "plugin"))
def run_pipeline(
    *,
    pipeline: str | os.PathLike[str],
    only: str | Sequence[str] | None = None,
    limit: int | None = None,
    weights: Weights | None = None,
    model: str | None = None,
    protocol: str | None = None,
    seeds: int | Sequence[int] | None = None,
    max_epochs: int | None = None,
    corpus: str | None = None,
    plugin: str | Sequence[str] = (),
    data: str | os.PathLike[str] | None = None,
    layout: str | None = None,
    speaker_from: str | None = None,
    device: str = "auto",
    dry_run: bool = False,
    home: str | os.PathLike[str] | None = None,
    listener: Listener | None = None,
) -> PipelineOutcome:
    """Run a published experiment: extract and train what is missing, and write a table with the published scores.

    Existing features and runs are not recomputed. After an error or Ctrl-C, the same call continues with the rest.

    Args:
        pipeline: Path of a YAML file, or name of a pipeline that comes with featcache.
        home: Folder of corpora, caches and runs; by default ``$FEATCACHE_HOME``, or ``data``.
        listener: Receiver of the progress; by default nothing is reported.

    Returns:
        The folders with the tables (``results.csv``, ``results.md``, ``results.tex``, ``report.html``), one per corpus,
        and reports of the extractions and transcriptions. With ``dry_run`` nothing is written and there are no folders.

    Raises:
        FeatcacheError: The pipeline is unknown or faulty, its corpus was not found, or extraction or training failed.
        TypeError: An option is unknown.

    Example:
        >>> outcome = featcache.run_pipeline(pipeline="egemaps-baselines", data="path/to/audio", dry_run=True)
        >>> outcome.folders
        ()
        >>> outcome.num_failures
        0
    """
    asked = configured(PipelineSettings, without(locals(), "pipeline", "home", "listener"))
    path = find_pipeline(pipeline)
    check_name("pipeline", path.stem, advice="rename the file")
    read, name = read_pipeline(path), path.stem
    if asked.model is not None:
        read, name = with_model(read, asked.model), f"{path.stem}_{store_name(asked.model)}"
    listener = listener or Listener()
    device = usable_device(asked.device)
    places = find_places(
        read,
        Workspace.at(home),
        corpus=asked.corpus,
        data=asked.data,
        layout=asked.layout,
        speaker_from=asked.speaker_from,
    )
    folders: list[Path] = []
    transcriptions: list[TranscriptionReport] = []
    extractions: list[ExtractionReport] = []

    def outcome(*, interrupted: bool = False) -> PipelineOutcome:
        return PipelineOutcome(
            folders=tuple(folders),
            transcriptions=tuple(transcriptions),
            extractions=tuple(extractions),
            interrupted=interrupted,
        )

    for place in places:
        work = PipelineWork(name, read, place, asked, device, listener)
        listener.planned(read.title, work)
        if asked.dry_run:
            continue
        transcriptions += work.transcribe()
        if transcriptions and transcriptions[-1].interrupted:
            return outcome(interrupted=True)
        runs: dict[str, RunFolder] = {}
        while len(runs) < len(work.rows):  # twice, if stores are made from fine-tuned runs
            extractions += work.extract()
            if extractions and extractions[-1].interrupted:
                return outcome(interrupted=True)
            runs = work.train()
        folders.append(work.report(runs))
    return outcome()


class PipelineWork:
    """The work of a pipeline on one corpus.

    Attributes:
        place: The corpus.
        limit: Number of utterances; None for all.
        rows: Runs of the table.
        stores: Feature stores that the runs read.
        transcripts: ASR transcripts that the text stores read.
    """

    def __init__(
        self,
        name: str,
        pipeline: Pipeline,
        place: PipelineCorpus,
        trial: TrialSettings,
        device: str,
        listener: Listener,
    ) -> None:
        self.rows = rows_of(pipeline, place, trial)
        wanted = list(place.manifest.limited(trial.limit))
        specs = stores_of(pipeline, self.rows, trial)
        self.transcripts = transcripts_of(pipeline, list(specs.values()), place, wanted)
        self.stores = [PipelineStore(store, spec, place, wanted) for store, spec in specs.items()]
        self._name = name
        self._pipeline = pipeline
        self.place = place
        self.limit = trial.limit
        self._trial = trial
        self._device = device
        self._listener = listener
        self._cited = cited_rows(pipeline, place) if trial.only is None else []
        self._setups: dict[str, ResolvedFit] = {}
        self._runs: dict[str, RunFolder] = {}
        self._planned = self.stores, self.rows
        self._sources: dict[str, RunFolder] = {}
        self._extracted: set[str] = set()
        # Raises an error for an empty selection or a faulty search now, and not after hours of extraction.
        for row in self.rows:
            selected(place.manifest, row.request.select, trial.limit)
            if row.request.is_search:
                SearchSpace(row.request)
        if any(store.waits for store in self.stores):
            self._name_tuned_stores(finished_sources(self.stores, self.rows, place))

    def _name_tuned_stores(self, runs: Mapping[str, RunFolder]) -> None:
        self._sources |= runs
        self.stores, self.rows = with_sources(*self._planned, self._sources)

    @property
    def cited(self) -> list[str]:
        """Titles of the rows with a published result only."""
        return list(dict.fromkeys(row.title for row in self._cited))

    def transcribe(self) -> list[TranscriptionReport]:
        """Transcribe the corpus with each ASR model whose transcripts are missing."""
        reports = []
        for transcripts in self.transcripts:
            if transcripts.missing:
                reports.append(transcripts.fill(device=self._device, limit=self.limit))
                self._listener.filled(summarise(reports[-1]))
                if reports[-1].interrupted:
                    break
        return reports

    def extract(self) -> list[ExtractionReport]:
        """Extract the missing utterances of each store, except stores of fine-tuned runs that are not finished."""
        reports = []
        for store in self.stores:
            if not store.waits and store.name not in self._extracted and store.missing:
                self._extracted.add(store.name)
                reports.append(store.fill(device=self._device, limit=self.limit))
                self._listener.filled(summarise_report(reports[-1]))
                if reports[-1].interrupted:
                    break
        return reports

    def train(self) -> dict[str, RunFolder]:
        """Train the missing runs whose stores are extracted, together if they read the same features.

        Returns:
            Name → run for all rows that are finished, in the order of the table.
        """
        home = self.place.workspace.home
        if not self._runs and any(run.layers == EACH for run in self._pipeline.runs.values()):
            self._planned = self._planned[0], rows_of(self._pipeline, self.place, self._trial)
            self._name_tuned_stores({})  # the stores tell their layers now
        waiting = {store.name for store in self.stores if store.waits}
        ready = [row for row in self.rows if row.name not in self._runs and waiting.isdisjoint(row.request.features)]
        searched = self._search([row for row in ready if row.request.is_search])
        rows = [row for row in ready if row.name not in searched]
        planned = plan_runs([row.request for row in rows], cache=self.place.cache, home=home)
        tell_conditions(planned, device=self._device, remedy="remove the folder of a run to train it again")
        together: dict[tuple[Any, ...], list[PlannedRun]] = {}
        for one in planned:  # fine-tuned runs one after another, because their models need much memory
            alone = (one.path,) if isinstance(one.request, FinetuneSettings) else ()
            together.setdefault((one.request.features, *alone), []).append(one)
        finished: dict[Path, RunFolder] = {}
        for those in together.values():
            runs = fit_all(those, cache=self.place.cache, device=self._device, resume=True)
            tell_convergence([run for one, run in zip(those, runs, strict=True) if one.finished is None])
            finished |= {one.path: run for one, run in zip(those, runs, strict=True)}
        self._setups |= {row.name: one.setup for row, one in zip(rows, planned, strict=True)}
        self._runs |= searched | {row.name: finished[one.path] for row, one in zip(rows, planned, strict=True)}
        self._name_tuned_stores(self._runs)
        return {row.name: self._runs[row.name] for row in self.rows if row.name in self._runs}

    def _search(self, rows: Sequence[Row]) -> dict[str, RunFolder]:
        """Carry out the searches of rows with ``sweep``, and return name → result."""
        cache, home = self.place.cache, self.place.workspace.home
        searches = plan_searches([row.request for row in rows], cache=cache, home=home)
        train = partial(fit_all, cache=cache, device=self._device, resume=True, reports=False)
        tell = partial(tell_conditions, device=self._device, remedy="remove the folder of a run to train it again")
        runs = carry_out(searches, train, tell)
        tell_convergence([run for one, run in zip(searches, runs, strict=True) if one.finished is None])
        self._setups |= {row.name: one.known[0].setup for row, one in zip(rows, searches, strict=True)}
        return {row.name: run for row, run in zip(rows, runs, strict=True)}

    def report(self, runs: Mapping[str, RunFolder]) -> Path:
        """Compute ensembles and comparisons, draw the figures, and write the table.

        Args:
            runs: Name → run.

        Returns: the output folder.
        """
        folder = self.place.workspace.runs(self.place.name) / self._name
        titles = {row.name: row.spec.title for row in self.rows}
        rows = [one for row in self.rows for one in self._row(row, runs[row.name])]
        votes = ensembles_of(self._pipeline, self.rows)
        rows += [one for name, spec in votes.items() for one in self._vote(name, spec, runs)]
        rows += self._cited
        compared = comparisons_of(self._pipeline, runs, titles)
        comparisons = [(name, told) for name, _, told in compared]
        contrasts = contrasts_of(self._pipeline, self.rows, runs)
        # before writing, which may fail (full disk)
        self._listener.finished(rows, notes_of(runs), comparisons, contrasts, folder)
        for name, table, _ in compared:
            if table is not None:
                replace_file(folder / f"{name}.csv", table.encode())
        write_compared(
            folder,
            rows,
            title=f"{self._pipeline.title} ({self.place.name})",
            paper=self._pipeline.paper,
            notes=notes_of(runs),
            figures=draw_figures(
                self._pipeline, self.rows, folder, runs=runs, setups=self._setups, contrasts=contrasts
            ),
            comparisons=comparisons,
            contrasts=contrasts,
        )
        return folder

    def _row(self, row: Row, run: RunFolder) -> list[ComparedRow]:
        notes_of_row = notes_on(self.place, row, run, self.limit)
        number = published_parameters(self._pipeline, row.spec.published)
        return self._compared(row.name, row.spec.title, row.published, run, notes_of_row, number)

    def _vote(self, name: str, spec: EnsembleSpec, runs: Mapping[str, RunFolder]) -> list[ComparedRow]:
        members = [runs[member] for member in spec.runs]
        # The name changes if members are retrained, so that the vote is recomputed.
        asked = hash_of(asked_of([Voter(run.path, run) for run in members], [spec.size], spec.votes))
        run = ensemble(
            runs=[str(run.path) for run in members],
            sizes=[spec.size],
            votes=spec.votes,
            name=f"{self._name}_{name}_{asked[:6]}",
            home=self.place.workspace.home,
        )
        told = [spec.note] if spec.note else []
        told += ["untrained weights"] if run.config["untrained"] else []
        told += notes_on_corpus(self.place, self.limit)
        told += [note for row in self.rows if row.name in spec.runs for note in row.trial]
        if mixes_speakers(run.config["protocol"]):
            told.append("test speakers are also in the training part")
        told.append(notes(run.config, run.metrics)[0])
        published = published_of(self._pipeline, spec.published)
        return self._compared(name, spec.title, published, run, list(dict.fromkeys(told)))

    def _compared(
        self,
        name: str,
        title: str,
        published: Mapping[str, PublishedResult],
        run: RunFolder,
        told: Sequence[str],
        parameters: int | None = None,
    ) -> list[ComparedRow]:
        """Return one row per metric."""
        rows = []
        for metric in self._pipeline.metric:
            score, paper = score_of(run, metric), published.get(metric)
            rows.append(
                ComparedRow(
                    name=name,
                    title=title,
                    protocol=run.config["protocol"],
                    metric=metric,
                    published_mean=paper.mean if paper else None,
                    published_std=paper.std if paper else None,
                    mean=score["mean"],
                    std=score["std"],
                    ci95=(score["ci95"][0], score["ci95"][1]) if score["ci95"] else None,
                    notes=tuple(told),
                    run=run.name,
                    costs=replace(Costs.of(run.metrics), published_parameters=parameters),
                )
            )
        return rows
