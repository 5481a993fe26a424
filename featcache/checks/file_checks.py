"""Files of a corpus → findings on missing, empty, unreadable, cut and superfluous files."""

from collections.abc import Iterator

from featcache.checks.findings import Finding, finding_on
from featcache.checks.measure import Measurements
from featcache.corpora.base import CorpusFiles, audio_files
from featcache.corpora.embedded_audio import missing_shards
from featcache.files.audio_shards import row_in_shard


def file_findings(files: CorpusFiles, measured: Measurements) -> Iterator[Finding]:
    """Yield the findings on files.

    Args:
        files: The corpus.
        measured: Measurements of its utterances, in the order of the manifest.
    """
    for name in files.missing:
        found = "the labels of the corpus name it, but its audio is missing"
        yield Finding(kind="missing-file", found=found, utterance_id=name)
    if any(row_in_shard(utterance.path) for utterance in files.manifest):
        for told in missing_shards(files.root):
            yield Finding(kind="missing-file", found=told)
    for row, fault in sorted(measured.faults.items()):
        yield finding_on(files.manifest[row], fault.kind, fault.reason)
    for row in measured.facts["ends_early"].nonzero()[0].tolist():
        utterance = files.manifest[row]
        yield finding_on(utterance, "cut-file", f"{utterance.path}: the end of the file is missing")
    for path in superfluous(files):
        yield Finding(kind="superfluous-file", found="the corpus does not name this file", path=path)


def superfluous(files: CorpusFiles) -> list[str]:
    """Return the audio files below the corpus folder that no utterance uses, sorted."""
    used = {utterance.path for utterance in files.manifest}
    there = set(audio_files(files.root)) if files.root.is_dir() else set()
    return sorted((there | set(files.ignored)) - used)
