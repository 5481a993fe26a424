"""Finished runs, stores and tables in the output folder → the cells of the page."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from featcache.evaluate.compare import compare
from featcache.report.contrast import p_text
from featcache.report.tables import interval, mean_and_std
from featcache.runs.reader import RunFolder, load_predictions
from tests.results.commands import Case, Command
from tests.results.record import Record

NOT_RUN = "not run"
FEWEST_SPEAKERS = 6
_TEXTS = ("layer", "first", "second", "metric", "unit")


def finished(out: Path, corpus: str, run: str) -> RunFolder | None:
    """Return a finished run; None if it was not run."""
    folder = out / "data" / "runs" / corpus / run
    return RunFolder(folder) if (folder / "metrics.json").is_file() else None


def score_cells(run: RunFolder | None) -> list[str]:
    """Return UAR with its standard deviation over seeds, and its interval."""
    if run is None:
        return [NOT_RUN, ""]
    uar = run.metrics["uar"]
    return [mean_and_std(uar["mean"], uar["std"]), interval(uar["ci95"])]


def difference_cells(first: RunFolder | None, second: RunFolder | None) -> list[str]:
    """Return the difference of two runs in UAR, its interval and its p value, as ``featcache compare`` prints them."""
    if first is None or second is None:
        return ["", "", ""]
    [found] = compare({"trained": load_predictions(first), "untrained": load_predictions(second)}, score="uar")
    return [f"{found.difference:+.1f}", interval(found.ci95), p_text(found)]


def seconds_of(record: Record, commands: Sequence[Command], run: str, corpus: str) -> str:
    """Return the seconds of the command that made a run."""
    for command in commands:
        if (command.run, command.corpus) == (run, corpus):
            entry = record.succeeded(command)
            return f"{entry['seconds']:.0f}" if entry else ""
    return ""


def size_of(out: Path, case: Case, store: str) -> str:
    """Return the size of a store on disk."""
    folder = out / "data" / "cache" / case.corpus / store
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return f"{size / 1e6:.0f} MB"


def contrast_rows(folder: Path) -> list[list[str]]:
    """Return one row per layer from the table that ``featcache run trained-or-not`` wrote.

    Columns: layer, score and interval of both models, difference, its interval, p value with Holm's correction.
    """
    path = folder / "layers.csv"
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    told = []
    for row in rows:
        number = {name: float(value) for name, value in row.items() if name not in _TEXTS and value}
        scores = [
            cell
            for run in ("first_", "second_")
            for cell in (mean_and_std(number[f"{run}mean"], number.get(f"{run}std")), _interval(number, run))
        ]
        # Six speakers who all agree give p = 0.031; with fewer, no difference can reach 0.05.
        p = "-" if row["unit"] == "speakers" and number["count"] < FEWEST_SPEAKERS else f"{number['p_holm']:.2g}"
        told.append([row["layer"], *scores, f"{number['difference']:+.1f}", _interval(number), p])
    return told


def _interval(number: dict[str, float], run: str = "") -> str:
    low, high = number.get(f"{run}ci95_low"), number.get(f"{run}ci95_high")
    return interval(None if low is None or high is None else (low, high))


def probe_rows(out: Path, case: Case, figure: str) -> list[list[str]]:
    """Return layer, and the score of each store, from the table that ``featcache probe`` wrote."""
    path = out / f"{figure}.csv"
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    stores = list(dict.fromkeys(row["store"] for row in rows))
    told: dict[str, dict[str, str]] = {}
    for row in rows:
        told.setdefault(row["layer"], {})[row["store"]] = mean_and_std(float(row["mean"]), float(row["std"]))
    return [[layer, *(cells.get(store, "") for store in stores)] for layer, cells in told.items()]


def word_errors(out: Path, case: Case) -> dict[str, Any] | None:
    """Return the word errors that ``featcache transcribe`` recorded beside the transcripts."""
    path = out / "data" / "cache" / case.corpus / "transcripts" / f"{case.model}.json"
    if not path.is_file():
        return None
    found: dict[str, Any] | None = json.loads(path.read_text(encoding="utf-8")).get("wer")
    return found
