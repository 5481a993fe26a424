"""Extractions that end by a full disk, a kill, Ctrl-C or a bug: finished features are kept, failures are listed."""

import contextlib
import multiprocessing
import os
import shutil
import signal as signals
import threading
from pathlib import Path

import filelock
import numpy as np
import pytest
import soundfile

from featcache.cache.writer import StoreWriter
from featcache.errors import AudioError, CorpusError, StoreError
from featcache.extraction import summarise_report
from tests.extraction.corpus.made_up import (
    ALL,
    BROKEN,
    NOT_A_NUMBER,
    OVERFLOW,
    RATE,
    TOO_LONG,
    MadeUpExtractor,
    cache_of,
    check,
    contents,
    failures_of,
    run,
    store_of,
    write_audio,
    write_manifest,
)


def test_too_small_a_disk_is_told_before_anything_is_computed(corpus, made_up, monkeypatch):
    usage = shutil.disk_usage(corpus)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage._replace(free=1000))
    with pytest.raises(
        StoreError,
        match=r"\d+\.\d kB of disk space are needed under .*, but only 1\.0 kB are free; free disk space, or .*",
    ):
        run()
    with pytest.raises(StoreError, match="are free"):
        run(dry_run=True)
    assert not made_up.done


def test_a_disk_that_fills_up_keeps_what_was_finished(corpus, made_up, monkeypatch):
    usage = shutil.disk_usage(corpus)

    def disk_usage(folder):  # As if another process filled the disk after the first shard.
        return usage._replace(free=0) if (Path(folder) / "shard-00000.h5").exists() else usage

    message = (
        r"shard-00001.h5 could not be written \(.*No space left.*\); the 2 utterances stored before are kept: free disk"
    )
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", disk_usage)
        with pytest.raises(StoreError, match=message):
            run()
    check(store_of(corpus), corpus, made_up, ALL[:2])
    assert not store_of(corpus).complete
    assert run().num_extracted == 5
    check(store_of(corpus), corpus, made_up, ALL)


def _extract_and_die_in_the_second_shard():
    write_shard = StoreWriter.write_shard

    def write(writer, records, number, decoders=()):
        if writer.entries():
            (writer.folder / f".shard-00001.h5.{os.getpid()}.tmp").write_bytes(b"half a shard")
            os.kill(os.getpid(), signals.SIGKILL)
        write_shard(writer, records, number, decoders)

    StoreWriter.write_shard = write
    run()


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="needs fork to kill its own copy")
def test_a_killed_extraction_goes_on_where_it_was(corpus, made_up):
    process = multiprocessing.get_context("fork").Process(target=_extract_and_die_in_the_second_shard)
    process.start()
    process.join()
    assert process.exitcode == -signals.SIGKILL
    store = store_of(corpus)
    assert {path.name for path in store.path.glob("*.h5")} == {"shard-00000.h5"}
    assert len(list(store.path.glob(".*.tmp"))) == 1
    assert not store.complete
    check(store, corpus, made_up, ALL[:2])
    assert (store.num_requested, store.num_in_corpus) == (7, 7)
    before = contents(store.path)[store.path / "shard-00000.h5"]

    report = run()
    assert report.num_extracted == len(made_up.done) == 5
    store = store_of(corpus)
    assert store.complete
    check(store, corpus, made_up, ALL)
    assert contents(store.path)[store.path / "shard-00000.h5"] == before
    assert not list(store.path.glob(".*.tmp"))


def test_a_damaged_shard_is_told_and_mended_as_it_says(corpus, made_up):
    run()
    shard = store_of(corpus).path / "shard-00001.h5"
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(StoreError, match=r"shard-00001.h5: not readable as HDF5 \(.*\); remove it and extract again"):
        run()
    shard.unlink()
    report = run()
    assert report.num_extracted == 2
    store = store_of(corpus)
    assert set(store) == set(ALL)
    check(store, corpus, made_up, list(store))


def test_ctrl_c_keeps_what_is_finished(corpus, made_up, monkeypatch):
    @contextlib.contextmanager
    def interrupted(_title, _total, *, rate):
        calls = []

        def advance(_amount):
            calls.append(None)
            if len(calls) == 3:  # In the middle of the second shard.
                raise KeyboardInterrupt

        yield advance

    with monkeypatch.context() as patch:
        patch.setattr("featcache.extraction.run.progress", interrupted)
        report = run(workers=1)
    assert report.interrupted
    store = store_of(corpus)
    assert not store.complete
    assert report.num_extracted == len(store) == len(made_up.done)
    assert 3 <= len(store) <= 7
    assert report.audio_seconds == pytest.approx(store.duration(store.utterance_ids))
    check(store, corpus, made_up, ALL[: len(store)])
    assert "stopped before the end; run the same command again to continue" in summarise_report(report)
    assert not run().interrupted
    assert len(made_up.done) == 7
    check(store_of(corpus), corpus, made_up, ALL)
    assert store_of(corpus).complete


def test_a_bug_keeps_its_traceback_and_what_is_finished(corpus, made_up):
    write_audio(corpus / "u5.wav", np.full(RATE, BROKEN))
    with pytest.raises(ZeroDivisionError, match="a bug in the extractor"):
        run(workers=1)
    store = store_of(corpus)
    assert not store.complete
    check(store, corpus, made_up, ALL[:4])


@pytest.mark.parametrize("batch_seconds", [0, 60])
def test_failures_are_listed_with_their_reasons_until_they_are_mended(corpus, made_up, batch_seconds):
    samples, _ = soundfile.read(corpus / "u1.wav")
    (corpus / "u0.wav").unlink()  # The first one, which may be alone in its batch.
    write_audio(corpus / "u1.wav", np.full(RATE, NOT_A_NUMBER))
    write_audio(corpus / "u2.wav", np.full(RATE, OVERFLOW))
    write_audio(corpus / "u3.wav", np.full(RATE, TOO_LONG))
    (corpus / "u5.wav").write_bytes(b"no audio")
    report = run(batch_seconds=batch_seconds)
    assert report.num_extracted == 2
    check(store_of(corpus), corpus, made_up, ["u4", "u6"])
    assert store_of(corpus).complete  # Every utterance is stored or known to fail.
    expected = {
        "u0": "u0.wav: cannot be read (No such file or directory)",
        "u1": "layer 1: NaN or infinite values",
        "u2": "layer 2: values up to 1e+06 overflow float16; extract with --store float32",
        "u3": "too long for this model",
        "u5": "u5.wav: not an audio file but text ('no audio' …); download it again",
    }
    rows = failures_of(corpus)
    assert list(rows[0]) == ["utterance_id", "path", "reason"]
    assert {row["utterance_id"]: row["reason"] for row in rows} == expected
    assert {failure.utterance_id: failure.reason for failure in report.failures} == expected
    assert {failure.store for failure in report.failures} == {"wav2vec2-base"}
    summary = summarise_report(report)
    assert "2 of 7 utterances extracted" in summary
    assert "5 failed, listed in failures.csv; first: 'u0': u0.wav: cannot be read" in summary

    for number in range(6):
        write_audio(corpus / f"u{number}.wav", samples)
    report = run(batch_seconds=batch_seconds)
    assert report.num_extracted == 6  # u4 has changed, too.
    assert not report.failures
    assert not (store_of(corpus).path / "failures.csv").exists()
    assert set(store_of(corpus)) == set(ALL)


def test_a_smaller_limit_forgets_no_failure(corpus, made_up):
    for number in range(7):
        if number != 4:
            (corpus / f"u{number}.wav").unlink()
    run()
    before = failures_of(corpus)
    run(limit=3)
    assert sorted(map(tuple, map(dict.values, failures_of(corpus)))) == sorted(map(tuple, map(dict.values, before)))


def test_another_corpus_in_a_folder_of_the_same_name_is_refused(corpus, made_up, tmp_path):
    run()
    before = contents(cache_of(corpus))
    other = tmp_path / "elsewhere" / corpus.name
    write_audio(other / "other.wav", np.zeros(RATE))
    write_manifest(other, ["other.wav"])
    with pytest.raises(
        CorpusError, match=r"is the cache of another corpus: .* give this corpus another name with --corpus"
    ):
        run(data=other)
    assert contents(cache_of(corpus)) == before


def test_nothing_new_but_failures_is_no_nothing_to_do(corpus, made_up):
    (corpus / "u0.wav").unlink()
    run()
    told = "nothing to do: 6 were cached, 1 failed (see failures.csv)\nfirst failure: 'u0': u0.wav: cannot be read"
    assert summarise_report(run()).startswith(told)


def test_no_utterance_at_all(corpus, made_up):
    write_manifest(corpus, ["gone.wav", "lost.wav"])
    with pytest.raises(AudioError, match=r"none of 2 utterances could be extracted; 'gone': gone.wav: cannot be"):
        run()


def test_strict_stops_at_the_first_failure_and_keeps_what_was_before(corpus, made_up):
    (corpus / "u2.wav").unlink()
    with pytest.raises(AudioError, match=r"^utterance 'u2': u2.wav: cannot be read .* \(stopped by --strict\)$"):
        run(strict=True, workers=1)
    store = store_of(corpus)
    check(store, corpus, made_up, ALL[:2])
    assert not store.complete


def test_strict_keeps_what_was_finished_before_the_failure_whatever_its_place(corpus, made_up, monkeypatch):
    write_audio(corpus / "u2.wav", np.full(RATE, TOO_LONG))
    later, compute = threading.Event(), made_up.compute

    def computed(signal):
        if len(signal.samples) == int(0.9 * RATE):  # u3
            later.set()
        return compute(signal)

    def extract(signals):
        if np.all(signals[0].samples == TOO_LONG):
            assert later.wait(60)
        return MadeUpExtractor.extract(made_up, signals)

    monkeypatch.setattr(made_up, "compute", computed)
    monkeypatch.setattr(made_up, "extract", extract)
    with pytest.raises(AudioError, match=r"^utterance 'u2': too long for this model \(stopped by --strict\)$"):
        run(strict=True, workers=2)
    assert {"u0", "u1", "u3"} <= set(store_of(corpus))
    assert len(made_up.done) == len(store_of(corpus))
    write_audio(corpus / "u2.wav", np.full(RATE, 0.7))
    run(strict=True, workers=2)
    assert len(made_up.done) == 7
    assert store_of(corpus).complete


def test_a_store_in_use_is_refused(corpus, made_up):
    run(limit=2)
    store = store_of(corpus).path
    with filelock.FileLock(store / ".lock"), pytest.raises(StoreError, match="is being written by another process"):
        run()
    assert len(made_up.done) == 2
    run()  # The file of the lock alone locks nothing.
    assert len(made_up.done) == 7
