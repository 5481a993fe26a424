"""Pairwise comparisons of runs → CSV, and notes on settings that may explain a difference in scores."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from io import StringIO

from featcache.evaluate.compare import Comparison
from featcache.runs.reader import RunFolder

# Settings that should be equal when two runs are compared by features, head or normalisation.
_SAME = ("corpus", "protocol", "select")


def protocol_notes(runs: Mapping[str, RunFolder]) -> list[str]:
    """Return a note for each setting (corpus, protocol, selection) in which the runs differ.

    Args:
        runs: Label → run.
    """
    told = []
    for key in _SAME:
        values = {label: run.config.get(key) or "none" for label, run in runs.items()}
        if len({str(value) for value in values.values()}) > 1:
            each = ", ".join(f"{label} {value}" for label, value in values.items())
            told.append(
                f"The runs differ in {key}: {each}. They were tested on the same utterances but trained on different "
                "ones, which may explain the difference in scores."
            )
    return told


def comparison_csv(found: Sequence[Comparison]) -> str:
    """Return all numbers of paired comparisons as CSV."""
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
