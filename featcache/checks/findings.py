"""Kinds of findings, and findings → ``findings.csv``."""

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from featcache.files.regular import CsvRows
from featcache.manifest import Utterance

COLUMNS = ("kind", "attention", "utterance_id", "path", "speaker_id", "found", "advice")


@dataclass(frozen=True, kw_only=True)
class FindingKind:
    """A kind of finding.

    Attributes:
        title: Name for readers.
        advice: What the user can do.
        attention: Whether it needs attention; other kinds are notes, which do not change the exit code.
    """

    title: str
    advice: str
    attention: bool = True


KINDS = {
    "missing-file": FindingKind(
        title="Missing files", advice="Get these files, or remove their rows from the table of the corpus."
    ),
    "pointer": FindingKind(
        title="Git LFS and git-annex pointers",
        advice="Get the content of these files with 'git lfs pull' or 'git annex get'.",
    ),
    "empty-file": FindingKind(title="Empty files", advice="Get these files again."),
    "unreadable-file": FindingKind(
        title="Unreadable files", advice="Get these files again, or convert them to WAV with ffmpeg."
    ),
    "cut-file": FindingKind(
        title="Files whose end is missing", advice="Get these files again; featcache uses the part that exists."
    ),
    "segment": FindingKind(
        title="Utterances outside their files", advice="Correct start and end in the table of the corpus."
    ),
    "superfluous-file": FindingKind(
        title="Audio files outside the corpus",
        advice="Add these files to the table of the corpus, correct their names, or ignore this.",
    ),
    "identical-audio": FindingKind(title="Identical audio under several ids", advice="Keep one utterance of each set."),
    "identical-audio-apart": FindingKind(
        title="Identical audio across parts",
        advice="Keep one utterance of each set; otherwise a test contains audio that the head has learned.",
    ),
    "silence": FindingKind(title="Silent utterances", advice="Listen to them, and remove those without speech."),
    "clipping": FindingKind(
        title="Clipped utterances", advice="Listen to them; look for a version of the corpus with a lower level."
    ),
    "dc-offset": FindingKind(
        title="Utterances with a DC offset",
        advice="Remove the offset with a high-pass filter, if the recorder caused it.",
    ),
    "duration": FindingKind(
        title="Unusual durations", advice="Listen to them: they may be cut, joined, or segmented in a wrong way."
    ),
    "sampling-rate": FindingKind(
        title="Different sampling rates",
        advice="Check that the rate does not depend on the label: a head could learn the recorder, not the emotion.",
    ),
    "low-sampling-rate": FindingKind(
        title="Low sampling rates",
        advice="Speech models expect 16000 Hz: featcache resamples, but the high frequencies are missing.",
        attention=False,
    ),
    "channels": FindingKind(
        title="Different numbers of channels",
        advice="featcache averages all channels; check that each of them contains the speaker, or use --channel first.",
    ),
    "counts": FindingKind(
        title="Other numbers than published",
        advice="Get the missing files, or state in your paper which utterances you use.",
    ),
    "label-spelling": FindingKind(
        title="Values that differ in case or blanks",
        advice="Write each value in one way in the table of the corpus.",
    ),
    "rare-class": FindingKind(
        title="Classes with few utterances",
        advice="Leave these classes out, or merge them with others: their recall is not reliable.",
    ),
    "class-of-one-speaker": FindingKind(
        title="Classes of a single speaker",
        advice="Leave these classes out: a speaker-independent test cannot evaluate them.",
    ),
    "one-utterance-speaker": FindingKind(
        title="Speakers with one utterance",
        advice="Use --norm global: the statistics of one utterance are not reliable.",
    ),
    "no-label": FindingKind(
        title="Utterances without a label",
        advice="A fit leaves them out; 'featcache predict' uses them.",
        attention=False,
    ),
    "no-speaker": FindingKind(
        title="Utterances without a speaker",
        advice="Add the column speaker_id: without it, nobody sees whether a speaker is in several parts.",
        attention=False,
    ),
    "no-folds": FindingKind(
        title="No folds",
        advice="Name another protocol with --protocol, or another label with --target.",
        attention=False,
    ),
}
"""Name of a kind of finding → its description, in the order of the page."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """A problem of the corpus, or of one of its utterances or files.

    Attributes:
        kind: A key of ``KINDS``.
        found: What was found, in one line.
        utterance_id: Id of the utterance; empty if the finding is not about a single one.
        path: Path of the file, relative to the corpus folder; empty if the finding is not about a file.
        speaker_id: Speaker; empty if unknown.
    """

    kind: str
    found: str
    utterance_id: str = ""
    path: str = ""
    speaker_id: str = ""

    @property
    def needs_attention(self) -> bool:
        """Whether it is more than a note."""
        return KINDS[self.kind].attention


def finding_on(utterance: Utterance, kind: str, found: str) -> Finding:
    """Return a finding on an utterance."""
    return Finding(
        kind=kind,
        found=found,
        utterance_id=utterance.utterance_id,
        path=utterance.path,
        speaker_id=utterance.speaker_id,
    )


def in_order(findings: Iterable[Finding]) -> list[Finding]:
    """Return the findings in the order of ``KINDS``."""
    places = {kind: place for place, kind in enumerate(KINDS)}
    return sorted(findings, key=lambda one: places[one.kind])


def findings_csv(findings: Sequence[Finding]) -> bytes:
    """Return the content of ``findings.csv``: one row per finding."""
    text = io.StringIO(newline="")
    rows = CsvRows(text)
    rows.add([COLUMNS])
    rows.add(
        [
            one.kind,
            "yes" if one.needs_attention else "no",
            one.utterance_id,
            one.path,
            one.speaker_id,
            one.found,
            KINDS[one.kind].advice,
        ]
        for one in findings
    )
    return text.getvalue().encode("utf-8", "surrogateescape")
