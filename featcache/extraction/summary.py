"""What an extraction did, in words and in ``failures.csv``."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from featcache.cache.failures import Failure
from featcache.errors import AudioError, listed
from featcache.extraction.inputs import SECONDS, TOKENS
from featcache.manifest import Utterance
from featcache.terminal.escape import escaped

TOLD_AT_ONCE = 3
MOST_LINES = 100
GOES_ON = "stopped before the end; the same command goes on from here"


@dataclass(frozen=True, kw_only=True)
class ExtractionReport:
    """What an extraction did or, with ``dry_run``, would do.

    Attributes:
        cache: The corpus's folder of stores.
        stores: The names of the stores that were filled.
        num_utterances: How many were asked for.
        num_extracted: How many were computed now, for at least one store; the others were there.
        planned_bytes: What was to be written, as told at the start.
        audio_seconds: Length of the audio that was computed now.
        num_tokens: How many were computed now, of an extractor that reads words.
        seconds: Time that took.
        interrupted: Whether Ctrl-C ended it early.
        failures: What could not be extracted, or cannot be by its headers.
        ends_early: The ids of utterances whose files lack their end; what there is of them was extracted.
    """

    cache: Path
    stores: tuple[str, ...]
    num_utterances: int
    num_extracted: int
    planned_bytes: int
    audio_seconds: float
    num_tokens: int
    seconds: float
    interrupted: bool
    failures: tuple[Failure, ...]
    ends_early: tuple[str, ...] = ()


def failures_of(reasons: Mapping[str, str], store: str, wanted: Sequence[Utterance]) -> dict[str, Failure]:
    """Make failures of what headers tell beforehand.

    Args:
        reasons: Utterance id → why nothing can be read of it.
        store: The name of the store that would lack it.
        wanted: All utterances that were asked for.

    Raises:
        AudioError: nothing can be read of any of them.
    """
    if reasons and len(reasons) == len(wanted):
        counts = Counter(reasons.values()).most_common()
        told = [reason if number == 1 else f"{reason} ({number} utterances)" for reason, number in counts]
        more = f"; and {len(told) - TOLD_AT_ONCE} more" if len(told) > TOLD_AT_ONCE else ""
        raise AudioError(f"none of the {len(wanted)} utterances can be read: {'; '.join(told[:TOLD_AT_ONCE])}{more}")
    return {
        u.utterance_id: Failure(store=store, utterance_id=u.utterance_id, path=u.path, reason=reasons[u.utterance_id])
        for u in wanted
        if u.utterance_id in reasons
    }


def summarise_dry_run(num_utterances: int, failures: Sequence[Failure]) -> str:
    """What a dry run found that cannot be read, a line for each reason; nothing where there is none."""
    if not failures:
        return ""
    counts = Counter(failure.reason for failure in failures).most_common()
    lines = [f"{len(failures)} of {num_utterances} utterances cannot be read:"]
    lines += [f"  {reason}" if number == 1 else f"  {reason} ({number} utterances)" for reason, number in counts]
    if len(lines) > MOST_LINES:
        lines[MOST_LINES:] = [f"  and {len(lines) - MOST_LINES} more"]
    return "\n".join(map(escaped, lines))


def lines_on_failures(failures: Sequence[Failure], table: str | Path = "failures.csv") -> list[str]:
    """Return how many utterances failed and why the first one did, in one line; none if none failed.

    Args:
        failures: Of one or several stores.
        table: Where all of them are listed.
    """
    failed = {failure.utterance_id for failure in failures}
    if not failed:
        return []
    first = failures[0]
    return [f"{len(failed)} failed, listed in {table}; first: {first.utterance_id!r}: {first.reason}"]


def summarise_report(report: ExtractionReport) -> str:
    """An extraction in a few lines for the terminal."""
    lines = []
    if not (report.num_extracted or report.failures or report.interrupted):
        lines.append(f"nothing to do: all {report.num_utterances} utterances are cached")
    else:
        unit, length = (TOKENS, report.num_tokens) if report.num_tokens else (SECONDS, report.audio_seconds)
        lines.append(
            f"{report.num_extracted} of {report.num_utterances} utterances extracted, {unit.describe(length)} in "
            f"{report.seconds:.0f} s ({unit.describe_speed(length, max(report.seconds, 1e-9))})"
        )
    lines += lines_on_failures(report.failures)
    if report.ends_early:
        lines.append(
            f"{len(report.ends_early)} end early, because the end of their files is missing: "
            f"{listed(report.ends_early, at_most=10)}"
        )
    if report.interrupted:
        lines.append(GOES_ON)
    lines += [str(report.cache / name) for name in report.stores]
    return "\n".join(map(escaped, lines))
