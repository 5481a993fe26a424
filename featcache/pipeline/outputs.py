"""Finished runs of a pipeline → contrasts of layers, figures, comparisons and cited rows."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from featcache.corpora.recorded import is_corpus
from featcache.errors import PipelineError, PredictionsError, unknown_name
from featcache.evaluate.compare import compare, sentence
from featcache.evaluate.intervals import ONE_SEED, caution
from featcache.fitting.relevance import relevance_of
from featcache.fitting.resolve import ResolvedFit
from featcache.pipeline.locate import PipelineCorpus
from featcache.pipeline.read import published_of, published_weights
from featcache.pipeline.rows import Row
from featcache.pipeline.schema import ContrastSpec, GainSpec, Pipeline
from featcache.report.captions import WEIGHTS, caption_of
from featcache.report.contrast import ALL, Contrast, contrast_of, write_contrast
from featcache.report.experiment import ComparedRow
from featcache.report.gains import draw_gains
from featcache.report.layers import draw_layer_weights
from featcache.report.pairs import comparison_csv, protocol_notes
from featcache.report.relevance_figure import draw_layer_relevance
from featcache.runs.identity import differences
from featcache.runs.reader import RunFolder, load_predictions

log = logging.getLogger(__name__)

SPEAKER_NOTE = "Speaker normalisation is transductive: it uses features of the test speakers, but not their labels."


def score_of(run: RunFolder, metric: str) -> dict[str, Any]:
    """Return a score of a run.

    Raises:
        PipelineError: The run has no such score.
    """
    found = run.metrics.get(_name_of_score(run, metric))
    if not isinstance(found, dict) or "ci95" not in found:
        there = [score for score, value in run.metrics.items() if isinstance(value, dict) and "ci95" in value]
        raise PipelineError(f"{run.name}: {unknown_name('metric', metric, there)}")
    return found


def _name_of_score(run: RunFolder, metric: str) -> str:
    """Return the name of a score in a run: with a single dimension, ``ccc`` and ``ccc_<dim>`` mean the same score."""
    dimensions = run.metrics.get("dimensions", ())
    return metric if metric in run.metrics or len(dimensions) != 1 else metric.removesuffix(f"_{dimensions[0]}")


def contrasts_of(pipeline: Pipeline, rows: Sequence[Row], runs: Mapping[str, RunFolder]) -> list[Contrast]:
    """Compare the runs of each contrast layer by layer, for the first metric of the pipeline.

    Args:
        pipeline: The pipeline.
        rows: Rows of the table.
        runs: Name of a row → its run.

    Returns:
        One contrast for each of the pipeline's, without those whose runs are left out or cannot be compared.
    """
    metric, found = pipeline.metric[0], []
    for name, spec in pipeline.contrasts.items():
        pairs = {layer: (runs[first], runs[second]) for layer, (first, second) in _pairs(spec, rows).items()}
        if not pairs:
            continue
        if all(_are_same_fit(*pair) for pair in pairs.values()):
            log.warning("%s not compared: %s and %s are the same fit of the same features", name, *spec.runs)
            continue
        first, second = (pipeline.runs[run].title for run in spec.runs)
        score = _name_of_score(next(iter(pairs.values()))[0], metric)
        scores = {layer: (score_of(a, metric), score_of(b, metric)) for layer, (a, b) in pairs.items()}
        try:
            found.append(contrast_of(name, (first, second), pairs, metric=score, scores=scores))
        except PredictionsError as error:  # the results of the finished runs are written anyway
            log.warning("%s not compared: %s", name, error)
    return found


def _are_same_fit(first: RunFolder, second: RunFolder) -> bool:
    """Return whether two runs differ in the names of their stores only: ``--weights random`` makes both untrained."""
    same = list(first.config["features"].values()) == list(second.config["features"].values())
    return same and not set(differences(first.config, second.config)) - {"features", "untrained"}


def _pairs(spec: ContrastSpec, rows: Sequence[Row]) -> dict[str, tuple[str, str]]:
    """Return layer → names of the two rows, in the order of the layers, and ``all`` at the end."""
    by_run = [{row.spec.layers: row.name for row in rows if row.run == run} for run in spec.runs]
    pairs = {layer: (name, by_run[1][layer]) for layer, name in by_run[0].items() if layer in by_run[1]}
    if spec.all is not None and {row.name for row in rows}.issuperset(spec.all):
        pairs[ALL] = spec.all
    return pairs


def comparisons_of(
    pipeline: Pipeline, runs: Mapping[str, RunFolder], titles: Mapping[str, str]
) -> list[tuple[str, str | None, list[str]]]:
    """Return name, table as CSV (None if the runs cannot be compared) and sentences of each comparison.

    Args:
        pipeline: The pipeline.
        runs: Name of a row → its run.
        titles: Name of a row → its title.
    """
    told: list[tuple[str, str | None, list[str]]] = []
    for name, spec in pipeline.comparisons.items():
        here = [run for run in spec.runs if run in runs]
        if len(here) < 2:
            continue
        try:
            found = compare({titles[run]: load_predictions(runs[run]) for run in here})
        except PredictionsError as error:  # the results of the finished runs are written anyway
            told.append((name, None, [f"not compared: {error}"]))
            continue
        shown = {_name_of_score(runs[here[0]], metric) for metric in pipeline.metric}
        sentences = [sentence(one) for one in found if one.score in shown]
        sentences += protocol_notes({titles[run]: runs[run] for run in here})
        told.append((name, comparison_csv(found), sentences))
    return told


def cited_rows(pipeline: Pipeline, place: PipelineCorpus) -> list[ComparedRow]:
    """Return the rows of published results without a run."""
    rows = []
    for name, spec in pipeline.cited.items():
        if spec.corpus is not None and not is_corpus(place.kind, spec.corpus):
            continue
        for metric, paper in published_of(pipeline, spec.published).items():
            told = [text for text in (spec.note, paper.note) if text]
            rows.append(
                ComparedRow(
                    name=name,
                    title=spec.title,
                    protocol=spec.protocol or pipeline.defaults.protocol or paper.protocol,
                    metric=metric,
                    published_mean=paper.mean,
                    published_std=paper.std,
                    mean=None,
                    std=None,
                    ci95=None,
                    notes=tuple(told),
                    run="",
                )
            )
    return rows


def _published_gains(spec: GainSpec, rows: Sequence[Row]) -> dict[str, float]:
    """Return title of a bar → gain in percent that follows from the published scores of its two runs."""
    known = {row.name: row.published[spec.metric].mean for row in rows if spec.metric in row.published}
    return {
        bar: 100 * (known[first] - known[second]) / known[second]
        for bar, (first, second) in spec.pairs.items()
        if first in known and known.get(second, 0) > 0
    }


def draw_figures(
    pipeline: Pipeline,
    rows: Sequence[Row],
    folder: Path,
    *,
    runs: Mapping[str, RunFolder],
    setups: Mapping[str, ResolvedFit],
    contrasts: Sequence[Contrast],
) -> list[tuple[str, str]]:
    """Draw the figures of a pipeline.

    Args:
        pipeline: The pipeline.
        rows: Rows of the table.
        folder: Output folder.
        runs: Name of a row → its run.
        setups: Name of a row → its resolved request.
        contrasts: Comparisons of layers.

    Returns:
        Name of each figure, without suffix, and its caption.
    """
    drawn = []
    for contrast in contrasts:
        write_contrast(contrast, folder / contrast.name)
        drawn.append((contrast.name, pipeline.contrasts[contrast.name].caption))
    for name, gain in pipeline.gains.items():
        pairs = {
            bar: (load_predictions(runs[first]), load_predictions(runs[second]))
            for bar, (first, second) in gain.pairs.items()
            if first in runs and second in runs
        }
        if not pairs:
            continue
        try:
            draw_gains(pairs, gain.metric, folder / name, published=_published_gains(gain, rows))
        except PredictionsError as error:
            log.warning("%s not drawn: %s", name, error)
            continue
        drawn.append((name, gain.caption))
    for name, spec in pipeline.figures.items():
        here = {row.spec.title: row.name for row in rows if row.name in spec.runs}
        chosen = {title: runs[row] for title, row in here.items()}
        if not here:
            continue
        if spec.probes:
            draw_layer_relevance(
                relevance_of(chosen, {title: setups[row] for title, row in here.items()}), folder / name
            )
        else:
            papers = published_weights(pipeline, spec)
            published = {title: papers[row] for title, row in here.items() if row in papers}
            weights = {title: run.layer_weights for title, run in chosen.items()}
            draw_layer_weights(weights, folder / name, published=published)
        seeds = max(len(run.config["seeds"]) for run in chosen.values())
        drawn.append((name, spec.caption or caption_of(WEIGHTS, seeds)))
    return drawn


def notes_of(runs: Mapping[str, RunFolder]) -> list[str]:
    """Return notes that apply to all rows."""
    told = []
    if any(run.config["norm"] == "speaker" for run in runs.values()):
        told.append(SPEAKER_NOTE)
    for metrics in (run.metrics for run in runs.values()):
        few = caution(metrics["bootstrap"]["unit"], metrics["bootstrap"]["count"], metrics["num_speakers"])
        told += [few] if few else []
        told += [f"Chance level: UAR {metrics['chance_uar']:.1f}."] if "chance_uar" in metrics else []
        told += [f"{ONE_SEED}."] if metrics["num_seeds"] == 1 else []
    return list(dict.fromkeys(told))
