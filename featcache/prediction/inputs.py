"""AUDIO arguments of a prediction → a manifest of the utterances to predict, and the folder of their audio."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from featcache.cache.failures import Failure
from featcache.corpora.folder_contents import AUDIO_SUFFIXES
from featcache.corpora.plain_audio import plain_utterances
from featcache.errors import AudioError, CorpusError, FeatcacheError, ManifestError
from featcache.extraction.inputs import AudioInput
from featcache.extraction.summary import failures_of
from featcache.manifest import Manifest
from featcache.prediction.audio_sources import AudioSource, absolute, find_source
from featcache.prediction.sliding import MOST_WINDOWS, check_windows, num_windows, windows_of
from featcache.prediction.speakers import with_speakers
from featcache.terminal.escape import escaped
from featcache.terminal.progress import map_in_threads
from featcache.threads import available_cores
from featcache.units import counted
from featcache.utterances import Utterance
from featcache.workspace import Workspace

NOT_TEXT = "its name is not UTF-8 text; rename the file"


@dataclass(frozen=True, kw_only=True)
class AudioRequest:
    """Utterances to predict.

    Attributes:
        manifest: The utterances, or their windows. ``speaker_id`` is empty if the speaker is unknown; labels are
            optional.
        root: Folder that the paths are relative to.
        speakers_known: Whether every utterance has a speaker.
        corpus: Name of the corpus, if the audio is a single corpus.
        cache: Cache of that corpus, if it has all of these utterances. Their audio was not compared.
        failures: Files that cannot be read; they are not in the manifest.
    """

    manifest: Manifest
    root: Path
    speakers_known: bool
    corpus: str | None
    cache: Path | None
    failures: Sequence[Failure]


def collect(
    audio: Sequence[str],
    *,
    workspace: Workspace,
    layout: str | None = None,
    speaker_from: str | None = None,
    one_speaker: bool = False,
    window: float | None = None,
    hop: float | None = None,
    limit: int | None = None,
    reads_audio: bool = True,
) -> AudioRequest:
    """Find the utterances to predict, and divide them into windows.

    Paths are relative to the given folder, or to the folder of the table. For files, and for several arguments, they
    are relative to the current folder if all arguments are, otherwise to the folder that contains all of them.

    Args:
        audio: Files, folders, tables of utterances, and names of corpora.
        workspace: Folder of corpora, caches and runs.
        layout: Name or reference of the known corpus, if the files do not show it.
        speaker_from: Regular expression that is searched in each path; its group, or the whole match without one, is
            the speaker.
        one_speaker: Whether one person speaks in all utterances.
        window: Length of windows in seconds; None predicts whole utterances.
        hop: Time between the starts of two windows in seconds; None for the length of a window.
        limit: Size of a random subset of the utterances; None for all.
        reads_audio: Whether the audio is needed; False if only transcripts are read.

    Returns:
        The utterances, and the files that cannot be read.

    Raises:
        AudioError: none of the files can be read.
        CorpusError: there is no such file, folder or corpus, or a folder has no audio.
        ManifestError: a table is faulty, or options for windows or speakers cannot be used.
    """
    check_windows(window, hop)
    if not audio:
        raise CorpusError("nothing to predict: give files, folders, a manifest.csv or the name of a corpus")
    sources = [find_source(argument, workspace, layout) for argument in audio]
    root = _common_root(audio, sources)
    utterances, unnamed = _named(_together(sources, root))
    if not utterances:
        raise _nothing_found(audio, unnamed)
    only = sources[0] if len(sources) == 1 else None
    whole, speakers_known = with_speakers(
        Manifest(utterances).limited(limit), speaker_from=speaker_from, one_speaker=one_speaker
    )
    has_audio = all(source.has_audio for source in sources)
    if window is not None and not has_audio:
        raise CorpusError("--window needs the audio, but only a cache was found; give the folder of the audio")
    failures = list(unnamed)
    if has_audio and reads_audio:
        source = AudioInput(root)
        whole, failed = _readable(source, whole)
        failures += failed
        if window is not None:
            whole = _divided(source, whole, window, window if hop is None else hop)
    return AudioRequest(
        manifest=Manifest(whole),
        root=root,
        speakers_known=speakers_known,
        corpus=only.corpus if only else None,
        cache=only.cache if only and window is None else None,
        failures=tuple(failures),
    )


def _nothing_found(audio: Sequence[str], unnamed: Sequence[Failure]) -> FeatcacheError:
    if unnamed:
        return AudioError(f"none of {counted(len(unnamed), 'file')} can be read: {unnamed[0].path}: {NOT_TEXT}")
    return CorpusError(f"no audio in {', '.join(map(repr, audio))}; expected files such as {', '.join(AUDIO_SUFFIXES)}")


def _common_root(audio: Sequence[str], sources: Sequence[AudioSource]) -> Path:
    """Return the folder that all paths are made relative to."""
    if len(sources) == 1 and not sources[0].is_file:
        return sources[0].root
    here = Path.cwd()
    given = map(Path, audio)
    if all(not path.is_absolute() and ".." not in path.parts for path in given) and all(
        source.root.is_relative_to(here) for source in sources
    ):
        return here
    try:
        return Path(os.path.commonpath([absolute(source.root) for source in sources]))
    except ValueError as error:  # on Windows
        raise CorpusError("the audio is on several drives; predict each drive in its own call") from error


def _together(sources: Sequence[AudioSource], root: Path) -> list[Utterance]:
    """Return the utterances of all sources with paths relative to the root; a file that is given twice occurs once.

    The id of a whole file is made of its path. Ids and speakers of several tables get the folder of their table as
    prefix, because different people may be speaker 1 in each.
    """
    tables = [_moved(source, root) for source in sources if not source.is_plain]
    taken = {u.path for moved in tables for u in moved if u.start is None and u.end is None}
    paths = dict.fromkeys(_relative(s, u.path, root) for s in sources if s.is_plain for u in s.utterances)
    plain = {u.path: u for u in plain_utterances([path for path in paths if path not in taken])}
    found: list[Utterance] = []
    for source in sources:
        if source.is_plain:
            of_source = (plain.pop(_relative(source, u.path, root), None) for u in source.utterances)
            found += [u for u in of_source if u is not None]
        else:
            moved = tables.pop(0)
            found += [] if moved in tables else moved
    return found


def _moved(source: AudioSource, root: Path) -> list[Utterance]:
    if source.root == root:
        return list(source.utterances)
    folder = _relative(source, "", root)
    return [
        replace(
            u,
            path=f"{folder}/{u.path}",
            utterance_id=f"{folder}/{u.utterance_id}",
            speaker_id=u.speaker_id and f"{folder}/{u.speaker_id}",
        )
        for u in source.utterances
    ]


def _relative(source: AudioSource, path: str, root: Path) -> str:
    return path if source.root == root else Path(os.path.relpath(source.root / path, root)).as_posix()


def _named(utterances: Iterable[Utterance]) -> tuple[list[Utterance], list[Failure]]:
    """Return the utterances whose names can be stored, and failures for the others."""
    named, failures = [], []
    for utterance in utterances:
        try:
            utterance.path.encode()
            named.append(utterance)
        except UnicodeEncodeError:
            failures.append(_failure(utterance, NOT_TEXT))
    return named, failures


def _failure(utterance: Utterance, reason: str) -> Failure:
    name, path = escaped(utterance.utterance_id), escaped(utterance.path)
    return Failure(store="", utterance_id=name, path=path, reason=reason)


def _readable(source: AudioInput, utterances: Sequence[Utterance]) -> tuple[list[Utterance], list[Failure]]:
    """Return the utterances whose headers can be read, and failures for the others.

    Raises:
        AudioError: no header can be read.
    """
    map_in_threads(
        source.prepare, list(dict.fromkeys(u.path for u in utterances)), available_cores(), "reading headers"
    )
    reasons = {u.utterance_id: reason for u in utterances if (reason := source.unreadable(u)) is not None}
    failures = failures_of(reasons, "", utterances)
    return [u for u in utterances if u.utterance_id not in failures], list(failures.values())


def _divided(source: AudioInput, utterances: Sequence[Utterance], window: float, hop: float) -> list[Utterance]:
    """Return the windows of all utterances, in order."""
    lengths = [source.probe(utterance) for utterance in utterances]
    number = sum(num_windows(*length, window, hop) for length in lengths)
    if number > MOST_WINDOWS:
        raise ManifestError(
            f"--window {window:g} --hop {hop:g} gives {number} windows, more than {MOST_WINDOWS}; "
            "choose a longer hop, or predict fewer recordings at a time"
        )
    return [
        part
        for utterance, (num_samples, rate) in zip(utterances, lengths, strict=True)
        for part in windows_of(utterance, num_samples, rate, window=window, hop=hop)
    ]
