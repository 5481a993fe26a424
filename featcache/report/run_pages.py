"""Runs of a corpus → a page over all of them, and a page for each with its utterances and their audio."""

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jinja2

from featcache.cache.joint import joint_utterances
from featcache.errors import FeatcacheError, PredictionsError, StoreError, unknown_name
from featcache.evaluate.scores import digits_of
from featcache.files.regular import replace_file
from featcache.manifest import Manifest
from featcache.report.audio_links import AudioLinks, address_of, audio_links
from featcache.report.embedded import script_data
from featcache.report.html import REPORT, render, report_page
from featcache.report.run_summary import (
    Scores,
    drawn,
    embedded_figures,
    finished_at,
    main_score,
    tested_rows,
)
from featcache.report.tables import interval, mean_and_std
from featcache.report.titles import distinct_titles
from featcache.report.utterance_list import RunDetails, details_of
from featcache.runs.file_names import METRICS
from featcache.runs.identity import HEAD_INPUTS, STORE_SETTINGS, TEST, TRAIN, VALIDATION
from featcache.runs.reader import RunFolder, finished_runs
from featcache.runs.validation import validation_scores
from featcache.settings.public import documented
from featcache.settings.reports import ReportSettings
from featcache.workspace import Workspace

PAGES = "report-pages"
SCRIPTS = ("tables.js", "plots.js", "overview.js")
NOTES = {
    "speaker": "Speaker normalisation is transductive: it uses the features of the test speakers, but no labels.",
    "mixed": "The runs that vote have different normalisations; speaker normalisation is transductive.",
}

_COUNTS = ("num_seeds", "num_folds", "num_utterances", "num_speakers")

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class WrittenPages:
    """Result of :func:`write_pages`.

    Attributes:
        path: The page over all runs.
        num_runs: Number of runs on it.
        page_bytes: Size of this page in bytes.
        total_bytes: Size of all pages in bytes.
        notes: Notes on the audio.
    """

    path: Path
    num_runs: int
    page_bytes: int
    total_bytes: int
    notes: tuple[str, ...]


@documented("write_pages", ReportSettings)
def write_pages(
    corpus: str | None = None,
    *,
    data: str | os.PathLike[str] | None = None,
    out: str | os.PathLike[str] | None = None,
    home: str | os.PathLike[str] | None = None,
) -> WrittenPages:
    """Write a page over all finished runs of a corpus, and a page for each run.

    Run folders are only read. The pages contain everything but the audio, to which they have relative links.

    Args:
        corpus: Name of the corpus; by default the only one with runs.
        home: Folder of corpora, caches and runs; by default ``$FEATCACHE_HOME``, or ``data``.

    Returns: the path and size of the page.

    Raises:
        FeatcacheError: the corpus has no runs, several corpora have runs and none was named, the folder of the audio
            does not exist, or the pages cannot be written.
    """
    workspace = Workspace.at(home)
    name = _corpus(workspace, corpus)
    runs = _readable(finished_runs(workspace, name))
    folder = workspace.runs(name) if out is None else Path(out)
    pages = folder / PAGES
    if (pages / METRICS).exists():
        raise StoreError(f"{pages} is a run, not a folder of pages; choose another folder with --out")
    several = sorted({one for _, config in runs for key in (TRAIN, TEST) for one in config.get(key, ())})
    manifest = _joint_manifest(workspace, several) if several else _manifest(workspace.cache(name) / "manifest.csv")
    root = _audio_folder(workspace.corpora if several else workspace.corpus(name), data)
    audio = audio_links(manifest, root, pages) if manifest is not None and root is not None else None
    titles = distinct_titles([(run.name, config) for run, config in runs])
    entries, sizes = [], []
    while runs:  # a run keeps its tables in memory, so each is released after its page
        (run, config), title = runs.pop(0), titles.pop(0)
        try:
            entry, page = _of_run(run, config, title, manifest, audio, pages, folder)
        except (StoreError, PredictionsError) as error:
            log.warning("left out: %s", error)
            continue
        except jinja2.UndefinedError as error:
            log.warning("left out: %s is not complete: %s", run.path / METRICS, error)
            continue
        replace_file(pages / f"{run.name}.html", page)
        entries.append(entry)
        sizes.append(len(page))
    if not entries:
        raise StoreError(f"no run under {workspace.runs(name)} can be shown; the warnings say why")
    notes = _audio_notes(name, manifest, root, audio)
    content = _overview(name, entries, notes).encode()
    replace_file(folder / REPORT, content)
    return WrittenPages(
        path=folder / REPORT,
        num_runs=len(entries),
        page_bytes=len(content),
        total_bytes=len(content) + sum(sizes),
        notes=tuple(notes),
    )


def _corpus(workspace: Workspace, corpus: str | None) -> str:
    found = sorted({path.parent.parent.name for path in (workspace.home / "runs").glob(f"*/*/{METRICS}")})
    if corpus is not None:
        workspace.runs(corpus)  # refuses a path
        if corpus not in found:
            raise StoreError(unknown_name("corpus with runs", corpus, found))
        return corpus
    if len(found) > 1:
        choices = " or ".join(f"featcache report {one}" for one in found)
        raise StoreError(f"several corpora have runs; which one? {choices}")
    if not found:
        raise StoreError(f"no runs under {workspace.home / 'runs'}; make one with 'featcache fit'")
    return found[0]


def _readable(runs: Sequence[RunFolder]) -> list[tuple[RunFolder, dict[str, Any]]]:
    """Return each run with its settings as plain values; log the runs whose settings have unexpected types."""
    found = []
    for run in runs:
        try:
            found.append((run, {name: run.config[name] for name in run.config}))
        except StoreError as error:
            log.warning("left out: %s", error)
    return found


def _manifest(path: Path) -> Manifest | None:
    """Return the manifest of the cache; None, with a warning, if it cannot be read."""
    try:
        return Manifest.read(path)
    except FeatcacheError as error:
        log.warning("no audio and no groups are shown: %s", error)
        return None


def _joint_manifest(workspace: Workspace, corpora: Sequence[str]) -> Manifest | None:
    """Return the utterances of several corpora, with the ids that their runs use; None if no cache can be read."""
    found = [(name, _manifest(workspace.cache(name) / "manifest.csv")) for name in corpora]
    utterances = [u for name, manifest in found if manifest for u in joint_utterances(name, manifest)]
    return Manifest(utterances) if utterances else None


def _audio_folder(usual: Path, data: str | os.PathLike[str] | None) -> Path | None:
    folder = usual if data is None else Path(data)
    if data is not None and not folder.exists():
        raise StoreError(f"--data {folder}: no such folder")
    if folder.is_file():  # the manifest of a corpus, beside its audio
        return folder.parent
    return folder if folder.is_dir() else None


def _audio_notes(corpus: str, manifest: Manifest | None, root: Path | None, audio: AudioLinks | None) -> list[str]:
    if manifest is None:
        return []
    if root is None:
        return [f"The audio of {corpus} was not found; featcache report --data PATH names its folder."]
    if audio is None:
        return ["The audio is on another drive than the pages, so they cannot link to it."]
    if audio.missing:
        return [f"Audio that was not found: {len(audio.missing)} of {len(manifest)} utterances."]
    return []


def _of_run(
    run: RunFolder,
    config: Mapping[str, Any],
    title: str,
    manifest: Manifest | None,
    audio: AudioLinks | None,
    pages: Path,
    folder: Path,
) -> tuple[dict[str, Any], bytes]:
    """Return the entry of a run on the page over all runs, and its own page."""
    for name in _COUNTS if "bootstrap" in run.metrics else ():
        run.metrics[name]  # an error names what is missing
    validation = validation_scores(run)
    table = tested_rows(run)
    details = None if table is None else details_of(table, config, manifest, audio, transcripts=True)
    score = main_score(run, validation)
    own = run.path / REPORT
    report = (address_of(own, folder) or "") if own.is_file() else ""
    links = [(f"../{REPORT}", "All runs")]
    if report:
        links.append((address_of(own, pages) or "", "Report of the fit, with its notes and warnings"))
    page = report_page(
        title=run.name,
        settings={name: value for name, value in config.items() if name not in (HEAD_INPUTS, STORE_SETTINGS)},
        metrics={**run.metrics, VALIDATION: validation},
        notes=[NOTES[config["norm"]]] if config.get("norm") in NOTES else [],
        warnings=[],
        images=embedded_figures(run),
        details=details,
        links=links,
    )
    entry = {
        "title": title,
        "name": run.name,
        "page": f"{PAGES}/{quote(os.fsencode(f'{run.name}.html'))}",
        "report": report,
        "date": finished_at(run),
        "config": _shown(config),
        "score": score.name if score else "",
        "scores": _scores(run.metrics, validation, score.name if score else ""),
        "always_wrong": _share_wrong(details),
        "drawn": drawn(run, score, details),
    }
    return entry, page.encode()


def _shown(config: Mapping[str, Any]) -> dict[str, str]:
    """Return the settings that have a column or a menu."""
    features, seeds = config.get("features"), config.get("seeds")
    return {
        "Features": " + ".join(map(str, features)) if isinstance(features, Mapping) else "",
        "Head": str(config.get("head", "")),
        "Normalisation": str(config.get("norm", "")),
        "Layers": str(config.get("layers", "-")),
        "Protocol": str(config.get("protocol", "")),
        "Target": str(config.get("target", "")),
        "Seeds": str(len(seeds)) if isinstance(seeds, list) else "",
    }


def _scores(metrics: Mapping[str, Any], validation: Scores, name: str) -> dict[str, Any]:
    """Return the cells of the score columns: a number to sort by, and its text."""
    found: dict[str, Any] = {}
    for part, scores in (("validation", validation), ("test", metrics)):
        for one in (name, "wa") if name == "uar" else (name,):
            score = scores.get(one)
            if score and score["mean"] is not None:
                found[f"{part} {one}"] = [score["mean"], mean_and_std(score["mean"], score["std"], digits_of(one))]
    bounds = (metrics.get(name) or {}).get("ci95")
    if bounds:
        found["ci"] = [bounds[0], interval(bounds, digits_of(name))]
    return found


def _share_wrong(details: RunDetails | None) -> list[Any] | None:
    if details is None or details.always_wrong is None:
        return None
    return [details.always_wrong / details.num_utterances, f"{details.always_wrong} of {details.num_utterances}"]


def _overview(corpus: str, entries: Sequence[Mapping[str, Any]], notes: Sequence[str]) -> str:
    from featcache.report.overview_table import overview_table

    table = overview_table(entries)
    return render(
        "overview.html.jinja",
        scripts=SCRIPTS,
        title=f"Runs of {corpus}",
        number=len(entries),
        several=any(one["config"]["Seeds"] not in ("", "1") for one in entries),
        notes=notes,
        table=table,
        entries=entries,
        runs=script_data({"table": table, "runs": [{"title": one["title"], **one["drawn"]} for one in entries]}),
    )
