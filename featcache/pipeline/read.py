"""YAML → Pipeline, or one line that names the file, the line and what may stand there."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from featcache.errors import ModelError, PipelineError, unknown_name
from featcache.files.regular import is_hidden, read_regular
from featcache.files.yaml_text import YamlError, compose
from featcache.heads import head_spec
from featcache.pipeline.schema import UNKNOWN_FIELD, Pipeline
from featcache.published import PublishedResult, find_published
from featcache.settings.checked import configured, describe_fault

YamlPath = tuple[str | int, ...]
TOLD_AT_ONCE = 3
MOST_BYTES = 1 << 20


def shipped_pipelines() -> dict[str, Path]:
    """Name → file, of the pipelines that come with featcache."""
    package = Path(__file__).parents[1]
    # an installed package holds them itself, a checkout has them beside it
    folders = (package / "pipelines", package.parent / "pipelines")
    folder = next((folder for folder in folders if folder.is_dir()), folders[0])
    return {path.stem: path for path in sorted(folder.glob("*.yaml")) if not is_hidden(path.name)}


def find_pipeline(name: str | os.PathLike[str]) -> Path:
    """The file of a pipeline: its path, or its name if it comes with featcache.

    Raises:
        PipelineError: there is none.
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
    """Read a pipeline and check all that can be checked before there are features.

    Raises:
        PipelineError: no YAML, or faults; the first of them are told with their lines.
    """
    content, lines = _read_yaml(path)
    try:
        pipeline = Pipeline.model_validate(content)
    except ValidationError as error:
        faults = [_describe(fault) for fault in error.errors()]
    else:
        faults = list(_contradictions(pipeline))
    if faults:
        told = [f"line {_line(place, lines)}: {fault}" for place, fault in faults[:TOLD_AT_ONCE]]
        more = f"; and {len(faults) - TOLD_AT_ONCE} more faults" if len(faults) > TOLD_AT_ONCE else ""
        raise PipelineError(f"{path}, {'; '.join(told)}{more}")
    return pipeline


def published_of(pipeline: Pipeline, wanted: dict[str, str] | None) -> dict[str, PublishedResult]:
    """Metric → the published number that a row stands beside; none where the row names none.

    Raises:
        PipelineError: none or several have these columns and the table's metric.
    """
    if wanted is None:
        return {}
    common = {**pipeline.published, **wanted}
    return {metric: find_published({**common, "metric": metric.replace("_", "-")}) for metric in pipeline.metric}


def _contradictions(pipeline: Pipeline) -> Iterator[tuple[YamlPath, str]]:
    """Names that nothing bears, and published results that are not there."""
    yield from _faults_of_stores(pipeline)
    yield from _faults_of_runs(pipeline)
    yield from _faults_of_figures(pipeline)
    for section in ("figures", "gains", "ensembles", "comparisons"):
        for name, part in getattr(pipeline, section).items():
            unknown = [run for run in part.runs if run not in pipeline.runs]
            for run in unknown:
                yield (
                    (section, name, "pairs" if section == "gains" else "runs"),
                    unknown_name("run", run, pipeline.runs),
                )
    for name, ensemble in pipeline.ensembles.items():
        if ensemble.size > len(ensemble.runs):
            yield ("ensembles", name, "size"), f"{ensemble.size} cannot vote, where there are {len(ensemble.runs)} runs"
        if name in pipeline.runs:
            yield ("ensembles", name), f"a run is called {name!r} too; give one of them another name"
    for name, comparison in pipeline.comparisons.items():
        if len(set(comparison.runs)) < 2:
            yield ("comparisons", name, "runs"), "one run cannot be compared; name two or more"
    for section in ("runs", "ensembles"):
        for name, row in getattr(pipeline, section).items():
            try:
                published_of(pipeline, row.published)
            except PipelineError as error:
                yield (section, name, "published"), str(error)


def _faults_of_stores(pipeline: Pipeline) -> Iterator[tuple[YamlPath, str]]:
    # without a section of their own they are to be in the cache already
    for name, store in pipeline.stores.items():
        if pipeline.transcripts and store.transcripts and store.transcripts not in pipeline.transcripts:
            yield ("stores", name, "transcripts"), unknown_name("transcripts", store.transcripts, pipeline.transcripts)


def _faults_of_runs(pipeline: Pipeline) -> Iterator[tuple[YamlPath, str]]:
    for name in pipeline.runs:
        run, place = pipeline.run(name), ("runs", name)
        if not run.features:
            yield place, "features are missing, and the defaults have none; name stores"
        unknown = [store for store in run.features if store not in pipeline.stores]
        for store in unknown:
            yield (*place, "features"), unknown_name("store", store, pipeline.stores)
        try:
            configured(head_spec(run.head).options, run.set, f"head {run.head!r}")
        except ModelError as error:
            yield (*place, "set"), str(error)
        if run.corpus and run.corpus not in pipeline.corpus:
            yield (*place, "corpus"), f"the pipeline is not for {run.corpus!r}; add it to 'corpus'"


def _faults_of_figures(pipeline: Pipeline) -> Iterator[tuple[YamlPath, str]]:
    for name, figure in pipeline.figures.items():
        for run in figure.runs if figure.probes else ():
            if run in pipeline.runs and len(pipeline.run(run).features) > 1:
                yield (
                    ("figures", name, "probes"),
                    f"run {run!r} reads several stores, and probes are of one; leave it out",
                )


def _describe(fault: Any) -> tuple[YamlPath, str]:
    """Where pydantic found a fault, and the fault in words."""
    place: YamlPath = fault["loc"]
    context = fault.get("ctx", {})
    if fault["type"] == UNKNOWN_FIELD:
        return (*place, context["field"]), context["told"]
    return place[:-1] if fault["type"] == "missing" else place, describe_fault(fault)


def _line(place: YamlPath, lines: dict[YamlPath, int]) -> int:
    """The line of a place, or of the nearest one around it."""
    while place not in lines:
        place = place[:-1]
    return lines[place]


def _read_yaml(path: Path) -> tuple[Any, dict[YamlPath, int]]:
    """The content as texts, lists and dictionaries, and the line of each; pydantic makes numbers of texts.

    YAML's own guesses are not wanted: to it ``no`` is false, and ``1e-4`` is no number.
    """
    try:
        content = read_regular(path, MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            raise PipelineError(f"{path}: more than {MOST_BYTES} bytes; expected a pipeline, which has fewer")
        node = compose(content.decode("utf-8-sig"), yaml.BaseLoader)
        if node is None:
            raise PipelineError(f"{path} is empty; expected a pipeline")
        lines: dict[YamlPath, int] = {(): 1}
        return _plain(node, (), lines, path), lines
    except YamlError as error:
        place = "" if error.line is None else f", line {error.line}"
        raise PipelineError(f"{path}{place}: {error}") from error
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise PipelineError(f"{path}, line {line}: cannot be read as UTF-8 text ({error.reason})") from error
    except OSError as error:
        raise PipelineError(f"{path}: cannot be read ({error.strerror})") from error
    except RecursionError as error:
        raise PipelineError(f"{path}: too many levels, one inside the other; write it with fewer") from error


def _plain(node: yaml.Node, place: YamlPath, lines: dict[YamlPath, int], path: Path) -> Any:
    lines.setdefault(place, node.start_mark.line + 1)
    if isinstance(node, yaml.ScalarNode):
        return node.value
    if isinstance(node, yaml.SequenceNode):
        return [_plain(item, (*place, number), lines, path) for number, item in enumerate(node.value)]
    content: dict[str, Any] = {}
    for key, value in node.value:
        line = key.start_mark.line + 1
        if not isinstance(key, yaml.ScalarNode):
            raise PipelineError(f"{path}, line {line}: expected a name before the colon")
        if key.value in content:
            raise PipelineError(f"{path}, line {line}: {key.value!r} stands twice; keep one")
        lines[(*place, key.value)] = line
        content[key.value] = _plain(value, (*place, key.value), lines, path)
    return content
