"""Run → report.html, a single file without external resources, for any browser and for printing."""

import base64
import os
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2

from featcache._version import __version__
from featcache.evaluate.intervals import caution, described
from featcache.evaluate.scores import SCORES, digits_of
from featcache.files.regular import replace_file
from featcache.report.cost_table import cost_lines
from featcache.report.embedded import STYLE, asset, policy, script_data
from featcache.report.tables import interval, mean_and_std
from featcache.report.titles import run_title
from featcache.runs.costs import Costs
from featcache.runs.identity import VALIDATION
from featcache.terminal.escape import escaped

if TYPE_CHECKING:
    from featcache.report.breakdown import GroupScore
    from featcache.report.utterance_list import RunDetails

REPORT = "report.html"
# Scripts of a page with a table of utterances.
_SCRIPTS = ("tables.js", "utterances.js")


def write_report(
    folder: str | os.PathLike[str],
    *,
    title: str,
    settings: Mapping[str, Any],
    metrics: Mapping[str, Any],
    notes: Sequence[str],
    warnings: Sequence[str],
    figures: Sequence[tuple[str, str]],
    details: "RunDetails | None" = None,
) -> Path:
    """Write ``report.html`` into a run folder, with the figures embedded; see :func:`report_page`.

    Args:
        folder: Run folder, which contains the figures.
        title: Name of the run.
        settings: Resolved configuration; may be nested.
        metrics: Content of ``metrics.json``, as ``featcache.evaluate.scoring.score`` returns it.
        notes: Notes for the interpretation of the scores, e.g. that speaker normalisation is transductive.
        warnings: Problems and unusual results of the run.
        figures: Name of a PNG file in the folder, without the suffix, and its caption.
        details: Speakers, groups and utterances; None leaves them out.

    Returns: the path of the report.
    """
    folder = Path(folder)
    page = report_page(
        title=title,
        settings=settings,
        metrics=metrics,
        notes=notes,
        warnings=warnings,
        images=figures_for_page(folder, figures),
        details=details,
    )
    path = folder / REPORT
    replace_file(path, page.encode())
    return path


def report_page(
    *,
    title: str,
    settings: Mapping[str, Any],
    metrics: Mapping[str, Any],
    notes: Sequence[str],
    warnings: Sequence[str],
    images: Sequence[tuple[str, str]],
    details: "RunDetails | None" = None,
    links: Sequence[tuple[str, str]] = (),
) -> str:
    """Return the report of a run as HTML.

    The heading shows head, features and normalisation, and below it the name of the run. A warning is added if the
    intervals are based on few speakers.

    Args:
        title, settings, metrics, notes, warnings, details: As in :func:`write_report`.
        images: PNG files as base64 text, each with its caption.
        links: Address, percent-encoded, and text of links to other pages.
    """
    metrics = dict(metrics)
    validation = metrics.get(VALIDATION) or {}
    tested = "bootstrap" in metrics
    unit = metrics["bootstrap"] if tested else {}
    few = caution(unit["unit"], unit["count"], metrics["num_speakers"]) if tested else None
    folds = _folds(settings)
    heading = run_title(settings)
    return render(
        "report.html.jinja",
        scripts=_SCRIPTS if details else (),
        title=heading or title,
        name=title if heading else "",
        links=[*links, *([("#utterances", "Utterances")] if details else [])],
        settings=list(_flat({name: value for name, value in settings.items() if name != "folds" or not folds})),
        folds=folds,
        metrics=metrics,
        validation=validation,
        several=metrics["num_seeds"] > 1,
        tested=tested,
        costs=cost_lines(Costs.of(metrics)),
        described=described(metrics) if tested else "",
        score_names=score_names(metrics if tested else {**metrics, **validation}),
        notes=notes,
        warnings=[*warnings, *([f"{few[0].upper()}{few[1:]}."] if few else [])],
        figures=images,
        details=details,
        groups=_groups(details) if details else [],
        utterances=script_data(details.utterances) if details else None,
    )


def _groups(details: "RunDetails") -> list[tuple[str, Sequence["GroupScore"]]]:
    """Return the name of each grouping and its groups: speakers first, unless they are unknown."""
    speakers = [("speaker", details.speakers)] if details.speakers else []
    return [*speakers, *details.groups.items()]


def _folds(settings: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the folds of a configuration: number, name, and number of utterances in each part."""
    folds = settings.get("folds")
    columns = {"fold", "name", "train", "validation", "test"}
    known = isinstance(folds, list) and all(isinstance(fold, Mapping) and columns <= set(fold) for fold in folds)
    return list(folds) if known and isinstance(folds, list) else []


def render(template: str, *, scripts: Sequence[str] = (), **values: Any) -> str:
    """Return a page as HTML.

    Args:
        template: File name of the template in this folder.
        scripts: File names of the scripts in this folder that the page contains.
        values: Variables of the template.
    """
    page = {"style": asset(STYLE), "policy": policy(scripts), "scripts": list(map(asset, scripts))}
    return _environment().get_template(template).render(**values, **page, version=__version__)


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
