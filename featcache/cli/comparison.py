"""Runs → pairwise comparisons: a table and sentences on the terminal, and a CSV file."""

import logging
from collections.abc import Sequence
from pathlib import Path

from featcache.cli.scores import print_numbered
from featcache.evaluate.compare import Comparison, compare, sentences
from featcache.evaluate.intervals import ONE_SEED, caution
from featcache.evaluate.scores import chance_of, digits_of, label_of
from featcache.files.regular import replace_file
from featcache.report.pairs import comparison_csv, protocol_notes
from featcache.report.tables import check_suffix, interval, score_table
from featcache.runs.chosen import chosen_runs, labels_of
from featcache.runs.reader import load_predictions
from featcache.terminal.console import Console, Table, print_line

log = logging.getLogger(__name__)


def print_comparison(names: Sequence[str], *, out: Path | None) -> None:
    """Compare runs pairwise, and print the comparisons.

    Args:
        names: Names or folders of runs, or patterns, see :func:`~featcache.runs.chosen.chosen_runs`.
        out: CSV file for the table, or None.

    Raises:
        FeatcacheError: A run is unknown, fewer than two runs are given, the runs have different test utterances, or the
            suffix of the file is not ``.csv``.
    """
    check_suffix(out, ".csv")
    runs = chosen_runs(names, least=2)
    labels = labels_of(runs)
    predictions = {label: load_predictions(run) for label, run in zip(labels, runs, strict=True)}
    found = compare(predictions)
    speakers = set(predictions[labels[0]].table["speaker_id"]) - {""}
    few = caution(found[0].unit, found[0].count, len(speakers))
    if few:
        log.warning("%s", few)
    means: dict[str, list[str]] = {label: [] for label in labels}
    for comparison in found:
        told = f"{label_of(comparison.score)} {{:.{digits_of(comparison.score)}f}}"
        for label, mean in ((comparison.first, comparison.first_mean), (comparison.second, comparison.second_mean)):
            means[label].append(told.format(mean))
    print_numbered([f"{label}  {', '.join(dict.fromkeys(told))}" for label, told in means.items()])
    Console().print(_comparison_table(found, labels))
    print_line()
    print_line(_explained(found))
    if chance := chance_of(runs[0].metrics):
        print_line(chance)
    print_line()
    for told in sentences([one for one in found if one.score == found[0].score]):  # The table has the other scores.
        print_line(told)
    for note in protocol_notes(dict(zip(labels, runs, strict=True))):
        print_line(note)
    if out:
        replace_file(out, comparison_csv(found).encode())


def _comparison_table(found: Sequence[Comparison], labels: Sequence[str]) -> Table:
    table = score_table(
        "Runs",
        "Score",
        "Difference",
        "95 % CI",
        "p over speakers",
        "p over utterances",
        "Effect size d_z",
        "Better:worse",
    )
    for column in table.columns[-4:]:
        column.no_wrap = False  # Their cells are single words; their headers are folded to fit 80 columns.
    for row in found:
        digits = digits_of(row.score)
        table.add_row(
            f"{labels.index(row.first) + 1} − {labels.index(row.second) + 1}",
            label_of(row.score),
            f"{row.difference:+.{digits}f}",
            interval(row.ci95, digits),
            _p_value(row.p_speakers_holm),
            _p_value(row.p_utterances_holm),
            "-" if row.effect_size is None else f"{row.effect_size:+.2f}",
            f"{row.speakers_better}:{row.speakers_worse}" if row.unit == "speakers" else "-",
        )
    return table


def _explained(found: Sequence[Comparison]) -> str:
    first = found[0]
    numbers = sorted({number for row in found for number in row.num_seeds})
    several, counts = max(numbers) > 1, ", ".join(map(str, numbers))
    seeds = f"scores are means over seeds (number of seeds: {counts})" if several else "one seed"
    corrected = f" The p-values are Holm-corrected for {first.num_pairs} pairs." if first.num_pairs > 1 else ""
    and_seeds = " and the seeds" if several else ""
    one_seed = f" {ONE_SEED}." if any(1 in row.num_seeds for row in found) else ""
    return (
        f"{first.num_utterances} utterances; {seeds}. "
        f"95 % CI: confidence interval of the paired difference over {first.count} {first.unit}{and_seeds}, from "
        "variance components. p: two-sided p-values of the difference, over speakers, or over single utterances; the "
        "latter is valid for these speakers only. Effect size d_z: mean of the speakers' differences divided by their "
        "standard deviation. Better:worse: number of speakers with a difference above 0 and below 0."
        f"{corrected}{one_seed}"
    )


def _p_value(p: float | None) -> str:
    if p is None:
        return "-"
    return f"{p:.3f}" if p >= 0.001 else "<0.001"
