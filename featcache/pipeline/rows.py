"""Pipeline, changes of the user for a trial → rows of the table, each with its differences from the paper."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from featcache.cache.failures import read_failures
from featcache.cache.shards import read_catalogue
from featcache.corpora.published_counts import counts_in, parts_in
from featcache.corpora.recorded import is_corpus
from featcache.errors import PipelineError, listed, unknown_name
from featcache.extractors import store_name
from featcache.extractors.checkpoint import is_folder
from featcache.fitting.convergence import convergence_notes
from featcache.heads import head_spec
from featcache.pipeline.each_layer import expanded
from featcache.pipeline.locate import PipelineCorpus
from featcache.pipeline.read import published_of
from featcache.pipeline.schema import EACH, EnsembleSpec, Pipeline, RunSpec, StoreSpec
from featcache.pipeline.transcripts import word_errors_of
from featcache.protocols import PROTOCOLS, mixes_speakers
from featcache.published import PublishedResult
from featcache.runs.reader import RunFolder
from featcache.settings.extractor_configs import MANIFEST
from featcache.settings.finetunings import FinetuneSettings
from featcache.settings.fits import FitSettings
from featcache.settings.trials import TrialSettings
from featcache.transcripts.files import is_finished
from featcache.units import counted

log = logging.getLogger(__name__)

UNTRAINED = "-untrained"
AT_MOST = "at most"


@dataclass(frozen=True, kw_only=True)
class Row:
    """A run of a pipeline.

    Attributes:
        name: Name of the row.
        run: Name of the run in the pipeline; for a single layer of ``layers: each`` it differs from ``name``.
        spec: Fields of the run in the pipeline.
        request: Options for ``fit``.
        published: Metric → published result; empty if there is none.
        trial: Differences between the request and the pipeline, as texts.
    """

    name: str
    run: str
    spec: RunSpec
    request: FitSettings
    published: dict[str, PublishedResult]
    trial: tuple[str, ...]


def rows_of(pipeline: Pipeline, place: PipelineCorpus, trial: TrialSettings) -> list[Row]:
    """Return the runs of a pipeline on a corpus.

    Untrained models cannot transcribe. Therefore a trial with random weights leaves out runs on ASR transcripts that
    do not exist yet.

    Args:
        pipeline: The pipeline.
        place: The corpus.
        trial: Changes of the user.

    Raises:
        PipelineError: A run or protocol is unknown, or no run remains.
    """
    kind = place.kind
    for name in trial.only or ():
        if name not in pipeline.runs:
            raise PipelineError(f"--only {name}: {unknown_name('run', name, pipeline.runs)}")
    only = None if trial.only is None else with_sources_of(pipeline, trial.only)
    if trial.protocol is not None and trial.protocol not in PROTOCOLS:
        raise PipelineError(PROTOCOLS.refusal(trial.protocol))
    specs = {name: pipeline.run(name) for name in pipeline.runs if only is None or name in only}
    here = {name: spec for name, spec in specs.items() if spec.corpus is None or is_corpus(kind, spec.corpus)}
    if not here:
        raise PipelineError(f"none of the runs {', '.join(specs)} is for {kind.name if kind else 'this corpus'}")
    silent: set[str] = set()
    if trial.weights == "random":
        silent = {name for name, spec in here.items() if _waits_for_words(pipeline, spec, place)}
    if silent:
        log.warning("left out, because untrained models cannot transcribe: %s", ", ".join(sorted(silent)))
    if silent == here.keys():
        raise PipelineError("all runs need ASR transcripts, which untrained models cannot make; use pretrained weights")
    read = {store for spec in here.values() if spec.layers == EACH for store in spec.features}
    stores = {store: (pipeline.stores[store], place.cache / name_of_store(pipeline, store, trial)) for store in read}
    layered = expanded(_with_sources({n: spec for n, spec in here.items() if n not in silent}, pipeline), stores)
    return [_row(pipeline, name, run, spec, trial) for name, (spec, run) in layered.items()]


def _with_sources(specs: Mapping[str, RunSpec], pipeline: Pipeline) -> dict[str, RunSpec]:
    """Return the runs without those on stores of fine-tuned runs that are left out."""
    return {name: spec for name, spec in specs.items() if with_sources_of(pipeline, [name]) <= specs.keys()}


def with_sources_of(pipeline: Pipeline, names: Iterable[str]) -> set[str]:
    """Return the given runs, and the fine-tuned runs from which their stores are made.

    Args:
        pipeline: The pipeline.
        names: Names of runs.
    """
    found: set[str] = set()
    pending = list(names)
    while pending:
        name = pending.pop()
        if name in found or name not in pipeline.runs:
            continue
        found.add(name)
        stores = (pipeline.stores.get(store) for store in pipeline.run(name).features)
        pending += [store.run for store in stores if store is not None and store.run is not None]
    return found


def _waits_for_words(pipeline: Pipeline, spec: RunSpec, place: PipelineCorpus) -> bool:
    read = (pipeline.stores[store].transcripts for store in spec.features)
    return any(name is not None and not is_finished(place.cache, name) for name in read)


def stores_of(pipeline: Pipeline, rows: Sequence[Row], trial: TrialSettings) -> dict[str, StoreSpec]:
    """Return the stores that the rows read; a store of an untrained model has a different name."""
    wanted = {store for row in rows for store in row.spec.features}
    stores = {}
    for name, spec in pipeline.stores.items():
        if name in wanted:
            changed: dict[str, Any] = {"weights": "random"} if trial.weights == "random" and spec.is_model else {}
            if spec.run is not None:  # the architecture is that of the model that was tuned
                tuned = pipeline.stores[pipeline.run(spec.run).features[0]]
                changed |= {option: getattr(tuned, option) for option in ("model", "text", "transcripts", "num_blocks")}
            stores[name_of_store(pipeline, name, trial)] = spec.model_copy(update=changed)
    return stores


def name_of_store(pipeline: Pipeline, name: str, trial: TrialSettings) -> str:
    """Return the name in the cache of a store of the pipeline."""
    spec = pipeline.stores[name]
    return name + UNTRAINED if trial.weights == "random" and spec.is_model and spec.weights != "random" else name


def _row(pipeline: Pipeline, name: str, run: str, spec: RunSpec, trial: TrialSettings) -> Row:
    features = tuple(name_of_store(pipeline, store, trial) for store in spec.features)
    request = replace(spec.options, features=features, limit=trial.limit)
    if isinstance(request, FinetuneSettings):  # a store records the name of a model's folder, but not its path
        encoders = [(store, pipeline.stores[name].encoder) for store, name in zip(features, spec.features, strict=True)]
        request = replace(request, model=tuple(f"{store}={one}" for store, one in encoders if is_folder(one)))
    told = []
    if trial.weights == "random" and any(pipeline.stores[store].run for store in spec.features):
        told.append("tuned from untrained weights")  # the store itself only knows the fine-tuned weights
    if trial.model is not None and pipeline.paper and any(_is_speech_model(pipeline, store) for store in spec.features):
        told.append(f"model {store_name(trial.model)}, not the pipeline's")
    if trial.protocol is not None and trial.protocol != spec.protocol:
        # Another protocol must not change the label to predict.
        target = request.target or (PROTOCOLS[spec.protocol].target if spec.protocol else None)
        request = replace(request, protocol=trial.protocol, target=target)
        told.append(f"protocol {trial.protocol}" + (f", not {spec.protocol}" if spec.protocol else ""))
    if trial.seeds is not None:
        request = replace(request, seeds=trial.seeds)
        if trial.seeds != spec.seeds and head_spec(spec.head).is_network:
            number = len(trial.seeds)
            same = number == len(spec.seeds)
            other = f"{'seed' if number == 1 else 'seeds'} {', '.join(map(str, trial.seeds))}" if same else ""
            told.append(other or f"{counted(number, 'seed')}, not {len(spec.seeds)}")
    if trial.max_epochs is not None and head_spec(spec.head).is_network:
        request = replace(request, max_epochs=trial.max_epochs)
        told.append(f"{AT_MOST} {trial.max_epochs} epochs")
    published = published_of(pipeline, spec.published)
    return Row(name=name, run=run, spec=spec, request=request, published=published, trial=tuple(told))


def _is_speech_model(pipeline: Pipeline, store: str) -> bool:
    spec = pipeline.stores[store]
    return spec.model is not None and spec.is_model


def notes_on(place: PipelineCorpus, row: Row, run: RunFolder, limit: int | None) -> list[str]:
    """Return notes on a run that readers need to compare its score with the published one.

    Args:
        place: The corpus.
        row: The row of the run.
        run: The finished run.
        limit: Number of utterances of a trial; None for all.
    """
    told = [row.spec.note] if row.spec.note else []
    if run.config["untrained"]:
        told.append("untrained weights")
    told += notes_on_corpus(place, limit)
    told += row.trial
    if mixes_speakers(run.config["protocol"]):
        told.append("test speakers are also in the training part")
    stores = [place.cache / store for store in run.config["features"]]
    told += [word_errors_of(place, name) for name in _words_of(stores)]
    failed = {failure.utterance_id for store in stores for failure in read_failures(store)}
    if failed:
        told.append(f"{counted(len(failed), 'utterance')} could not be extracted")
    # With fewer epochs than in the pipeline, notes on runs that reached the last epoch are expected and not helpful.
    few = any(one.startswith(AT_MOST) for one in row.trial)
    return told if few else told + convergence_notes(run)


def _words_of(stores: Sequence[Path]) -> list[str]:
    """Return the names of the ASR transcripts that the stores were extracted from."""
    read = (read_catalogue(store).identity.settings.get("transcripts", MANIFEST) for store in stores)
    return [name for name in dict.fromkeys(read) if name != MANIFEST]


def notes_on_corpus(place: PipelineCorpus, limit: int | None) -> list[str]:
    """Return a note if only some utterances of the corpus are used or available."""
    if limit is not None and limit < len(place.manifest):
        return [f"{limit} of {len(place.manifest)} utterances (--limit)"]
    if place.kind is None or not place.kind.published_counts:
        return []
    whole = sum(counts_in(place.kind, place.manifest).values())
    here = len(place.manifest.labels(place.kind.target))
    parts = parts_in(place.kind, place.manifest)
    of = f" ({place.kind.part} {listed(parts)})" if parts else ""
    return [] if here == whole else [f"{here} of the corpus's {whole} utterances{of}"]


def ensembles_of(pipeline: Pipeline, rows: Sequence[Row]) -> dict[str, EnsembleSpec]:
    """Return the ensembles whose runs are all among the rows."""
    names = {row.name for row in rows}
    return {name: spec for name, spec in pipeline.ensembles.items() if names.issuperset(spec.runs)}
