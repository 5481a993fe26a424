"""Scores, comparisons and ensembles → tables on the terminal."""

import csv
import itertools
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from io import StringIO
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from featcache.evaluate.compare import Comparison, compare, score_name, sentence
from featcache.evaluate.intervals import caution
from featcache.evaluate.predictions import of_run, read_predictions
from featcache.evaluate.score import score
from featcache.files import replace_file
from featcache.report.ensemble import COMBINATIONS, notes
from featcache.report.tables import interval, mean_and_std
from featcache.training.run_folder import Run, find_run, read_table, write_json
from featcache.workspace import Workspace

log = logging.getLogger(__name__)

SHORT_NAMES = {"uar": "UAR (%)", "wa": "WA (%)", "macro_f1": "Macro-F1 (%)", "ccc": "CCC", "rmse": "RMSE"}
SHORT_NAMES |= {"scaled_rmse": "RMSE, labels in [0, 1]", "pearson": "Pearson"}
_SHOWN = 10


def print_score(
    path: Path, *, columns: Mapping[str, str], classes: Sequence[str] | None, task: str | None, out: Path | None
) -> None:
    """Score anybody's predictions, and keep the numbers where asked; the arguments are those of ``read_predictions``.

    Raises:
        PredictionsError: predictions that cannot be scored.
    """
    metrics = score(read_predictions(path, columns=columns, classes=classes, task=task))
    _warn_of_few(metrics["bootstrap"]["unit"], metrics["bootstrap"]["count"], metrics["num_speakers"])
    Console().print(_score_table(metrics))
    if "recall" in metrics:
        table = _table("Class", "Recall (%)", "Utterances")
        sizes = [sum(row) for row in metrics["confusion"]["counts"]]
        for (label, recall), size in zip(metrics["recall"].items(), sizes, strict=True):
            table.add_row(Text(label), mean_and_std(recall["mean"], recall["std"]), f"{size:g}")
        Console().print(table)
    chance = f"; guessing scores a UAR of {metrics['chance_uar']:.1f}" if "chance_uar" in metrics else ""
    speakers = metrics["num_speakers"] or "unknown"
    Console().print(
        f"\n{metrics['num_utterances']} utterances, speakers: {speakers}, folds: {metrics['num_folds']}, "
        f"seeds: {metrics['num_seeds']}{chance}",
        highlight=False,
    )
    if out:
        write_json(out, metrics)


def print_comparison(names: Sequence[str], *, out: Path | None) -> None:
    """Compare runs pair by pair, and keep the table where asked.

    Raises:
        FeatcacheError: an unknown run, fewer than two, or runs that did not test the same.
    """
    workspace = Workspace.at()
    runs = [find_run(workspace, name) for name in dict.fromkeys(names)]
    labels = [run.name for run in runs]
    if len(set(labels)) < len(labels):
        labels = [str(run.path) for run in runs]
    predictions = {label: of_run(run) for label, run in zip(labels, runs, strict=True)}
    found = compare(predictions)
    speakers = set(predictions[labels[0]].table["speaker_id"]) - {""}
    _warn_of_few(found[0].unit, found[0].count, len(speakers))
    means: dict[str, list[str]] = {label: [] for label in labels}
    for comparison in found:
        told = f"{score_name(comparison.score)} {{:.{_digits(comparison.score)}f}}"
        for label, mean in ((comparison.first, comparison.first_mean), (comparison.second, comparison.second_mean)):
            means[label].append(told.format(mean))
    _print_numbered([f"{label}  {', '.join(dict.fromkeys(told))}" for label, told in means.items()])
    Console().print(_comparison_table(found, labels))
    Console().print(f"\n{_explained(found)}\n", highlight=False)
    for comparison in found:
        if comparison.score == found[0].score:  # UAR or CCC; the table tells the others
            Console().print(Text(sentence(comparison)))
    if out:
        replace_file(out, comparison_csv(found).encode())


def print_ensemble(run: Run) -> None:
    """The best combinations, what was chosen, and what the test data would have preferred."""
    combinations = read_table(run.path / COMBINATIONS)
    candidates = run.config["candidates"]
    numbers = {
        " + ".join(names): " + ".join(str(candidates.index(name) + 1) for name in names)
        for size in run.config["sizes"]
        for names in itertools.combinations(candidates, size)
    }
    _print_numbered(candidates)
    table = _table("Members", "Vote", "Validation UAR", "Test UAR (%)", "Test WA (%)")
    for row in combinations.head(_SHOWN).to_dict("records"):
        scores = (f"{row[name]:.1f}" for name in ("validation_uar", "test_uar", "test_wa"))
        table.add_row(numbers[row["members"]], row["vote"], *scores)
    console = Console()
    console.print(table)
    if len(combinations) > _SHOWN:
        console.print(f"… and {len(combinations) - _SHOWN} more in {COMBINATIONS}", highlight=False)
    uar = run.metrics["uar"]
    told = f"chosen on validation: UAR {mean_and_std(uar['mean'], uar['std'])}, 95 % CI {interval(uar['ci95'])}"
    console.print(f"\n{told}", highlight=False)
    for note in notes(run.config, run.metrics):
        console.print(Text(note))
    best = combinations.nlargest(1, "test_uar").iloc[0]
    told = f"{best['test_uar']:.1f} ({best['vote']} vote of {numbers[best['members']]})"
    console.print(Text(f"best on test: an optimistic number, do not report: {told}"))
    _warn_of_few(run.metrics["bootstrap"]["unit"], run.metrics["bootstrap"]["count"], run.metrics["num_speakers"])


def _score_table(metrics: Mapping[str, Any]) -> Table:
    digits = 1 if "recall" in metrics else 3
    over = metrics["bootstrap"]["unit"]
    table = _table("Score", "Mean ± std", f"95 % CI, {over}", *(["utterances"] * (over == "speakers")), "Mean of folds")
    for name, found in metrics.items():
        if not (isinstance(found, dict) and "ci95" in found):
            continue
        kind = next(kind for kind in SHORT_NAMES if name == kind or name.startswith(f"{kind}_"))
        label = f"{SHORT_NAMES[kind]} {name.removeprefix(kind)[1:]}".rstrip()
        intervals = [found["ci95"], *([found["ci95_utterances"]] if over == "speakers" else [])]
        cells = [mean_and_std(found["mean"], found["std"], digits), *(interval(i, digits) for i in intervals)]
        table.add_row(Text(label), *cells, mean_and_std(found["mean_over_folds"], None, digits))
    return table


def _print_numbered(labels: Sequence[str]) -> None:
    """The runs by the numbers that stand for them in a table: their names are too long for it."""
    for number, label in enumerate(labels, start=1):
        Console().print(Text(f"{number}  {label}"), soft_wrap=True)
    Console().print()


def _comparison_table(found: Sequence[Comparison], labels: Sequence[str]) -> Table:
    table = _table("Runs", "Score", "Difference", "95 % CI", "p speak.", "p utter.", "d_z", "+ : −")
    for row in found:
        digits = _digits(row.score)
        table.add_row(
            f"{labels.index(row.first) + 1} − {labels.index(row.second) + 1}",
            score_name(row.score),
            f"{row.difference:+.{digits}f}",
            interval(row.ci95, digits),
            _p_value(row.p_speakers_holm),
            _p_value(row.p_utterances_holm),
            "-" if row.effect_size is None else f"{row.effect_size:+.2f}",
            f"{row.speakers_better} : {row.speakers_worse}" if row.unit == "speakers" else "-",
        )
    return table


def _explained(found: Sequence[Comparison]) -> str:
    first = found[0]
    seeds = ", ".join(sorted({str(number) for row in found for number in row.num_seeds}))
    corrected = f" p: corrected by Holm for {first.num_pairs} pairs." if first.num_pairs > 1 else ""
    return (
        f"{first.num_utterances} utterances; scores are means over seeds ({seeds}). "
        f"95 % CI: paired bootstrap over {first.count} {first.unit}. p: permutation tests that "
        "swap the runs in whole speakers, or in single utterances, which speaks of these speakers only. d_z and "
        f"+ : −: of the speakers' own differences, mean over deviation, and how many are above and below 0.{corrected}"
    )


def comparison_csv(found: Sequence[Comparison]) -> str:
    """All numbers of paired comparisons as CSV."""
    names = [field.name for field in fields(Comparison)]
    split = {
        "ci95": ("ci95_low", "ci95_high"),
        "gain_ci95": ("gain_ci95_low", "gain_ci95_high"),
        "num_seeds": ("num_seeds_first", "num_seeds_second"),
    }
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([column for name in names for column in split.get(name, (name,))])
    for row in map(asdict, found):
        pairs = {name: (None, None) if row[name] is None else row[name] for name in split}
        writer.writerow([value for name in names for value in (pairs[name] if name in split else (row[name],))])
    return text.getvalue()


def _digits(score: str) -> int:
    return 3 if score.startswith("ccc") else 1


def _p_value(p: float | None) -> str:
    if p is None:
        return "-"
    return f"{p:.3f}" if p >= 0.001 else "< 0.001"


def _warn_of_few(unit: str, count: int, num_speakers: int) -> None:
    told = caution(unit, count, num_speakers)
    if told:
        log.warning("%s", told)


def _table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    table.add_column(Text(columns[0]), overflow="fold")
    for column in columns[1:]:
        table.add_column(Text(column), justify="right", no_wrap=True)
    return table
