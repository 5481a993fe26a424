"""Run → report.html, a single file without external resources, for any browser and for printing."""

import base64
import os
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import jinja2

from featcache._version import __version__
from featcache.evaluate.intervals import caution, described
from featcache.evaluate.scores import SCORES, digits_of
from featcache.files.regular import replace_file
from featcache.report.cost_table import cost_lines
from featcache.report.tables import interval, mean_and_std
from featcache.runs.costs import Costs
from featcache.runs.identity import VALIDATION
from featcache.terminal.escape import escaped


def write_report(
    folder: str | os.PathLike[str],
    *,
    title: str,
    settings: Mapping[str, Any],
    metrics: Mapping[str, Any],
    notes: Sequence[str],
    warnings: Sequence[str],
    figures: Sequence[tuple[str, str]],
) -> Path:
    """Write ``report.html`` into a run folder, with the figures embedded.

    A warning is added if the intervals are based on few speakers.

    Args:
        folder: Run folder.
        title: Heading, e.g. the name of the run.
        settings: Resolved configuration; may be nested.
        metrics: Content of ``metrics.json``, as ``featcache.evaluate.scoring.score`` returns it.
        notes: Notes for the interpretation of the scores, e.g. that speaker normalisation is transductive.
        warnings: Problems and unusual results of the run.
        figures: Name of a PNG file in the folder, without the suffix, and its caption.

    Returns: the path of the report.
    """
    folder = Path(folder)
    tested = "bootstrap" in metrics  # a run of fit --final has no test part
    few = (
        caution(metrics["bootstrap"]["unit"], metrics["bootstrap"]["count"], metrics["num_speakers"]) if tested else ""
    )
    text = render(
        "report.html.jinja",
        title=title,
        settings=list(_flat(settings)),
        metrics=metrics,
        costs=cost_lines(Costs.of(metrics)),
        described=described(metrics) if tested else "",
        score_names=score_names(metrics),
        validation=metrics.get(VALIDATION, {}),
        validation_names=score_names({**metrics.get(VALIDATION, {}), "dimensions": metrics.get("dimensions", [])}),
        notes=notes,
        warnings=[*warnings, *([few] if few else [])],
        figures=figures_for_page(folder, figures),
    )
    path = folder / "report.html"
    replace_file(path, text.encode())
    return path


def render(template: str, **values: Any) -> str:
    """Return a page as HTML.

    Args:
        template: File name of the template in this folder.
        values: Variables of the template.
    """
    return _environment().get_template(template).render(**values, version=__version__)


@cache
def _environment() -> jinja2.Environment:
    """Return one environment for all pages, so that each template is compiled once."""
    # Names of corpora and classes, and captions, may contain HTML or control characters.
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("featcache", "report"),
        autoescape=True,
        finalize=_escaped,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        mean_and_std=lambda score, name: mean_and_std(score["mean"], score["std"], digits_of(name)),
        interval=lambda bounds, name: interval(bounds, digits_of(name)),
        number=lambda value, name: mean_and_std(value, None, digits_of(name)),
    )
    return environment


def _escaped(value: Any) -> Any:
    """Return a value with control characters escaped; a string that is marked as HTML stays marked."""
    return type(value)(escaped(value)) if isinstance(value, str) else value


def figures_for_page(folder: Path, figures: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return PNG files as base64 text, each with its caption.

    Args:
        folder: Folder of the PNG files.
        figures: Name of a file, without the suffix, and its caption.
    """
    return [(base64.b64encode((folder / f"{name}.png").read_bytes()).decode(), caption) for name, caption in figures]


def score_names(metrics: Mapping[str, Any]) -> dict[str, str]:
    """Return the full names of the scores in ``metrics.json``; single dimensions follow their mean."""
    names = {}
    for name, score in SCORES.items():
        label = score.title
        if name in metrics:
            dimensions = [dimension for dimension in metrics.get("dimensions", []) if f"{name}_{dimension}" in metrics]
            names[name] = f"{label}, mean of the dimensions" if len(dimensions) > 1 else label
            if len(dimensions) > 1:
                names |= {f"{name}_{dimension}": f"{label}: {dimension}" for dimension in dimensions}
    return names


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield nested settings as flat pairs such as ``("head.dropout", "0.2")``."""
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        elif isinstance(value, list | tuple):
            yield f"{prefix}{name}", ", ".join(map(str, value))
        else:
            yield f"{prefix}{name}", "none" if value is None else str(value)
