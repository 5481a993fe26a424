"""Transcription → report, and its summary for the terminal."""

from dataclasses import dataclass
from pathlib import Path

from featcache.cache.failures import Failure
from featcache.evaluate.wer import WordErrors, describe
from featcache.extraction.summary import GOES_ON, lines_on_failures
from featcache.terminal.escape import escaped
from featcache.units import counted


@dataclass(frozen=True, kw_only=True)
class TranscriptionReport:
    """Result of a transcription or, with ``dry_run``, its plan.

    Attributes:
        path: Path of the table of transcripts.
        num_utterances: Number of requested utterances.
        num_transcribed: Number of utterances that were transcribed in this call; earlier transcripts are kept.
        audio_seconds: Length of the audio that was transcribed in this call, in seconds.
        seconds: Duration of the transcription, in seconds.
        interrupted: Whether Ctrl-C ended the transcription early.
        failures: Utterances that could not be transcribed.
        word_errors: Comparison with the human transcripts; None if there are none, if jiwer is not installed, or if
            the transcription is not finished.
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
    """Return a summary of a transcription for the terminal, in a few lines."""
    lines = []
    if not (report.num_transcribed or report.failures or report.interrupted):
        number = counted(report.num_utterances, "utterance", "are")
        lines.append(f"nothing to do: {'all ' if report.num_utterances > 1 else ''}{number} cached")
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
