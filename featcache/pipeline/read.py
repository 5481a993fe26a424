"""YAML → Pipeline, or an error in one line with the file, the line number and the expected content."""

import os
from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError

from featcache.errors import ModelError, PipelineError, unknown_name
from featcache.evaluate.compare import COMPARED
from featcache.evaluate.scores import find_score
from featcache.files.regular import is_hidden
from featcache.files.yaml_file import YamlPath, describe_faults, read_yaml_file
from featcache.fitting.common_options import are_solved
from featcache.heads import head_spec, without_steps
from featcache.pipeline.schema import BLOCK_OPTIONS, EACH, FigureSpec, Pipeline, RunSpec
from featcache.published import PublishedResult, find_layer_weights, find_published, published_results
from featcache.settings.checked import configured
from featcache.settings.field import non_default
from featcache.settings.finetunings import NOT_IN_FINETUNING
from featcache.settings.fits import TRAINING_STEPS
from featcache.settings.yaml_schema import placed_faults

# Metric of published numbers of parameters, in millions.
MILLIONS = "million-parameters"


def shipped_pipelines() -> dict[str, Path]:
    """Return name → file of the pipelines that come with featcache."""
    package = Path(__file__).parents[1]
    # An installed package contains them; in a checkout they are beside the package.
    folders = (package / "pipelines", package.parent / "pipelines")
    folder = next((folder for folder in folders if folder.is_dir()), folders[0])
    return {path.stem: path for path in sorted(folder.glob("*.yaml")) if not is_hidden(path.name)}


def find_pipeline(name: str | os.PathLike[str]) -> Path:
    """Return the file of a pipeline.

    Args:
        name: Path of a file, or name of a pipeline that comes with featcache.

    Raises:
        PipelineError: There is no such file or name.
    """
    path = Path(name)
    if path.is_file():
        return path
    shipped = shipped_pipelines()
    if path.suffix in (".yaml", ".yml") and path.stem not in shipped:
        raise PipelineError(f"no pipeline {path}; give a file, or one of {', '.join(shipped)}")
    if path.stem not in shipped:
        raise PipelineError(unknown_name("pipeline", str(name), shipped, hint="the path of a file works too"))
    return shipped[path.stem]


def read_pipeline(path: Path) -> Pipeline:
    """Read a pipeline, and check everything that can be checked without features.

    Args:
        path: A YAML file.

    Raises:
        PipelineError: The file is not YAML or has faults; the message lists the first faults with their lines.
    """
    content, lines = read_yaml_file(path, "pipeline", PipelineError)
    try:
        pipeline = Pipeline.model_validate(content)
    except ValidationError as error:
        faults = placed_faults(error)
    else:
        faults = list(_contradictions(pipeline))
    if faults:
        raise PipelineError(describe_faults(path, faults, lines))
    return pipeline


def published_of(pipeline: Pipeline, wanted: dict[str, str] | None) -> dict[str, PublishedResult]:
    """Return the published result of each metric for a row.

    Args:
        pipeline: The pipeline of the row.
        wanted: Columns and values of the published result, in addition to those that all rows have in common; None if
            the row has no published result. A column ``metric`` selects another score than that of the table.

    Returns: metric → published result; empty if ``wanted`` is None.

    Raises:
        PipelineError: No published result, or more than one, has these values.
    """
    if wanted is None:
        return {}
    common = {**pipeline.published, **wanted}
    chosen = {metric: common.get("metric", metric.replace("_", "-")) for metric in pipeline.metric}
    return {metric: find_published({**common, "metric": one}) for metric, one in chosen.items()}


def published_parameters(pipeline: Pipeline, wanted: dict[str, str] | None) -> int | None:
    """Return the number of parameters that the paper reports for a row; None if it reports none.

    Args:
        pipeline: The pipeline of the row.
        wanted: Columns and values of the published result, see :func:`published_of`.
    """
    columns = {**pipeline.published, **(wanted or {}), "metric": MILLIONS}
    fitting = [one for one in published_results() if columns.items() <= vars(one).items()]
    return round(fitting[0].mean * 1e6) if wanted is not None and len(fitting) == 1 else None


def _contradictions(pipeline: Pipeline) -> Iterator[tuple[YamlPath, str]]:
    """Yield the place and description of each unknown name and each missing published result."""
    yield from _faults_of_stores(pipeline)
    yield from _faults_of_runs(pipeline)
    yield from _faults_of_figures(pipeline)
    yield from _faults_of_contrasts(pipeline)
    yield from _faults_of_named_runs(pipeline)
    yield from _faults_of_files(pipeline)
    for name, ensemble in pipeline.ensembles.items():
        if ensemble.size > len(ensemble.runs):
            yield ("ensembles", name, "size"), f"{ensemble.size} runs cannot vote: only {len(ensemble.runs)} are listed"
    for section in ("cited", "ensembles"):
        for name in getattr(pipeline, section):
            if name in pipeline.runs:
                yield (section, name), f"a run also has the name {name!r}; rename one of them"
    for name, comparison in pipeline.comparisons.items():
        if len(set(comparison.runs)) < 2:
            yield ("comparisons", name, "runs"), "one run cannot be compared; list two or more"
    for section in ("runs", "cited", "ensembles"):
        for name, row in getattr(pipeline, section).items():
            try:
                published_of(pipeline, row.published)
            except PipelineError as error:
                yield (section, name, "published"), str(error)


def _faults_of_stores(pipeline: Pipeline) -> Iterator[tuple[YamlPath, str]]:
    # Without a section 'transcripts', the transcripts must already be in the cache.
    for name, store in pipeline.stores.items():
        if pipeline.transcripts and store.transcripts and store.transcripts not in pipeline.transcripts:
            yield ("stores", name, "transcripts"), unknown_name("transcripts", store.transcripts, pipeline.transcripts)
        if store.run is not None:
            yield from _faults_of_source(pipeline, ("stores", name, "run"), store.run)


def _faults_of_source(pipeline: Pipeline, place: YamlPath, run: str) -> Iterator[tuple[YamlPath, str]]:
    """Yield the faults of a store that is made from a run of the pipeline."""
    if run not in pipeline.runs:
        yield place, unknown_name("run", run, pipeline.runs)
        return
    spec = pipeline.run(run)
    if spec.from_layer is None:
        yield place, f"run {run!r} has no model of its own; name a fine-tuned run, with 'from_layer'"
    elif len(spec.features) != 1:
        yield place, f"run {run!r} fine-tunes {len(spec.features)} models; name a run with a single store"


def _faults_of_runs(pipeline: Pipeline) -> Iterator[tuple[YamlPath, str]]:
    for name in pipeline.runs:
        run, place = pipeline.run(name), ("runs", name)
        for option in ("train", "test", "label_map"):
            if getattr(run, option):
                told = f"'{option}' is for several corpora, and a pipeline fits each of its corpora by itself; use "
                yield (*place, option), f"{told}'featcache fit --{option.replace('_', '-')}' on its stores"
        for option in non_default(run.options) if are_solved([run.head]) else ():
            if option in TRAINING_STEPS:
                yield (*place, option), f"{option!r}: {without_steps(run.head)}"
        if not run.features:
            yield place, "features are missing here and in 'defaults'; list one or more stores"
        unknown = [store for store in run.features if store not in pipeline.stores]
        for store in unknown:
            yield (*place, "features"), unknown_name("store", store, pipeline.stores)
        if run.layers == EACH and len(run.features) != 1:
            yield (*place, "layers"), f"'layers: {EACH}' needs a single store, found {len(run.features)}"
        elif run.layers == EACH and not unknown and pipeline.stores[run.features[0]].run:
            yield (*place, "layers"), f"'layers: {EACH}' is not available for the store of a fine-tuned run"
        yield from _faults_of_blocks(pipeline, name, run)
        try:
            configured(head_spec(run.head).options, run.set, f"head {run.head!r}")
        except ModelError as error:
            yield (*place, "set"), str(error)
        if run.corpus and run.corpus not in pipeline.corpus:
            yield (*place, "corpus"), f"{run.corpus!r} is not a corpus of this pipeline; add it to 'corpus'"


def _faults_of_blocks(pipeline: Pipeline, name: str, run: RunSpec) -> Iterator[tuple[YamlPath, str]]:
    """Yield the faults of a fine-tuned run, and of other runs with options of fine-tuning."""
    place = "runs", name
    if run.from_layer is None:
        for option in sorted(run.model_fields_set.intersection(BLOCK_OPTIONS)):
            yield (*place, option), f"{option!r} is for fine-tuned runs; add 'from_layer', or remove it"
        return
    for option in non_default(run.options):
        if option in NOT_IN_FINETUNING:
            yield (*place, option), f"{option!r} is not available for fine-tuned runs; remove it"
    if "norm" in run.model_fields_set and run.norm != "none":
        yield (*place, "norm"), f"blocks need stored layers as they are; expected none, found {run.norm}"
    if not head_spec(run.head).is_network:
        yield (*place, "head"), f"head {run.head!r} is fitted by a solver, which cannot train blocks; use a network"
    if run.layers == EACH:
        yield (*place, "layers"), f"'layers: {EACH}' is not available for fine-tuned runs"
    if len(run.from_layer) != len(run.features):
        told = f"expected the number of a layer for each store, found {len(run.from_layer)} for {len(run.features)}"
        yield (*place, "from_layer"), told
    for store in run.features:
        spec = pipeline.stores.get(store)
        if spec is not None and spec.run is not None:
            yield (*place, "features"), f"store {store!r} is made from a run, whose model cannot be fine-tuned further"
        elif spec is not None and (spec.pool or not spec.is_model):
            lacks = "statistics only ('pool')" if spec.pool else "no layers of a model"
            told = f"store {store!r} contains {lacks}; fine-tuning needs a store with frames, such as 'layers: local'"
            yield (*place, "features"), told


def published_weights(pipeline: Pipeline, figure: FigureSpec) -> dict[str, dict[int, float]]:
    """Return run → published weight of each layer, for the runs of a figure that have any.

    Raises:
        PipelineError: No published layer weights, or those of several figures, have these values.
    """
    return {run: find_layer_weights({**pipeline.published, **wanted}) for run, wanted in figure.published.items()}


def _faults_of_figures(pipeline: Pipeline) -> Iterator[tuple[YamlPath, str]]:
    for name, figure in pipeline.figures.items():
        for run in figure.published:
            if run not in figure.runs:
                yield ("figures", name, "published"), unknown_name("run of this figure", run, figure.runs)
        if figure.published and figure.probes:
            yield ("figures", name, "published"), "published weights are not drawn above probes; remove one of them"
        try:
            published_weights(pipeline, figure)
        except PipelineError as error:
            yield ("figures", name, "published"), str(error)
        for run in figure.runs if figure.probes else ():
            if run in pipeline.runs and len(pipeline.run(run).features) > 1:
                yield (
                    ("figures", name, "probes"),
                    f"run {run!r} reads several stores, but a probe needs a single store; remove it from the figure",
                )


def _faults_of_named_runs(pipeline: Pipeline) -> Iterator[tuple[YamlPath, str]]:
    for section in ("figures", "gains", "ensembles", "comparisons"):
        for name, part in getattr(pipeline, section).items():
            place = section, name, "pairs" if section == "gains" else "runs"
            for run in part.runs:
                if run not in pipeline.runs:
                    yield place, unknown_name("run", run, pipeline.runs)
                elif pipeline.run(run).layers == EACH:
                    yield place, f"run {run!r} has 'layers: {EACH}', so it is several runs; use 'contrasts' for it"


def _faults_of_contrasts(pipeline: Pipeline) -> Iterator[tuple[YamlPath, str]]:
    for name, contrast in pipeline.contrasts.items():
        for field, each in (("runs", True), ("all", False)):
            for run in getattr(contrast, field) or ():
                if run not in pipeline.runs:
                    yield ("contrasts", name, field), unknown_name("run", run, pipeline.runs)
                elif (pipeline.run(run).layers == EACH) != each:
                    expected = "runs with" if each else "runs without"
                    yield ("contrasts", name, field), f"expected {expected} 'layers: {EACH}', found {run!r}"
        first, second = contrast.runs
        if first == second:
            yield ("contrasts", name, "runs"), f"run {first!r} cannot be compared with itself; name two runs"
        elif {first, second} <= pipeline.runs.keys() and pipeline.runs[first].title == pipeline.runs[second].title:
            yield ("contrasts", name, "runs"), f"both runs have the title {pipeline.runs[first].title!r}; rename one"
        if find_score(pipeline.metric[0])[0].name not in COMPARED:
            told = f"the first metric is {pipeline.metric[0]!r}, but runs are compared in {', '.join(COMPARED)}"
            yield ("contrasts", name), f"{told}; put one of them first"


def _faults_of_files(pipeline: Pipeline) -> Iterator[tuple[YamlPath, str]]:
    written = dict.fromkeys(("results", "report"), "the table of the pipeline")
    for section in ("contrasts", "gains", "figures", "comparisons"):
        for name in getattr(pipeline, section):
            if name in written:
                yield (section, name), f"the files of {written[name]} also have the name {name!r}; choose another"
            written[name] = f"{section!r}"
