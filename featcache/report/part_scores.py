"""Run → its scores on the test part or the validation part."""

from collections.abc import Mapping
from typing import Any

from featcache.evaluate.scores import is_score
from featcache.runs.reader import RunFolder
from featcache.runs.validation import validation_scores

TEST, VALIDATION = "test", "validation"


def part_scores(run: RunFolder, part: str) -> dict[str, Mapping[str, Any]]:
    """Return name → ``mean``, ``std`` and ``per_seed`` of each score; empty if the run has no scores of the part.

    Args:
        run: A finished run.
        part: ``test`` or ``validation``.
    """
    found = run.metrics if part == TEST else validation_scores(run)
    return {name: value for name, value in found.items() if isinstance(value, Mapping) and is_score(name)}
