"""What an extraction did, in words and in ``failures.csv``."""

import csv
import io
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from featcache.errors import AudioError, listed
from featcache.files.disk import damaged, reading, remove
from featcache.files.regular import CsvRows, read_regular, replace_file
from featcache.manifest import Utterance
from featcache.terminal.escape import escaped

FAILURES = "failures.csv"
COLUMNS = ["utterance_id", "path", "reason"]
TOLD_AT_ONCE = 3
MOST_LINES = 100


@dataclass(frozen=True, kw_only=True)
class Failure:
    """An utterance that a store lacks, and why."""

    store: str
    utterance_id: str
    path: str
    reason: str


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


def summarise_report(report: ExtractionReport) -> str:
    """An extraction in a few lines for the terminal."""
    lines = []
    if not (report.num_extracted or report.failures or report.interrupted):
        lines.append(f"nothing to do: all {report.num_utterances} utterances are cached")
    else:
        done, seconds = f"{report.audio_seconds:.0f} s of audio", max(report.seconds, 1e-9)
        rate = f"{report.audio_seconds / seconds:.1f} x real time"
        if report.num_tokens:
            done, rate = f"{report.num_tokens} tokens", f"{report.num_tokens / seconds:.0f} tokens/s"
        lines.append(
            f"{report.num_extracted} of {report.num_utterances} utterances extracted, {done} in {report.seconds:.0f} s "
            f"({rate})"
        )
    failed = {failure.utterance_id for failure in report.failures}
    if failed:
        first = report.failures[0]
        lines.append(f"{len(failed)} failed, listed in failures.csv; first: {first.utterance_id!r}: {first.reason}")
    if report.ends_early:
        lines.append(
            f"{len(report.ends_early)} end early, because the end of their files is missing: "
            f"{listed(report.ends_early, at_most=10)}"
        )
    if report.interrupted:
        lines.append("stopped before the end; the same command goes on from here")
    lines += [str(report.cache / name) for name in report.stores]
    return "\n".join(map(escaped, lines))


def format_bytes(size: float) -> str:
    """A size for people to read, in units of 1000, with three or four digits."""
    if size < 999.5:
        return f"{size:.0f} byte{'' if round(size) == 1 else 's'}"
    units = ("kB", "MB", "GB", "TB", "PB", "EB")
    size /= 1000
    for unit in units[:-1]:
        if size < 999.95:  # which is printed with one digit after the point
            return f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} {units[-1]}"


def read_failures(folder: Path) -> list[Failure]:
    """What is listed as lacking in a store."""
    path = folder / FAILURES
    if not path.exists():
        return []
    hint = "remove it, and the next 'featcache extract' writes it again"
    try:
        with reading(path):
            text = read_regular(path).decode()
        rows = [row for row in csv.reader(io.StringIO(text, newline="")) if row][1:]
    except (ValueError, csv.Error) as error:
        raise damaged(path, str(error), hint) from error
    if any(len(row) != len(COLUMNS) for row in rows):
        raise damaged(path, f"expected {len(COLUMNS)} fields in every row", hint)
    return [Failure(store=folder.name, utterance_id=row[0], path=row[1], reason=row[2]) for row in rows]


def write_failures(folder: Path, failures: Sequence[Failure], tried: Collection[str]) -> set[str]:
    """List what a store lacks, and what other calls found that it lacks.

    Args:
        folder: The store.
        failures: Of this call.
        tried: The ids of what this call did; of these, what is in the list already is out of date.

    Returns:
        The ids of all that is in the list now.
    """
    path = folder / FAILURES
    listed = [*failures, *(failure for failure in read_failures(folder) if failure.utterance_id not in tried)]
    rows = [[failure.utterance_id, failure.path, failure.reason] for failure in listed]
    if not rows:
        remove(path)
        return set()
    text = io.StringIO(newline="")
    CsvRows(text).add([COLUMNS, *rows])
    replace_file(path, text.getvalue().encode())
    return {row[0] for row in rows}
