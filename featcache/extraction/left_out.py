"""Request, failures → number of utterances and files that an extraction left out, for each reason."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping

from featcache.cache.failures import Failure
from featcache.extraction.resolve import ExtractionRequest
from featcache.units import counted

_MOST_REASONS = 10
_NUMBER = re.compile(r"\d+(?:\.\d+)?")


def count_left_out(request: ExtractionRequest, failures: Iterable[Failure]) -> dict[str, int]:
    """Return reason → number of utterances or files, the most frequent failures first.

    Args:
        request: The request.
        failures: Utterances that could not be extracted, once for each store in which they are missing.
    """
    files, place = request.place.files, request.place
    counts = {
        "audio files outside the corpus": len(files.ignored) if files else 0,
        "in the label files, but without audio": len(files.missing) if files else 0,
        f"not chosen by --limit {request.options.limit}": len(place.manifest)
        - len(request.requested)
        - request.num_failed_before,
        "failed in the store of the run": request.num_failed_before,
        "in the other parts": len(request.requested) - len(request.wanted),
    }
    reasons = {failure.utterance_id: _without_details(failure) for failure in failures}
    counts |= dict(Counter(reasons.values()).most_common())
    return {reason: number for reason, number in counts.items() if number}


def lines_on_left_out(counts: Mapping[str, int]) -> list[str]:
    """Return how many utterances and files were left out, a line for each reason; an empty list if there are none."""
    if not counts:
        return []
    lines = [f"  {number} {reason}" for reason, number in counts.items()]
    if len(lines) > _MOST_REASONS:
        others = sum(list(counts.values())[_MOST_REASONS:])
        lines[_MOST_REASONS:] = [f"  {others} for {counted(len(counts) - _MOST_REASONS, 'other reason')}"]
    return [f"left out: {sum(counts.values())}", *lines]


def _without_details(failure: Failure) -> str:
    """Return the reason of a failure without the path and the numbers of this file, so that reasons can be counted."""
    reason = failure.reason.removeprefix(f"{failure.path}: ")
    return "failed: " + _NUMBER.sub("N", reason)
