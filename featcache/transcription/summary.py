"""What a transcription did, in words."""

from dataclasses import dataclass
from pathlib import Path

from featcache.cache.failures import Failure
from featcache.evaluate.wer import WordErrors, describe
from featcache.extraction.summary import GOES_ON, lines_on_failures
from featcache.terminal.escape import escaped


@dataclass(frozen=True, kw_only=True)
class TranscriptionReport:
    """What a transcription did or, with ``dry_run``, would do.

    Attributes:
        path: The table of transcripts.
        num_utterances: How many were asked for.
        num_transcribed: How many were transcribed now; the others were there.
        audio_seconds: Length of the audio that was transcribed now.
        seconds: Time that took.
        interrupted: Whether Ctrl-C ended it early.
        failures: What could not be transcribed.
        word_errors: Against the human transcripts; None where there are none, where jiwer is not installed, or
            where the transcription has not come to its end.
    """

    path: Path
    num_utterances: int
    num_transcribed: int
    audio_seconds: float
    seconds: float
    interrupted: bool
    failures: tuple[Failure, ...]
    word_errors: WordErrors | None


def summarise(report: TranscriptionReport) -> str:
    """A transcription in a few lines for the terminal."""
    lines = []
    if not (report.num_transcribed or report.failures or report.interrupted):
        lines.append(f"nothing to do: all {report.num_utterances} utterances are cached")
    else:
        rate = report.audio_seconds / max(report.seconds, 1e-9)
        lines.append(
            f"{report.num_transcribed} of {report.num_utterances} utterances transcribed, {report.audio_seconds:.0f} s "
            f"of audio in {report.seconds:.0f} s ({rate:.1f} x real time)"
        )
    lines += lines_on_failures(report.failures, report.path.with_suffix("") / "failures.csv")
    if report.word_errors:
        lines.append(describe(report.word_errors))
    if report.interrupted:
        lines.append(GOES_ON)
    else:
        lines.append(str(report.path))
    return "\n".join(map(escaped, lines))
