"""Pipeline, corpus → missing features are extracted, missing runs are trained, and the table is written."""

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from featcache.errors import PipelineError, PredictionsError, unknown_name
from featcache.evaluate.compare import compare, sentence
from featcache.evaluate.intervals import ONE_SEED, caution
from featcache.extraction import ExtractionReport, summarise_report
from featcache.extractors import usable_device
from featcache.files.regular import replace_file
from featcache.fitting.convergence import tell_convergence
from featcache.fitting.ensemble import asked_of, ensemble, notes
from featcache.fitting.fit import fit_all
from featcache.fitting.plan import PlannedRun, plan_runs, tell_conditions
from featcache.fitting.relevance import relevance_of
from featcache.fitting.resolve import ResolvedFit
from featcache.fitting.task import selected
from featcache.pipeline.locate import PipelineCorpus, find_places
from featcache.pipeline.read import find_pipeline, published_of, read_pipeline
from featcache.pipeline.rows import Row, ensembles_of, notes_on, notes_on_corpus, rows_of, stores_of
from featcache.pipeline.schema import EnsembleSpec, Pipeline
from featcache.pipeline.stores import PipelineStore
from featcache.pipeline.transcripts import transcripts_of
from featcache.protocols import mixes_speakers
from featcache.published import PublishedResult
from featcache.registry import naming
from featcache.report.experiment import ComparedRow, write_compared
from featcache.report.gains import draw_gains
from featcache.report.layers import draw_layer_weights
from featcache.report.pairs import comparison_csv, protocol_notes
from featcache.report.relevance_figure import draw_layer_relevance
from featcache.runs.costs import Costs
from featcache.runs.identity import hash_of
from featcache.runs.reader import RunFolder, load_predictions
from featcache.settings.checked import configured
from featcache.settings.extractions import Weights
from featcache.settings.public import documented, without
from featcache.settings.trials import PipelineSettings, TrialSettings
from featcache.transcription import TranscriptionReport, summarise
from featcache.workspace import Workspace, check_name

log = logging.getLogger(__name__)

SPEAKER_NOTE = "Speaker normalisation is transductive: it uses features of the test speakers, but not their labels."


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
        folder: Path,
    ) -> None:
        """Receive the results of a corpus before the files are written; see :func:`write_compared`."""


@documented("featcache.run_pipeline", PipelineSettings, expand=naming("protocol", "layout", "plugin"))
def run_pipeline(
    *,
    pipeline: str | os.PathLike[str],
    only: str | Sequence[str] | None = None,
    limit: int | None = None,
    weights: Weights | None = None,
    protocol: str | None = None,
    seeds: int | Sequence[int] | None = None,
    max_epochs: int | None = None,
    corpus: str | None = None,
    plugin: str | Sequence[str] = (),
    data: str | os.PathLike[str] | None = None,
    layout: str | None = None,
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
        The folders with the tables (``results.csv``, ``results.md``, ``report.html``), one per corpus, and reports of
        the extractions and transcriptions. With ``dry_run`` nothing is written and there are no folders.

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
    read = read_pipeline(path)
    listener = listener or Listener()
    device = usable_device(asked.device)
    places = find_places(read, Workspace.at(home), corpus=asked.corpus, data=asked.data, layout=asked.layout)
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
        work = PipelineWork(path.stem, read, place, asked, device, listener)
        listener.planned(read.title, work)
        if asked.dry_run:
            continue
        transcriptions += work.transcribe()
        if transcriptions and transcriptions[-1].interrupted:
            return outcome(interrupted=True)
        extractions += work.extract()
        if extractions and extractions[-1].interrupted:
            return outcome(interrupted=True)
        folders.append(work.report(work.train()))
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
        self._device = device
        self._listener = listener
        self._setups: dict[str, ResolvedFit] = {}
        # Raises an error for an empty selection now, and not after hours of extraction.
        for row in self.rows:
            selected(place.manifest, row.request.select, trial.limit)

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
        """Extract the missing utterances of each store."""
        reports = []
        for store in self.stores:
            if store.missing:
                reports.append(store.fill(device=self._device, limit=self.limit))
                self._listener.filled(summarise_report(reports[-1]))
                if reports[-1].interrupted:
                    break
        return reports

    def train(self) -> dict[str, RunFolder]:
        """Train the missing runs, together if they read the same features, and return name → run for all rows."""
        home = self.place.workspace.home
        planned = plan_runs([row.request for row in self.rows], cache=self.place.cache, home=home)
        tell_conditions(planned, device=self._device, remedy="remove the folder of a run to train it again")
        together: dict[tuple[str, ...], list[PlannedRun]] = {}
        for one in planned:
            together.setdefault(one.request.features, []).append(one)
        finished: dict[Path, RunFolder] = {}
        for those in together.values():
            runs = fit_all(those, cache=self.place.cache, device=self._device, resume=True)
            tell_convergence([run for one, run in zip(those, runs, strict=True) if one.finished is None])
            finished |= {one.path: run for one, run in zip(those, runs, strict=True)}
        self._setups = {row.name: one.setup for row, one in zip(self.rows, planned, strict=True)}
        return {row.name: finished[one.path] for row, one in zip(self.rows, planned, strict=True)}

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
        compared = self._compare(runs, titles)
        comparisons = [(name, told) for name, _, told in compared]
        self._listener.finished(rows, _notes(runs), comparisons, folder)  # before writing, which may fail (full disk)
        for name, table, _ in compared:
            if table is not None:
                replace_file(folder / f"{name}.csv", table.encode())
        write_compared(
            folder,
            rows,
            title=f"{self._pipeline.title} ({self.place.name})",
            paper=self._pipeline.paper,
            notes=_notes(runs),
            figures=self._draw(folder, runs, titles),
            comparisons=comparisons,
        )
        return folder

    def _row(self, row: Row, run: RunFolder) -> list[ComparedRow]:
        notes_of_row = notes_on(self.place, row, run, self.limit)
        return self._compared(row.name, row.spec.title, row.published, run, notes_of_row)

    def _vote(self, name: str, spec: EnsembleSpec, runs: Mapping[str, RunFolder]) -> list[ComparedRow]:
        members = [runs[member] for member in spec.runs]
        # The name changes if members are retrained, so that the vote is recomputed.
        asked = hash_of(asked_of(members, [spec.size], spec.votes))
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
        self, name: str, title: str, published: Mapping[str, PublishedResult], run: RunFolder, told: Sequence[str]
    ) -> list[ComparedRow]:
        """Return one row per metric."""
        rows = []
        for metric in self._pipeline.metric:
            score, paper = _score(run, metric), published.get(metric)
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
                    costs=Costs.of(run.metrics),
                )
            )
        return rows

    def _compare(
        self, runs: Mapping[str, RunFolder], titles: Mapping[str, str]
    ) -> list[tuple[str, str | None, list[str]]]:
        """Return name, table as CSV (None if the runs cannot be compared) and sentences of each comparison."""
        told: list[tuple[str, str | None, list[str]]] = []
        for name, spec in self._pipeline.comparisons.items():
            here = [run for run in spec.runs if run in runs]
            if len(here) < 2:
                continue
            try:
                found = compare({titles[run]: load_predictions(runs[run]) for run in here})
            except PredictionsError as error:  # the results of the finished runs are written anyway
                told.append((name, None, [f"not compared: {error}"]))
                continue
            sentences = [sentence(one) for one in found if one.score in self._pipeline.metric]
            sentences += protocol_notes({titles[run]: runs[run] for run in here})
            told.append((name, comparison_csv(found), sentences))
        return told

    def _draw(self, folder: Path, runs: Mapping[str, RunFolder], titles: Mapping[str, str]) -> list[tuple[str, str]]:
        drawn = []
        for name, gain in self._pipeline.gains.items():
            pairs = {
                bar: (load_predictions(runs[first]), load_predictions(runs[second]))
                for bar, (first, second) in gain.pairs.items()
                if first in runs and second in runs
            }
            if not pairs:
                continue
            try:
                draw_gains(pairs, gain.metric, folder / name)
            except PredictionsError as error:
                log.warning("%s not drawn: %s", name, error)
                continue
            drawn.append((name, gain.caption))
        for name, spec in self._pipeline.figures.items():
            here = {titles[row.name]: row for row in self.rows if row.name in spec.runs}
            chosen = {title: runs[row.name] for title, row in here.items()}
            if not here:
                continue
            if spec.probes:
                setups = {title: self._setups[row.name] for title, row in here.items()}
                draw_layer_relevance(relevance_of(chosen, setups), folder / name)
            else:
                draw_layer_weights({title: run.layer_weights for title, run in chosen.items()}, folder / name)
            drawn.append((name, spec.caption))
        return drawn


def _score(run: RunFolder, metric: str) -> dict[str, Any]:
    """Return a score of a run. With a single dimension, ``ccc`` and ``ccc_<dim>`` mean the same score.

    Raises:
        PipelineError: The run has no such score.
    """
    dimensions = run.metrics.get("dimensions", ())
    name = metric if metric in run.metrics or len(dimensions) != 1 else metric.removesuffix(f"_{dimensions[0]}")
    found = run.metrics.get(name)
    if not isinstance(found, dict) or "ci95" not in found:
        there = [score for score, value in run.metrics.items() if isinstance(value, dict) and "ci95" in value]
        raise PipelineError(f"{run.name}: {unknown_name('metric', metric, there)}")
    return found


def _notes(runs: Mapping[str, RunFolder]) -> list[str]:
    """Return notes that apply to all rows."""
    told = []
    if any(run.config["norm"] == "speaker" for run in runs.values()):
        told.append(SPEAKER_NOTE)
    for metrics in (run.metrics for run in runs.values()):
        few = caution(metrics["bootstrap"]["unit"], metrics["bootstrap"]["count"], metrics["num_speakers"])
        told += [few] if few else []
        told += [f"{ONE_SEED}."] if metrics["num_seeds"] == 1 else []
    return list(dict.fromkeys(told))
