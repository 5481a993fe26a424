"""A second transcription only computes missing or changed utterances, also after a kill or Ctrl-C."""

import logging
import os
import signal
import time

import filelock
import pytest
import soundfile

from featcache.errors import DiskError, StoreError
from featcache.terminal import interrupts
from featcache.transcripts.files import is_finished, read_transcripts, transcript_names
from tests.forked import POSSIBLE, Forked
from tests.transcription.heard import NAME


def stop_after(monkeypatch, number):
    """Simulate Ctrl-C after this number of finished utterances."""
    real = interrupts.wait
    calls = []

    def wait(*arguments, **options):
        calls.append(arguments)
        if len(calls) == number + 1:
            raise KeyboardInterrupt
        return real(*arguments, **options)

    monkeypatch.setattr(interrupts, "wait", wait)


def test_what_is_there_is_not_transcribed_again(transcribe, cache, heard):
    transcribe()
    assert len(heard) == 8
    files = {name: (cache / "transcripts" / name).read_bytes() for name in (f"{NAME}.csv", f"{NAME}.json")}
    assert transcribe().num_transcribed == 0
    assert len(heard) == 8
    assert files == {name: (cache / "transcripts" / name).read_bytes() for name in files}


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("number", [0, 1, 3])
def test_ctrl_c_keeps_what_is_done_and_the_rest_is_done_later(
    transcribe, cache, tmp_path, monkeypatch, number, workers, heard
):
    transcribe(home=tmp_path / "whole")
    heard.clear()
    with monkeypatch.context() as patch:
        stop_after(patch, number)
        report = transcribe(workers=workers)
    assert report.interrupted
    assert number <= report.num_transcribed < 8
    assert transcript_names(cache) == [NAME]
    assert not is_finished(cache, NAME)
    with pytest.raises(StoreError, match="unfinished; run the same 'featcache transcribe' again"):
        read_transcripts(cache, NAME)
    before = report.num_transcribed
    assert transcribe().num_transcribed == 8 - before
    assert len(heard) in (8, 9)  # The long utterance may have been started and stopped.
    whole = tmp_path / "whole" / "cache" / "tones" / "transcripts" / f"{NAME}.csv"
    assert (cache / "transcripts" / f"{NAME}.csv").read_bytes() == whole.read_bytes()


def held_after_three(model, data):
    """Transcribe, and wait in the fourth transcription until the process is killed."""
    import featcache
    from featcache.transcription.whisper import Transcriber

    real, begun = Transcriber.transcribe, []

    def held(self, signal, stopping=None):
        begun.append(signal)
        while len(begun) > 3:
            time.sleep(0.01)
        return real(self, signal, stopping)

    Transcriber.transcribe = held
    featcache.transcribe(model=model, data=data, workers=1)


@pytest.mark.skipif(not POSSIBLE, reason="needs fork")
def test_kill_9_costs_what_is_under_way_alone(transcribe, corpus, cache, tiny_whisper, tmp_path, heard):
    journal = cache / "transcripts" / NAME / "journal.jsonl"
    child = Forked(held_after_three, str(tiny_whisper()), str(corpus), out=tmp_path / "killed")
    try:
        while not child.ended and not (journal.exists() and journal.read_bytes().count(b"\n") >= 4):
            time.sleep(0.01)
    finally:
        child.send_signal(signal.SIGKILL)
        code, _, told = child.wait()
    assert code == -signal.SIGKILL, told  # It was killed before its end.
    done = journal.read_bytes().count(b"\n") - 1
    assert done == 3
    with pytest.raises(StoreError, match="unfinished"):
        read_transcripts(cache, NAME)
    assert transcribe().num_transcribed == 8 - done
    assert len(heard) == 8 - done
    transcribe(home=tmp_path / "whole")
    assert read_transcripts(cache, NAME) == read_transcripts(tmp_path / "whole" / "cache" / "tones", NAME)


def test_a_kill_before_the_table_was_written_costs_nothing(transcribe, cache, monkeypatch, heard):
    def killed(*_):
        raise InterruptedError

    with monkeypatch.context() as patch:
        patch.setattr("featcache.transcription.transcribe_corpus.write_transcripts", killed)
        with pytest.raises(InterruptedError):
            transcribe()
    assert not is_finished(cache, NAME)
    assert transcribe().num_transcribed == 0
    assert len(read_transcripts(cache, NAME)) == len(heard) == 8


def test_a_larger_limit_keeps_what_a_smaller_one_took(transcribe, cache, heard):
    transcribe(limit=3)
    few = read_transcripts(cache, NAME)
    assert len(few) == 3
    assert transcribe(limit=5).num_transcribed == 2
    more = read_transcripts(cache, NAME)
    assert few.items() <= more.items()
    assert list(more) == sorted(more)
    assert transcribe(limit=3).num_transcribed == 0
    assert read_transcripts(cache, NAME) == more
    assert len(heard) == 5


def test_changed_audio_is_transcribed_again_and_nothing_else(transcribe, corpus, cache, tone, heard, caplog):
    transcribe()
    before = read_transcripts(cache, NAME)
    soundfile.write(corpus / "c.wav", tone(20), 16000)
    heard.clear()
    assert transcribe().num_transcribed == 1
    assert heard == [16000]
    assert "audio changed since it was transcribed: 1 utterance is transcribed again" in caplog.text
    after = read_transcripts(cache, NAME)
    assert {name for name in before if before[name] != after[name]} == {"c"}
    assert transcribe().num_transcribed == 0


def test_a_changed_stretch_is_transcribed_again(transcribe, corpus, heard):
    transcribe()
    path = corpus / "manifest.csv"
    header, *rows = path.read_text().splitlines()
    path.write_text("\n".join([f"end,{header}", *(f"{'0.3' if row[0] == 'b' else ''},{row}" for row in rows)]))
    heard.clear()
    transcribe()
    assert heard == [4800]


def test_audio_that_has_gone_away_keeps_its_words(transcribe, corpus, cache):
    transcribe()
    before = read_transcripts(cache, NAME)
    (corpus / "a.wav").unlink()
    assert transcribe().num_transcribed == 0
    assert read_transcripts(cache, NAME) == before


def test_utterances_that_left_the_manifest_leave_the_table(transcribe, corpus, cache):
    transcribe()
    path = corpus / "manifest.csv"
    path.write_text("".join(line for line in path.read_text().splitlines(keepends=True) if line[0] != "b"))
    transcribe()
    assert list(read_transcripts(cache, NAME)) == list("acdefgh")


def test_other_settings_are_refused_and_nothing_is_touched(transcribe, cache, tiny_whisper):
    transcribe()
    before = read_transcripts(cache, NAME)
    with pytest.raises(StoreError, match="language is None there and de now; give the new transcripts another"):
        transcribe(language="de")
    with pytest.raises(StoreError, match=r"weights_sha256 is .* there and .* now"):
        transcribe(model=str(tiny_whisper(seed=1)))
    assert read_transcripts(cache, NAME) == before
    transcribe(language="de", name="german")
    assert transcript_names(cache) == ["german", NAME]
    transcribe(language="de", overwrite=True)
    assert read_transcripts(cache, NAME) == read_transcripts(cache, "german") != before


def test_overwriting_does_everything_anew(transcribe, heard):
    transcribe()
    assert transcribe(overwrite=True).num_transcribed == 8
    assert len(heard) == 16


def test_transcripts_in_use_are_refused_and_other_names_are_not(transcribe, cache):
    transcribe(limit=1)
    with filelock.FileLock(cache / "transcripts" / NAME / ".lock"):
        with pytest.raises(StoreError, match="is being written by another process; wait for it to end"):
            transcribe()
        assert transcribe(name="another").num_transcribed == 8


def test_where_nothing_can_be_written_only_what_is_missing_is_told(transcribe, corpus, heard, monkeypatch):
    transcribe()
    heard.clear()

    def refuse(*_, **__):
        raise DiskError("nothing can be written here")

    monkeypatch.setattr("featcache.cache.locks.locked", refuse)
    monkeypatch.setattr(os, "replace", refuse)
    assert transcribe().num_transcribed == transcribe(limit=3).num_transcribed == 0
    for options in ({"overwrite": True}, {"name": "another"}):
        with pytest.raises(DiskError, match="nothing can be written here"):
            transcribe(**options)
    (corpus / "a.wav").write_bytes((corpus / "b.wav").read_bytes())
    with pytest.raises(DiskError, match="nothing can be written here"):
        transcribe()
    assert heard == []


def test_a_dry_run_writes_nothing(transcribe, tmp_path, heard, caplog):
    caplog.set_level(logging.INFO)
    report = transcribe(dry_run=True)
    assert report.num_transcribed == 8
    assert "tiny-whisper: 8 of 8 utterances to transcribe, 0 cached; 11 s of audio" in caplog.text
    assert heard == []
    assert not (tmp_path / "data").exists()
