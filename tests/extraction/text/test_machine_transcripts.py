"""Stores of ASR transcripts, errors of an extraction from text, and the command."""

import json
import os
import re
from pathlib import Path

import pytest

from featcache.cache.reader import FeatureStore
from featcache.errors import AudioError, FeatcacheError, ManifestError, ModelError, StoreError
from featcache.extraction.verify import recompute
from featcache.transcripts.files import mark_unfinished, write_transcripts
from tests.extraction.text.text_corpus import TEXTS, cache_of, call, check, manifest_of, store_of


def transcribe(corpus, texts, name="asr", **settings):
    write_transcripts(cache_of(corpus), name, texts, {"settings": {"model_id": "some/asr", **settings}})


def test_a_machines_transcripts_have_a_store_of_their_own(corpus, model, run):
    heard = [text.upper() + " eh" for text in TEXTS]
    transcribe(corpus, {f"u{n}": text for n, text in enumerate(heard)})
    report = run(transcripts="asr", name=None)
    name = f"{Path(model).name}-asr"
    assert report.stores == (name,)
    store = store_of(corpus, name)
    check(store, model, heard)
    assert store.metadata["transcripts"] == "asr"
    assert json.loads(store.metadata["transcripts_made_by"]) == {"model_id": "some/asr"}
    assert all(deviation.within for deviation in recompute(store, None, 7, model=model))
    assert run(transcripts="asr", name=None).num_extracted == 0


def test_transcripts_never_mix(corpus, run):
    transcribe(corpus, {f"u{n}": text for n, text in enumerate(TEXTS)})
    transcribe(corpus, {f"u{n}": text for n, text in enumerate(TEXTS)}, name="other")
    run()
    with pytest.raises(StoreError, match=r"transcripts is manifest there and asr now"):
        run(transcripts="asr")
    run(transcripts="asr", name="heard")
    with pytest.raises(StoreError, match=r"transcripts is asr there and other now"):
        run(transcripts="other", name="heard")
    transcribe(corpus, {f"u{n}": text for n, text in enumerate(TEXTS)}, language="de")
    with pytest.raises(StoreError, match=r"made with other settings: transcripts_made_by is "):
        run(transcripts="asr", name="heard")


def test_utterances_that_no_machine_heard_are_failures(corpus, run):
    transcribe(corpus, {"u0": "hello", "u2": "", "u3": "no", "u5": "yes"})
    report = run(transcripts="asr")
    assert [failure.utterance_id for failure in report.failures] == ["u1", "u4", "u6"]
    assert {failure.reason for failure in report.failures} == {"it is missing in the transcripts 'asr'"}
    assert list(store_of(corpus)) == ["u0", "u2", "u3", "u5"]
    assert store_of(corpus).complete
    transcribe(corpus, {f"u{n}": text for n, text in enumerate(TEXTS)})
    assert run(transcripts="asr").failures == ()
    assert not (store_of(corpus).path / "failures.csv").exists()


def test_unfinished_transcripts_are_refused(corpus, run):
    transcribe(corpus, {"u0": "hello"})
    (cache_of(corpus) / "transcripts" / "asr").mkdir()
    (cache_of(corpus) / "transcripts" / "asr" / "journal.jsonl").touch()
    mark_unfinished(cache_of(corpus), "asr")
    with pytest.raises(StoreError, match=r"the transcripts 'asr' of .* are unfinished; run the same 'featcache"):
        run(transcripts="asr")


def test_the_first_failure_stops_a_strict_extraction(corpus, run):
    transcribe(corpus, {f"u{n}": "yes" for n in range(6)})
    with pytest.raises(
        AudioError, match=r"utterance 'u6': it is missing in the transcripts 'asr' \(stopped by --strict\)"
    ):
        run(transcripts="asr", strict=True)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"transcripts": "asr"}, StoreError, r"no transcripts 'asr' in .* \(available: none\)"),
        (
            {"model": "egemaps"},
            ModelError,
            "--model egemaps reads audio and --text .* reads text; extract one after the other",
        ),
        ({"batch_seconds": 5}, ModelError, "--batch-seconds does not apply to .*, which reads text"),
        (
            {"text": None, "model": "egemaps", "transcripts": "asr"},
            ModelError,
            "--transcripts needs a text encoder; .* --text",
        ),
        ({"text": "hubert-base"}, ModelError, "hubert-base is a 'hubert' speech model, .* use it with --model"),
        ({"text": "openai/whisper-tiny"}, ModelError, "is a 'whisper' speech model, .* use it with --model"),
        ({"text": "spectrogram"}, ModelError, "spectrogram reads audio, .* use it with --model"),
        ({"text": "tinybird"}, ModelError, "no text model 'tinybird'; did you mean 'tinybert'"),
        ({"text": None, "model": "tinybert"}, ModelError, "tinybert is a 'bert' text model, .* use it with --text"),
        (
            {"text": None, "model": "FacebookAI/roberta-base"},
            ModelError,
            "FacebookAI/roberta-base is a 'roberta' text model, .* use it with --text",
        ),
        ({"store": "int8", "pool": True}, StoreError, "exclude each other"),
    ],
)
def test_what_cannot_be_is_told_in_one_line(corpus, run, options, error, message):
    with pytest.raises(error, match=message) as caught:
        run(**options)
    assert "\n" not in str(caught.value)
    assert not cache_of(corpus).exists()


def test_a_model_of_speech_in_a_folder_is_refused(corpus, run, tiny_model):
    with pytest.raises(ModelError, match=r"is a 'wav2vec2' speech model, .* use it with --model"):
        run(text=tiny_model("wav2vec2"))


@pytest.mark.parametrize("texts", [[""] * 3, [" ", "\n", ""]])
def test_a_corpus_without_words_is_refused(corpus, run, texts):
    manifest_of(texts).write(corpus / "manifest.csv")
    with pytest.raises(
        ManifestError, match=r"none of 3 utterances has text: .* column 'transcript' is empty or missing"
    ):
        run()
    transcribe(corpus, {"u0": "", "u1": " "})
    with pytest.raises(ManifestError, match="the transcripts 'asr' have no text for any of 3 utterances"):
        run(transcripts="asr")


def test_a_missing_column_is_no_words(corpus, run):
    (corpus / "manifest.csv").write_text("path\na.wav\n")
    with pytest.raises(FeatcacheError, match=r"column 'transcript' is empty or missing; fill it, or .* --transcripts"):
        run()


def test_the_commands(corpus, monkeypatch, capsys):
    code, out, err = call(monkeypatch, capsys, "extract", "--text", "tinybert", "--weights", "random")
    assert code == 0, err
    store = cache_of(corpus) / "tinybert"
    assert out.splitlines()[-1] == str(store)
    assert "7 of 7 utterances extracted, " in out
    code, out, _ = call(monkeypatch, capsys, "info", store)
    rows = dict(line.split(None, 1) for line in out.splitlines() if line and not line.startswith(" "))
    assert int(rows["tokens"]) == FeatureStore(store).num_frames([f"u{n}" for n in range(7)]).sum()
    assert rows["tokenizer"].strip() == "bytes"
    assert rows["special_tokens"].strip() == '{"before": [], "after": ["</s>"]}'
    assert rows["frame_shift"].strip() == "-"
    assert not {"audio", "sampling_rate"} & rows.keys()
    code, out, err = call(monkeypatch, capsys, "verify", store)
    assert code == 0, err
    code, out, _ = call(monkeypatch, capsys, "models")
    assert re.search(r"^Text model +Layers x size", out, re.MULTILINE)
    assert re.search(r"^tinybert +5 x 312 +3\.1 MB", out, re.MULTILINE)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--model", "egemaps"],
            "--model egemaps reads audio and --text tinybert reads text; extract one after the other",
        ),
        (["--no-do-normalize"], "--do-normalize does not apply to 'tinybert'"),
        (["--channel", "first"], "--channel does not apply to 'tinybert'"),
        (["--max-seconds", "3"], "--max-seconds does not apply to 'tinybert'"),
        (["--window", "25ms", "--hop", "10ms"], "--hop, --window does not apply to 'tinybert'"),
        (["--batch-seconds", "3"], "--batch-seconds does not apply to 'tinybert', which reads text"),
    ],
)
def test_errors_are_one_line(corpus, monkeypatch, capsys, options, message):
    code, out, err = call(
        monkeypatch, capsys, "--quiet", "extract", "--text", "tinybert", "--weights", "random", *options
    )
    assert (code, out, err) == (1, "", f"error: {message}\n")


def test_missing_words_end_with_a_code_of_their_own(corpus, monkeypatch, capsys):
    transcribe(corpus, {"u0": "hello"})
    arguments = ["extract", "--text", "tinybert", "--weights", "random", "--transcripts", "asr"]
    code, out, _ = call(monkeypatch, capsys, *arguments)
    assert code == 3
    assert "6 failed, listed in failures.csv; first: 'u1': it is missing in the transcripts 'asr'" in out
    assert os.listdir(cache_of(corpus) / "tinybert-asr")
