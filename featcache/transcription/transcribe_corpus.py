"""Manifest × Whisper → ASR transcripts, stored next to the human transcripts.

Each utterance is transcribed separately; on a CPU, by a single thread. Therefore a transcript depends neither on the
other utterances nor on the number of workers. Each transcript is added to a journal when it is finished; the table is
written at the end.
"""

import logging
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from featcache.audio.known_files import KNOWN_FILES
from featcache.cache.failures import Failure, write_failures
from featcache.cache.identity import StoreIdentity
from featcache.cache.locks import lock_if_writable
from featcache.corpora import CorpusFiles
from featcache.errors import AudioError, MissingPackageError, ModelError, listed
from featcache.evaluate.wer import WordErrors, word_errors
from featcache.extraction.inputs import ENDS_EARLY, AudioInput
from featcache.extraction.locate import LocatedCorpus, compare_audio, find_files, keep_manifest
from featcache.extraction.plan import counted_work
from featcache.extraction.summary import failures_of
from featcache.extractors import usable_device
from featcache.extractors.models import short_name
from featcache.manifest import Manifest, Utterance
from featcache.registry import naming
from featcache.settings.checked import configured
from featcache.settings.extractions import TranscribeSettings, Weights
from featcache.settings.public import documented, without
from featcache.terminal.progress import map_in_threads
from featcache.threads import available_cores, one_thread_each
from featcache.transcription.journal import Entry, Journal
from featcache.transcription.memory import check_memory
from featcache.transcription.run import TranscriptionRun, UntranscribedUtterance
from featcache.transcription.summary import TranscriptionReport
from featcache.transcription.whisper import Transcriber
from featcache.transcripts.files import (
    FOLDER,
    JOURNAL,
    checked_name,
    is_finished,
    mark_unfinished,
    table_path,
    write_transcripts,
)
from featcache.units import counted
from featcache.workspace import Workspace

log = logging.getLogger(__name__)


@documented("featcache.transcribe", TranscribeSettings, expand=naming("layout"))
def transcribe(
    *,
    model: str = "whisper-tiny",
    corpus: str | None = None,
    data: str | os.PathLike[str] | None = None,
    layout: str | None = None,
    speaker_from: str | None = None,
    name: str | None = None,
    language: str | None = None,
    limit: int | None = None,
    device: str = "auto",
    workers: int | None = None,
    strict: bool = False,
    overwrite: bool = False,
    dry_run: bool = False,
    weights: Weights | None = None,
    revision: str | None = None,
    home: str | os.PathLike[str] | None = None,
) -> TranscriptionReport:
    """Transcribe a corpus with Whisper; a second call continues an interrupted one.

    Args:
        home: Folder of corpora, caches and runs [default: ``$FEATCACHE_HOME``, or ``data``].

    Returns:
        Path of the table, number of transcribed utterances, failures, and word errors if there are human transcripts.

    Raises:
        FeatcacheError: no corpus or several corpora match; the model is not a Whisper model or cannot be loaded; the
            model does not support the language; transcripts of this name have other settings or are being written by
            another process; with ``strict``, an utterance failed. Finished transcripts are kept.
        TypeError: a keyword is not an option of this function.

    Example:
        >>> report = featcache.transcribe(model="whisper-tiny", data="path/to/audio", language="en")
        >>> report.num_transcribed == report.num_utterances
        True
    """
    asked = configured(TranscribeSettings, without(locals(), "home"))
    if asked.weights == "random":
        raise ModelError(
            f"--weights random: an untrained {asked.model} cannot transcribe; leave out --weights, or use a folder "
            "that contains weights and a tokenizer"
        )
    workspace = Workspace.at(home)
    corpus_name, files = find_files(workspace, asked.corpus, asked.data, asked.layout, asked.speaker_from)
    cache = workspace.cache(corpus_name)
    request = TranscriptionRequest(
        name=checked_name(cache, short_name(asked.model) if asked.name is None else asked.name),
        cache=cache,
        files=files,
        wanted=list(files.manifest.limited(asked.limit)),
        workers=asked.workers or available_cores(),
        strict=asked.strict,
        overwrite=asked.overwrite,
        dry_run=asked.dry_run,
    )
    place = LocatedCorpus(cache=cache, root=files.root, manifest=files.manifest, files=files)
    compare_audio(place, request.wanted, (), request.workers, request.source)
    device = usable_device(asked.device)
    log.info("loading %s", asked.model)
    transcriber = Transcriber(asked.model, language=asked.language, revision=asked.revision, device=device)
    return carry_out(request, transcriber)


@dataclass(frozen=True, kw_only=True)
class TranscriptionRequest:
    """Request for a transcription, with all defaults filled in.

    Attributes:
        name: Name of the transcripts.
        cache: Cache folder of the corpus, with its stores and transcripts.
        files: Manifest and folder of the corpus.
        wanted: Requested utterances.
        workers: Number of threads.
        strict: Whether the first utterance that fails ends the transcription.
        overwrite: Whether existing transcripts of the same name are discarded.
        dry_run: Whether only the plan is reported, and nothing is transcribed or written.
    """

    name: str
    cache: Path
    files: CorpusFiles
    wanted: Sequence[Utterance]
    workers: int
    strict: bool
    overwrite: bool
    dry_run: bool

    @property
    def folder(self) -> Path:
        """Folder of the journal."""
        return self.cache / FOLDER / self.name

    @cached_property
    def source(self) -> AudioInput:
        """Audio of the corpus."""
        return AudioInput(self.files.root, self.cache / KNOWN_FILES)

    def report(
        self,
        done: Sequence[UntranscribedUtterance],
        *,
        seconds: float = 0.0,
        interrupted: bool = False,
        failures: Sequence[Failure] = (),
    ) -> TranscriptionReport:
        """Return the report of a transcription or, for a dry run, of its plan.

        Args:
            done: Utterances that were transcribed or, for a dry run, would be.
            seconds: Duration of the transcription, in seconds.
            interrupted: Whether Ctrl-C ended the transcription early.
            failures: Utterances that could not be transcribed.
        """
        return TranscriptionReport(
            path=table_path(self.cache, self.name),
            num_utterances=len(self.wanted),
            num_transcribed=len(done),
            audio_seconds=sum(item.seconds for item in done),
            seconds=seconds,
            interrupted=interrupted,
            failures=tuple(failures),
            word_errors=None,
        )


def carry_out(request: TranscriptionRequest, transcriber: Transcriber) -> TranscriptionReport:
    """Transcribe the utterances that have no valid transcript, and write the table.

    Args:
        request: The request.
        transcriber: The model.

    Returns:
        The report.

    Raises:
        FeatcacheError: as :func:`transcribe`.
    """
    with ExitStack() as stack:
        unwritable = None if request.dry_run else lock_if_writable(stack, [request.folder])
        journal = Journal(request.folder / JOURNAL, transcriber.settings, overwrite=request.overwrite)
        valid, todo = _plan(request, journal.entries)
        _log_plan(request, valid, todo)
        check_memory(transcriber.config, [item.seconds for item in todo], workers=request.workers)
        if request.dry_run:
            return request.report(todo, failures=_unreadable(request, todo))
        if unwritable is not None:
            if todo or request.overwrite or not is_finished(request.cache, request.name):
                raise unwritable
            return request.report(todo)
        keep_manifest(request.cache, request.files)
        request.source.remember()
        if todo or request.overwrite:
            mark_unfinished(request.cache, request.name)
            journal.begin()
        return _transcribe(request, transcriber, journal, valid, todo)


def _transcribe(
    request: TranscriptionRequest,
    transcriber: Transcriber,
    journal: Journal,
    valid: Mapping[str, Entry],
    todo: Sequence[UntranscribedUtterance],
) -> TranscriptionReport:
    """Transcribe the utterances in ``todo`` and, unless Ctrl-C ends the run, write the table."""
    start = time.perf_counter()
    run = TranscriptionRun(
        transcriber,
        journal,
        request.files.root,
        todo,
        name=request.name,
        workers=request.workers,
        strict=request.strict,
    )
    with one_thread_each():
        interrupted = run.to_the_end()
    took = time.perf_counter() - start
    failed = write_failures(request.folder, run.failures, {utterance.utterance_id for utterance in request.wanted})
    done = [item.utterance.utterance_id for item in run.done]
    entries = {**valid, **{utterance_id: journal.entries[utterance_id] for utterance_id in done}}
    if run.failures and not entries:
        first = run.failures[0]
        raise AudioError(
            f"none of {counted(len(request.wanted), 'utterance')} could be transcribed; {first.utterance_id!r}: "
            f"{first.reason}"
        )
    report = request.report(run.done, seconds=took, interrupted=interrupted, failures=run.failures)
    if interrupted:
        return report
    return replace(report, word_errors=_write_table(request, transcriber, entries, num_failed=len(failed)))


def _write_table(
    request: TranscriptionRequest, transcriber: Transcriber, entries: Mapping[str, Entry], *, num_failed: int
) -> WordErrors | None:
    """Write the transcripts in the manifest's order with their settings, and return their word errors."""
    manifest = request.files.manifest
    texts = {i: entries[i].transcript for i in manifest.utterance_ids if i in entries}
    errors = _compare(manifest, texts)
    description = {
        "settings": transcriber.settings,
        "fingerprint": StoreIdentity(settings=transcriber.settings).fingerprint,
        **transcriber.provenance,
        "num_utterances": len(texts),
        "num_failed": num_failed,
        "wer": errors.to_json() if errors else None,
    }
    write_transcripts(request.cache, request.name, texts, description)
    return errors


def _plan(
    request: TranscriptionRequest, entries: Mapping[str, Entry]
) -> tuple[dict[str, Entry], list[UntranscribedUtterance]]:
    """Return the journal entries whose audio has not changed, and the utterances without such an entry."""
    source, wanted, workers = request.source, request.wanted, request.workers
    paths = sorted({utterance.path for utterance in wanted if utterance.utterance_id in entries})
    checksums = map_in_threads(source.checksum, paths, workers, "comparing checksums")
    changed = {
        u.utterance_id
        for u in wanted
        if u.utterance_id in entries and not entries[u.utterance_id].is_of(u, checksums[u.path])
    }
    if changed:
        log.warning(
            "audio changed since it was transcribed: %s transcribed again", counted(len(changed), "utterance", "are")
        )
    valid = {utterance_id: entry for utterance_id, entry in entries.items() if utterance_id not in changed}
    todo = [utterance for utterance in wanted if utterance.utterance_id not in valid]
    map_in_threads(source.prepare, list(dict.fromkeys(u.path for u in todo)), workers, "reading headers")
    items = []
    for utterance in todo:
        num_samples, rate = source.probe(utterance)
        items.append(UntranscribedUtterance(utterance=utterance, seconds=num_samples / rate))
    return valid, items


def _log_plan(
    request: TranscriptionRequest, valid: Mapping[str, Entry], todo: Sequence[UntranscribedUtterance]
) -> None:
    """Log the amount of work, and warn of audio files that end early."""
    cached = len(request.wanted) - len(todo)
    work = counted_work("transcribe", len(todo), cached, len(valid) - cached)
    log.info("%s: %s; %.0f s of audio", request.name, work, sum(item.seconds for item in todo))
    early = [item.utterance.utterance_id for item in todo if request.source.ends_early(item.utterance)]
    if early:
        log.warning(ENDS_EARLY, counted(len(early), "utterance", "are"), listed(early))


def _unreadable(request: TranscriptionRequest, todo: Sequence[UntranscribedUtterance]) -> list[Failure]:
    """Return the failures that are known from the headers of the audio files."""
    source = request.source
    reasons = {item.utterance.utterance_id: source.unreadable(item.utterance) for item in todo if not item.seconds}
    known = {key: reason for key, reason in reasons.items() if reason}
    return list(failures_of(known, request.name, request.wanted).values())


def _compare(manifest: Manifest, texts: Mapping[str, str]) -> WordErrors | None:
    """Return the word errors against the human transcripts; None if there are none, or if jiwer is not installed."""
    human = {utterance.utterance_id: utterance.transcript for utterance in manifest}
    if not any(human[utterance_id] for utterance_id in texts):
        return None
    try:
        return word_errors(human, texts)
    except MissingPackageError as error:
        log.warning("%s", error)
        return None
