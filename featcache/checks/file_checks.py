"""Files of a corpus → findings on missing, empty, unreadable, cut and superfluous files."""

import os
from collections.abc import Iterator

from featcache.checks.findings import Finding, finding_on
from featcache.checks.measure import Measurements
from featcache.corpora.base import CorpusFiles
from featcache.corpora.embedded_audio import missing_shards
from featcache.corpora.folder_contents import audio_files, is_media
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
    """Return the audio files below the corpus folder that no utterance uses, sorted.

    Files of another kind that corpora distribute beside their audio are not superfluous: videos (and other files that
    only FFmpeg decodes) if no utterance has their suffix, and copies of used files in another format.
    """
    used = {utterance.path for utterance in files.manifest}
    there = set(audio_files(files.root)) if files.root.is_dir() else set()
    suffixes = {_split(path)[1] for path in used}
    formats: dict[str, set[str]] = {}
    for path in used:
        name, suffix = _split(path)
        formats.setdefault(name, set()).add(suffix)

    def is_beside(path: str) -> bool:
        name, suffix = _split(path)
        return (is_media(path) and suffix not in suffixes) or suffix not in formats.get(name, {suffix})

    return sorted(path for path in (there | set(files.ignored)) - used if not is_beside(path))


def _split(path: str) -> tuple[str, str]:
    """Return the name of a file without its folders and suffix, and its suffix in lower case."""
    stem, suffix = os.path.splitext(path)
    return stem.rpartition("/")[2], suffix.lower()
