"""Manifest × Whisper → transcripts beside the human ones.

Each utterance is transcribed by itself, by one thread on a processor: its words depend neither on what else is
transcribed nor on the number of workers. They go to a journal one by one; the table is written at the end.
"""

import logging
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Literal

from featcache.cache.failures import Failure, write_failures
from featcache.cache.identity import StoreIdentity
from featcache.cache.locks import lock_if_writable
from featcache.errors import AudioError, MissingPackageError, ModelError, listed
from featcache.evaluate.wer import WordErrors, word_errors
from featcache.extraction.inputs import ENDS_EARLY, AudioInput
from featcache.extraction.locate import LocatedCorpus, compare_audio, find_files, keep_manifest
from featcache.extraction.plan import counted_work
from featcache.extraction.summary import failures_of
from featcache.extractors import usable_device
from featcache.extractors.models import short_name
from featcache.manifest import Manifest, Utterance
from featcache.terminal.progress import map_in_threads
from featcache.threads import available_cores, one_thread_each
from featcache.transcription.journal import Entry, Journal
from featcache.transcription.memory import check_memory
from featcache.transcription.run import TranscriptionRun, UntranscribedUtterance
from featcache.transcription.summary import TranscriptionReport, summarise
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
from featcache.workspace import Workspace

__all__ = ["TranscriptionReport", "summarise", "transcribe"]

log = logging.getLogger(__name__)


def transcribe(
    *,
    model: str = "whisper-tiny",
    corpus: str | None = None,
    data: str | os.PathLike[str] | None = None,
    name: str | None = None,
    language: str | None = None,
    limit: int | None = None,
    device: str = "cpu",
    workers: int | None = None,
    strict: bool = False,
    overwrite: bool = False,
    dry_run: bool = False,
    weights: Literal["pretrained", "random"] | None = None,
    revision: str | None = None,
    home: str | os.PathLike[str] | None = None,
) -> TranscriptionReport:
    """Have Whisper write down what is said in a corpus; a second call goes on where the first ended.

    Args:
        model: A short name of a Whisper, a Hugging Face id, or a folder that holds weights and tokenizer.
        corpus: Name under ``data/corpora``; may be left out when there is one.
        data: The corpus's folder, or a manifest as CSV, when it lies elsewhere.
        name: Of the transcripts; by default the model's.
        language: A code or an English name, such as ``de`` or ``german``; by default Whisper finds out for each
            utterance, or knows English alone.
        limit: Take only so many utterances, drawn from the whole corpus and always the same.
        device: As torch names it; ``auto`` is CUDA, else Apple's ``mps``, else the CPU.
        workers: Threads; by default one per core. Changes no word.
        strict: Stop at the first utterance that fails.
        overwrite: Forget transcripts of the same name, whatever made them.
        dry_run: Plan and tell, but transcribe and write nothing.
        weights: ``pretrained``; ``random`` is refused, because untrained models know no words.
        revision: Branch, tag or commit on the Hugging Face hub.
        home: Where everything lives; by default ``$FEATCACHE_HOME``, or ``data``.

    Raises:
        FeatcacheError: no or several corpora; no Whisper, or one that cannot be loaded; a language that it does not
            know; transcripts of this name that were made with other settings, or are being written by another process;
            with ``strict``, an utterance that fails. Everything written before is kept.
    """
    if weights == "random":
        raise ModelError(
            f"--weights random: an untrained {model} knows no words and cannot transcribe; leave it out, or give a "
            "folder that holds weights and a tokenizer"
        )
    workspace = Workspace.at(home)
    corpus_name, files = find_files(workspace, corpus, data)
    cache = workspace.cache(corpus_name)
    name = checked_name(cache, short_name(model) if name is None else name)
    wanted = list(files.manifest.limited(limit))
    workers = workers or available_cores()
    place = LocatedCorpus(cache=cache, root=files.root, manifest=files.manifest, files=files)
    compare_audio(place, wanted, (), workers)
    device = usable_device(device)
    log.info("loading %s", model)
    transcriber = Transcriber(model, language=language, revision=revision, device=device)
    folder = cache / FOLDER / name
    with ExitStack() as stack:
        unwritable = None if dry_run else lock_if_writable(stack, [folder])
        journal = Journal(folder / JOURNAL, transcriber.settings, overwrite=overwrite)
        source = AudioInput(files.root)
        valid, todo = _plan(journal.entries, source, wanted, workers)
        _tell_plan(name, wanted, valid, todo, source)
        check_memory(transcriber.config, [item.seconds for item in todo], workers=workers)
        if dry_run:
            return _report(cache, name, wanted, todo, failures=_unreadable(name, wanted, todo, source))
        if unwritable is not None:
            if todo or overwrite or not is_finished(cache, name):
                raise unwritable
            return _report(cache, name, wanted, todo)
        keep_manifest(cache, files)
        if todo or overwrite:
            mark_unfinished(cache, name)
            journal.begin()
        start = time.perf_counter()
        run = TranscriptionRun(transcriber, journal, files.root, todo, name=name, workers=workers, strict=strict)
        with one_thread_each():
            interrupted = run.to_the_end()
        took = time.perf_counter() - start
        failed = write_failures(folder, run.failures, {utterance.utterance_id for utterance in wanted})
        entries = valid | {
            item.utterance.utterance_id: journal.entries[item.utterance.utterance_id] for item in run.done
        }
        if run.failures and not entries:
            first = run.failures[0]
            raise AudioError(
                f"none of the {len(wanted)} utterances could be transcribed; {first.utterance_id!r}: {first.reason}"
            )
        report = _report(cache, name, wanted, run.done, seconds=took, interrupted=interrupted, failures=run.failures)
        if interrupted:
            return report
        texts = {i: entries[i].transcript for i in files.manifest.utterance_ids if i in entries}
        errors = _compare(files.manifest, texts)
        description = {
            "settings": transcriber.settings,
            "fingerprint": StoreIdentity(settings=transcriber.settings).fingerprint,
            **transcriber.provenance,
            "num_utterances": len(texts),
            "num_failed": len(failed),
            "wer": errors.to_json() if errors else None,
        }
        write_transcripts(cache, name, texts, description)
        return replace(report, word_errors=errors)


def _plan(
    entries: Mapping[str, Entry], source: AudioInput, wanted: Sequence[Utterance], workers: int
) -> tuple[dict[str, Entry], list[UntranscribedUtterance]]:
    """The entries that are still of the same audio, and the utterances that have none."""
    paths = sorted({utterance.path for utterance in wanted if utterance.utterance_id in entries})
    checksums = map_in_threads(source.checksum, paths, workers, "comparing checksums")
    changed = {
        u.utterance_id
        for u in wanted
        if u.utterance_id in entries and not entries[u.utterance_id].is_of(u, checksums[u.path])
    }
    if changed:
        log.warning("audio changed since it was transcribed: %d utterances are transcribed again", len(changed))
    valid = {utterance_id: entry for utterance_id, entry in entries.items() if utterance_id not in changed}
    todo = [utterance for utterance in wanted if utterance.utterance_id not in valid]
    map_in_threads(source.prepare, list(dict.fromkeys(u.path for u in todo)), workers, "reading headers")
    items = []
    for utterance in todo:
        num_samples, rate = source.probe(utterance)
        items.append(UntranscribedUtterance(utterance=utterance, seconds=num_samples / rate))
    return valid, items


def _tell_plan(
    name: str,
    wanted: Sequence[Utterance],
    valid: Mapping[str, Entry],
    todo: Sequence[UntranscribedUtterance],
    source: AudioInput,
) -> None:
    cached = len(wanted) - len(todo)
    work = counted_work("transcribe", len(todo), cached, len(valid) - cached)
    log.info("%s: %s; %.0f s of audio", name, work, sum(item.seconds for item in todo))
    _warn_of_ends(source, todo)


def _unreadable(
    name: str, wanted: Sequence[Utterance], todo: Sequence[UntranscribedUtterance], source: AudioInput
) -> list[Failure]:
    """Return the failures that the headers already show."""
    reasons = {item.utterance.utterance_id: source.unreadable(item.utterance) for item in todo if not item.seconds}
    return list(failures_of({key: reason for key, reason in reasons.items() if reason}, name, wanted).values())


def _warn_of_ends(source: AudioInput, todo: Sequence[UntranscribedUtterance]) -> None:
    early = [item.utterance.utterance_id for item in todo if source.ends_early(item.utterance)]
    if early:
        log.warning(ENDS_EARLY, len(early), listed(early))


def _compare(manifest: Manifest, texts: Mapping[str, str]) -> WordErrors | None:
    """Word errors against the human transcripts, where there are any."""
    human = {utterance.utterance_id: utterance.transcript for utterance in manifest}
    if not any(human[utterance_id] for utterance_id in texts):
        return None
    try:
        return word_errors(human, texts)
    except MissingPackageError as error:
        log.warning("%s", error)
        return None


def _report(
    cache: Path,
    name: str,
    wanted: Sequence[Utterance],
    done: Sequence[UntranscribedUtterance],
    *,
    seconds: float = 0.0,
    interrupted: bool = False,
    failures: Sequence[Failure] = (),
) -> TranscriptionReport:
    return TranscriptionReport(
        path=table_path(cache, name),
        num_utterances=len(wanted),
        num_transcribed=len(done),
        audio_seconds=sum(item.seconds for item in done),
        seconds=seconds,
        interrupted=interrupted,
        failures=tuple(failures),
        word_errors=None,
    )
