"""What an extraction did, in words and in ``failures.csv``."""

import csv
import io
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from featcache.disk import damaged, reading, remove
from featcache.files import read_regular, replace_file

FAILURES = "failures.csv"
COLUMNS = ["utterance_id", "path", "reason"]


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
        failures: What could not be extracted.
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


def summarise_report(report: ExtractionReport) -> str:
    """An extraction in a few lines for the terminal."""
    lines = []
    if not (report.num_extracted or report.failures or report.interrupted):
        lines.append(f"nothing to do: all {report.num_utterances} utterances are there")
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
    if report.interrupted:
        lines.append("stopped before the end; the same command goes on from here")
    lines += [str(report.cache / name) for name in report.stores]
    return "\n".join(lines)


def format_bytes(size: float) -> str:
    """A size for people to read, in units of 1000."""
    if size < 1000:
        return f"{size:.0f} bytes"
    for unit in ("kB", "MB", "GB"):
        size /= 1000
        if size < 1000:
            return f"{size:.1f} {unit}"
    return f"{size / 1000:.1f} TB"


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
    table = csv.writer(text, lineterminator="\n")
    table.writerows([COLUMNS, *rows])
    replace_file(path, text.getvalue().encode())
    return {row[0] for row in rows}
