"""ASR transcripts of a corpus: text, word errors against human transcripts, and failed utterances."""

import json
import re
import sys
import threading

import numpy as np
import pytest
import soundfile
import transformers

import featcache
from featcache import audio
from featcache.errors import AudioError, CorpusError, ModelError, StoreError
from featcache.extractors.models import quiet_transformers
from featcache.manifest import Manifest
from featcache.transcription.whisper import Transcriber
from featcache.transcripts.files import is_finished, read_description, read_transcripts
from tests.transcription.heard import NAME


def test_a_corpus_is_transcribed_beside_the_human_words(transcribe, corpus, cache, tiny_whisper):
    report = transcribe()
    found = read_transcripts(cache, NAME)
    transcriber = Transcriber(str(tiny_whisper()))
    with quiet_transformers():
        assert found == {
            utterance.utterance_id: transcriber.transcribe(audio.read(corpus, utterance).signal(sampling_rate=16000))
            for utterance in Manifest.read(corpus / "manifest.csv")
        }
    assert list(found) == list("abcdefgh")
    assert len(set(found.values())) == 8
    assert (report.path, report.num_utterances, report.num_transcribed) == (
        cache / "transcripts" / f"{NAME}.csv",
        8,
        8,
    )
    assert report.audio_seconds == pytest.approx(5.0 + sum(0.5 + 0.1 * number for number in range(8) if number != 4))
    assert not report.interrupted
    assert report.failures == ()
    # The human transcripts do not change.
    assert featcache.open(cache).manifest["a"].transcript == "zi xzi wi la"
    assert list(featcache.open(cache)) == []


def test_what_made_them_is_told(transcribe, cache, tiny_whisper):
    transcribe(language="german")
    told = read_description(cache, NAME)
    transcriber = Transcriber(str(tiny_whisper()), language="de")
    assert told["settings"] == transcriber.settings
    assert told["settings"]["language"] == "de"
    assert re.fullmatch("[0-9a-f]{64}", told["fingerprint"])
    assert told["transformers_version"] == transcriber.provenance["transformers_version"]
    assert (told["num_utterances"], told["num_failed"]) == (8, 0)
    model = transformers.WhisperForConditionalGeneration.from_pretrained(tiny_whisper())
    assert told["num_parameters"] == model.num_parameters()


@pytest.mark.parametrize("workers", [1, 3])
def test_words_depend_neither_on_order_nor_on_workers(transcribe, corpus, cache, tmp_path, workers):
    transcribe(workers=2)
    manifest = Manifest.read(corpus / "manifest.csv")
    Manifest(list(reversed(manifest))).write(corpus / "manifest.csv")
    transcribe(workers=workers, home=tmp_path / "other")
    expected = read_transcripts(cache, NAME)
    found = read_transcripts(tmp_path / "other" / "cache" / "tones", NAME)
    assert found == expected
    assert list(found) == list(reversed(expected))


def test_stretches_of_a_file_are_utterances(tmp_path, tone, tiny_whisper):
    folder = tmp_path / "parts"
    folder.mkdir()
    samples = np.concatenate([tone(number) for number in range(3)])
    soundfile.write(folder / "all.wav", samples, 16000, subtype="FLOAT")
    rows = [f"part{number},all.wav,{number},{number + 1}" for number in range(3)]
    (folder / "manifest.csv").write_text("\n".join(["utterance_id,path,start,end", *rows]))
    featcache.transcribe(model=str(tiny_whisper()), data=folder)
    transcriber = Transcriber(str(tiny_whisper()))
    with quiet_transformers():
        expected = {
            f"part{n}": transcriber.transcribe(audio.Signal(samples=tone(n), sampling_rate=16000)) for n in range(3)
        }
    assert read_transcripts(tmp_path / "data" / "cache" / "parts", NAME) == expected


def test_word_errors_are_told_and_kept(transcribe, cache):
    report = transcribe()
    errors = report.word_errors
    assert (errors.num_compared, errors.num_without_words, errors.num_words) == (6, 2, 24)
    assert read_description(cache, NAME)["wer"] == errors.to_json()


def test_human_words_that_are_mended_count_without_transcribing_again(transcribe, corpus, cache, heard):
    transcribe()
    found = read_transcripts(cache, NAME)
    rows = [f"{name}.wav,x,joy,{text}" for name, text in found.items()]
    (corpus / "manifest.csv").write_text("\n".join(["path,speaker_id,emotion,transcript", *rows]))
    heard.clear()
    assert transcribe().word_errors.rate == 0
    assert heard == []


def test_a_corpus_without_human_words_has_no_word_errors(transcribe, corpus, cache, caplog):
    rows = [f"{name}.wav" for name in "abcd"]
    (corpus / "manifest.csv").write_text("\n".join(["path", *rows]))
    assert transcribe().word_errors is None
    assert read_description(cache, NAME)["wer"] is None
    assert "jiwer" not in caplog.text


def test_without_jiwer_there_are_transcripts_and_a_note(transcribe, cache, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "jiwer", None)
    report = transcribe()
    assert report.word_errors is None
    assert len(read_transcripts(cache, NAME)) == 8
    assert "pip install 'featcache[text]'" in caplog.text


def test_utterances_that_fail_are_listed_until_they_are_mended(transcribe, corpus, cache, tone):
    (corpus / "b.wav").write_bytes(b"no audio")
    (corpus / "d.wav").unlink()
    report = transcribe()
    assert [failure.utterance_id for failure in report.failures] == ["b", "d"]
    rows = (cache / "transcripts" / NAME / "failures.csv").read_text().splitlines()
    assert rows[0] == "utterance_id,path,reason"
    assert rows[1].startswith("b,b.wav,b.wav: not an audio file but text")
    assert rows[2].startswith("d,d.wav,d.wav: cannot be read")
    assert list(read_transcripts(cache, NAME)) == list("acefgh")
    assert read_description(cache, NAME)["num_failed"] == 2
    for name in "bd":
        soundfile.write(corpus / f"{name}.wav", tone(3), 16000)
    assert transcribe().num_transcribed == 2
    assert not (cache / "transcripts" / NAME / "failures.csv").exists()
    assert list(read_transcripts(cache, NAME)) == list("abcdefgh")


def test_words_of_audio_that_was_spoilt_since_are_not_kept(transcribe, corpus, cache):
    transcribe()
    (corpus / "b.wav").write_bytes(b"no audio")
    transcribe()
    assert list(read_transcripts(cache, NAME)) == list("acdefgh")


def test_strict_stops_at_the_first_failure_and_keeps_what_was_before(transcribe, corpus, cache):
    (corpus / "d.wav").write_bytes(b"no audio")
    with pytest.raises(
        AudioError, match=r"utterance 'd': d\.wav: not an audio file but text .* \(stopped by --strict\)"
    ):
        transcribe(strict=True, workers=1)
    assert not is_finished(cache, NAME)
    journal = (cache / "transcripts" / NAME / "journal.jsonl").read_text().splitlines()
    assert [json.loads(line)["utterance_id"] for line in journal[1:]] == ["a", "b", "c"]


def test_strict_keeps_an_earlier_transcript_that_is_just_being_finished(transcribe, corpus, cache, monkeypatch):
    (corpus / "d.wav").write_bytes(b"no audio")
    failed, real, read = threading.Event(), Transcriber.transcribe, audio.read

    def transcribed(self, signal, stopping=None):
        if len(signal.samples) == 11200:  # c
            assert failed.wait(60)
        return real(self, signal, stopping)

    def decoded(root, utterance, **options):
        try:
            return read(root, utterance, **options)
        except AudioError:
            failed.set()
            raise

    monkeypatch.setattr(Transcriber, "transcribe", transcribed)
    monkeypatch.setattr(audio, "read", decoded)
    with pytest.raises(AudioError, match=r"utterance 'd': .* \(stopped by --strict\)"):
        transcribe(strict=True, workers=2)
    journal = (cache / "transcripts" / NAME / "journal.jsonl").read_text().splitlines()
    assert {json.loads(line)["utterance_id"] for line in journal[1:]} >= {"a", "b", "c"}


def test_no_utterance_at_all(transcribe, corpus, cache):
    for name in "abcdefgh":
        (corpus / f"{name}.wav").write_bytes(b"no audio")
    with pytest.raises(AudioError, match=r"none of 8 utterances could be transcribed; 'a': a\.wav: not an audio file"):
        transcribe()
    assert not is_finished(cache, NAME)


def test_a_bug_keeps_its_traceback_and_what_is_done(transcribe, cache, monkeypatch):
    real = Transcriber.transcribe

    def broken(self, signal, stopping=None):
        if len(signal.samples) == 12800:  # d
            raise ZeroDivisionError
        return real(self, signal, stopping)

    with monkeypatch.context() as patch:
        patch.setattr(Transcriber, "transcribe", broken)
        with pytest.raises(ZeroDivisionError):
            transcribe(workers=1)
    assert not is_finished(cache, NAME)
    assert transcribe().num_transcribed == 5


def test_untrained_weights_and_other_names_are_refused_before_anything_is_loaded(transcribe, tmp_path):
    with pytest.raises(ModelError, match="--weights random: an untrained whisper-tiny cannot transcribe; leave"):
        transcribe(model="whisper-tiny", weights="random")
    with pytest.raises(StoreError, match=r"transcripts name '\.\./x': it begins"):
        transcribe(name="../x")
    with pytest.raises(ModelError, match="no device 'nonsense'; expected cpu, cuda, cuda:1, mps or auto"):
        transcribe(device="nonsense")
    assert not (tmp_path / "data").exists()


def test_another_corpus_in_a_folder_of_the_same_name_is_refused(transcribe, corpus, tmp_path, tone):
    transcribe()
    other = tmp_path / "elsewhere"
    other.mkdir()
    soundfile.write(other / "z.wav", tone(0), 16000)
    (other / "manifest.csv").write_text("path\nz.wav\n")
    with pytest.raises(CorpusError, match="is the cache of another corpus"):
        transcribe(data=other, corpus="tones")
