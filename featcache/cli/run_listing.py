"""Runs, finished or not → a list on the terminal, or JSON."""

import json
import logging
from collections.abc import Sequence

from featcache.cli.columns import width
from featcache.cli.named import folders_in
from featcache.cli.scores import print_numbered
from featcache.errors import StoreError, did_you_mean
from featcache.evaluate.scores import heading_of, label_of
from featcache.report.run_list import FIT, ListedRun, common_settings, listed_runs, varied_settings
from featcache.report.tables import score_table
from featcache.runs.varied import MAIN
from featcache.terminal.console import Console, print_line
from featcache.terminal.escape import escaped
from featcache.units import counted
from featcache.workspace import Workspace

log = logging.getLogger(__name__)

HINT = "Choose settings by the validation score, and report the test score."
NOT_RECORDED = "A dash: the run has no such score."


def print_run_list(corpus: str | None, *, as_json: bool) -> None:
    """Print the runs of a corpus, or of all corpora.

    Args:
        corpus: Name of the corpus, or None.
        as_json: Whether to print JSON, with all settings of each run.

    Raises:
        StoreError: There are no runs.
    """
    workspace = Workspace.at()
    runs = listed_runs(workspace, corpus)
    if as_json:
        print(json.dumps([run.to_json() for run in runs], indent=1))
        return
    if not runs:
        folder = workspace.home / "runs" if corpus is None else workspace.runs(corpus)
        near = "" if corpus is None else did_you_mean(corpus, [path.name for path in folders_in(folder.parent)])
        raise StoreError(f"no runs under {folder}; make one with 'featcache fit'{near}")
    same = common_settings(runs, MAIN)
    if same and len(runs) > 1:
        print_line(f"all {counted(len(runs), 'run')}: {', '.join(f'{name} {value}' for name, value in same.items())}")
        print_line()
    _print_table(runs, varied_settings(runs) if len(runs) > 1 else [name for name in MAIN if name in runs[0].settings])
    print_line(HINT)
    if any(one.finished and None in (one.validation, one.test) for one in runs):
        print_line(NOT_RECORDED)
    for one in runs:
        if one.command:
            print_line()
            print_line(f"{one.name} is not finished ({one.state}); continue it with:")
            print(escaped(one.command))


def _print_table(runs: Sequence[ListedRun], settings: Sequence[str]) -> None:
    """Print a row per run; if names are too long for the terminal, rows have numbers and the names follow."""
    metrics = list(dict.fromkeys(one.metric for one in runs if one.metric))
    if len(metrics) == 1:
        several = any("±" in one.score(part) for one in runs for part in ("validation", "test"))
        print_line(f"{heading_of(metrics[0])}{', mean ± standard deviation over seeds' if several else ''}")
    columns = {name.rpartition(".")[2]: [one.settings.get(name, "-") for one in runs] for name in settings}
    for part in ("validation", "test"):
        labels = [f"{label_of(one.metric)} " if one.metric and len(metrics) > 1 else "" for one in runs]
        columns[part.capitalize()] = [f"{label}{one.score(part)}" for label, one in zip(labels, runs, strict=True)]
    columns["Date"] = [one.date[:10] for one in runs]
    if any(one.state != FIT for one in runs):
        columns["State"] = [one.state.removesuffix("s").removesuffix(" training") for one in runs]
    names, console = [one.name for one in runs], Console()
    # Settings may be folded between words, but names are not: they are copied.
    words = {name: [word for cell in cells for word in cell.split()] for name, cells in columns.items()}
    words = {**columns, **{name: words[name] for name in list(columns)[: len(settings)]}}
    numbered = width({"Run": names, **words}) > console.width
    shown = [str(number) for number in range(1, len(runs) + 1)] if numbered else names
    named = list(columns)[: len(settings)]
    room = {"Run": shown, **{name: cells for name, cells in words.items() if name not in named}}
    for name in named:  # the first ones are the most important
        if width({**room, name: words[name]}) <= console.width:
            room[name] = words[name]
    left_out = [name for name in named if name not in room]
    columns = {name: cells for name, cells in columns.items() if name not in left_out}
    table = score_table("Run", *columns)
    for column in table.columns[1 : len(settings) - len(left_out) + 1]:
        column.justify, column.no_wrap, column.overflow = "left", False, "fold"
    for row in zip(shown, *columns.values(), strict=True):
        table.add_row(*row)
    console.print(table)
    if left_out:
        print_line(f"(not shown, for lack of space: {', '.join(left_out)})")
    print_line()
    if numbered:
        print_numbered(names)
