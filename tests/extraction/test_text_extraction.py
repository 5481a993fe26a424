"""Transcripts → a store like any other, through the machinery that audio goes through, and without any audio."""

import hashlib
import json
import os
import re
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
import soundfile

import featcache
from featcache.cache.reader import FeatureStore
from featcache.cli.app import main
from featcache.errors import AudioError, CorpusError, FeatcacheError, ManifestError, ModelError, StoreError
from featcache.extraction import extract, summarise_report
from featcache.extraction import plan as planning
from featcache.extraction import run as running
from featcache.extraction.merge import merge
from featcache.extraction.verify import recompute
from featcache.extractors import create_extractor
from featcache.manifest import Manifest, Utterance
from featcache.transcripts.files import mark_unfinished, write_transcripts
from featcache.units import format_bytes

TEXTS = ["hello", "I am happy", "", "unhappy, really unhappy!", "no", "hello hello hello", "a" * 60]


def manifest_of(texts):
    return Manifest(
        [
            Utterance(utterance_id=f"u{n}", path=f"u{n}.wav", start=0.5, speaker_id="s", transcript=text)
            for n, text in enumerate(texts)
        ]
    )


@pytest.fixture
def corpus(tmp_path):
    """Seven utterances with transcripts; their audio is nowhere."""
    folder = tmp_path / "data" / "corpora" / "said"
    folder.mkdir(parents=True)
    manifest_of(TEXTS).write(folder / "manifest.csv")
    return folder


@pytest.fixture
def model(tiny_text_model, monkeypatch):
    monkeypatch.setattr(planning, "SHARD_UTTERANCES", 3)
    return tiny_text_model("bert")


@pytest.fixture
def run(model):
    def call(**options):
        return extract(**{"text": model, "name": "words", "workers": 2, **options})

    return call


def cache_of(corpus):
    return corpus.parents[1] / "cache" / corpus.name


def store_of(corpus, name="words"):
    return FeatureStore(cache_of(corpus) / name)


def transcribe(corpus, texts, name="asr", **settings):
    write_transcripts(cache_of(corpus), name, texts, {"settings": {"model_id": "some/asr", **settings}})


def check(store, model, texts):
    """Every utterance holds what the extractor makes of its own text alone, in float16."""
    extractor = create_extractor(model, text=True)
    assert list(store) == [f"u{n}" for n in range(len(texts))]
    for utterance_id, text in zip(store, texts, strict=True):
        [expected] = extractor.extract([extractor.tokenise(text)])
        # computed beside others, it may be rounded the other way
        np.testing.assert_allclose(store[utterance_id], expected, rtol=2**-10, atol=1e-4)


def test_a_store_like_any_other(corpus, model, run):
    report = run()
    assert report.stores == ("words",)
    assert (report.num_extracted, report.num_utterances, report.failures) == (7, 7, ())
    found = sorted(path.name for path in report.cache.glob("[!.]*"))
    assert found == ["checksums.sha256", "corpus.json", "manifest.csv", "words"]
    store = store_of(corpus)
    assert store.complete
    assert len(list(store.path.glob("shard-*.h5"))) == 3
    assert (store.layer_names, store.num_blocks, store.hidden_size) == (("0", "1", "2", "3"), 3, 32)
    assert np.isnan(store.frame_shift)
    assert store.is_of_words
    assert store.has_frames
    check(store, model, TEXTS)
    hashes = [hashlib.sha256(text.encode()).hexdigest() for text in TEXTS]
    assert store.audio_sha256(store.utterance_ids) == hashes
    with h5py.File(store.path / "shard-00000.h5") as file:
        assert json.loads(file.attrs["special_tokens"]) == {"before": ["[CLS]"], "after": ["[SEP]"]}
        assert (file.attrs["sampling_rate"], file.attrs["channel"]) == (0, "")
        assert np.isnan([file["utterances"][time] for time in ("duration", "start", "end")]).all()


@pytest.mark.parametrize("options", [{"workers": 1}, {"workers": 4}, {"device": "cpu,cpu"}, {"layers": "0,1,2,3"}])
def test_features_depend_on_no_speed_option(corpus, model, run, options):
    run(**options)
    check(store_of(corpus), model, TEXTS)


def test_what_is_there_is_not_computed_again(corpus, run, monkeypatch):
    run()
    again = run()
    assert summarise_report(again).startswith("nothing to do: all 7 utterances are cached")
    with pytest.raises(StoreError, match=r"made with other settings: layers is .* --name"):
        run(layers="last")


def test_changed_words_are_computed_again_and_nothing_else(corpus, model, run, caplog):
    run()
    texts = [*TEXTS[:4], "yes", *TEXTS[5:]]
    changed = [
        Utterance(utterance_id=u.utterance_id, path="elsewhere.wav", end=2.0, transcript=u.transcript)
        for u in manifest_of(texts)
    ]
    Manifest(changed).write(corpus / "manifest.csv")
    assert run().num_extracted == 1  # where it stands in a file is not what was said
    assert "transcripts changed since they were extracted: 1 stored utterances are extracted again" in caplog.text
    check(store_of(corpus), model, texts)


def test_an_interrupted_extraction_goes_on(corpus, model, run, monkeypatch):
    original = running.ExtractionRun._write
    written = []

    def interrupt_after_the_first(self, outcomes):
        original(self, outcomes)
        written.append(outcomes)
        if len(written) == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(running.ExtractionRun, "_write", interrupt_after_the_first)
    monkeypatch.setattr(running, "BATCHES_AHEAD", 1)
    report = run(workers=1)
    assert report.interrupted
    assert 0 < report.num_extracted < 7
    monkeypatch.setattr(running.ExtractionRun, "_write", original)
    assert run().num_extracted == 7 - report.num_extracted
    assert sorted(store_of(corpus)) == [f"u{n}" for n in range(7)]


def test_what_is_told(corpus, run, caplog):
    caplog.set_level("INFO")
    report = run()
    assert "1 of 7 utterances have no words; their frames are special tokens alone" in caplog.text
    assert "of 1 utterances only the first 40 tokens are used, which is all that the model reads" in caplog.text
    tokens = int(store_of(corpus).num_frames([f"u{n}" for n in range(7)]).sum())
    assert report.num_tokens == tokens
    assert f"{tokens} tokens will take {format_bytes(report.planned_bytes)} on disk" in caplog.text
    told = rf"7 of 7 utterances extracted, {tokens} tokens in \d+ s \(\d+ tokens/s\)\n{report.cache / 'words'}"
    assert re.fullmatch(told, summarise_report(report))


@pytest.mark.parametrize("options", [{}, {"store": "float32"}, {"store": "int8"}, {"pool": True}, {"layers": "last"}])
def test_the_size_is_told_beforehand(corpus, tiny_text_model, options):
    """Within one percent, for shards that are full; the model is large enough for HDF5's own tables to count little."""
    texts = [f"{n} " + "happy " * (n % 23) for n in range(256)]
    manifest_of(texts).write(corpus / "manifest.csv")
    large = tiny_text_model("bert", hidden_size=256)
    planned = extract(text=large, name="words", dry_run=True, **options).planned_bytes
    assert not cache_of(corpus).exists()
    report = extract(text=large, name="words", **options)
    size = sum(path.stat().st_size for path in (report.cache / "words").glob("*.h5"))
    assert planned == report.planned_bytes == pytest.approx(size, rel=0.01)


@pytest.mark.parametrize("storage", ["float32", "int8"])
def test_storage(corpus, model, run, storage):
    run(store=storage)
    store = store_of(corpus)
    assert store.metadata["storage_dtype"] == storage
    assert all(deviation.within for deviation in recompute(store, None, 7, model=model))


def test_statistics_alone(corpus, model, run):
    run()
    run(pool=True, name="pooled")
    whole, pooled = store_of(corpus), store_of(corpus, "pooled")
    assert pooled.pooled_only
    for kind in ("mean", "std", "max"):
        np.testing.assert_allclose(pooled.pooled(kind), whole.pooled(kind), atol=1e-5)
    assert all(deviation.within for deviation in recompute(pooled, None, 7, model=model))


def test_parts_make_one_store(corpus, model, run):
    for index in (2, 0, 1):
        run(shard_index=index, num_shards=3)
    store = store_of(corpus)
    assert store.complete
    assert sorted(store) == [f"u{n}" for n in range(7)]
    assert run().num_extracted == 0


def test_stores_are_merged(corpus, model, run, tmp_path):
    for index in (0, 1):
        run(shard_index=index, num_shards=2, home=tmp_path / f"part-{index}", data=corpus)
    parts = [tmp_path / f"part-{index}" / "cache" / "said" / "words" for index in (0, 1)]
    merged = merge(cache_of(corpus) / "words", parts)
    assert (merged.num_utterances, merged.complete) == (7, True)
    assert run().num_extracted == 0
    write_other = manifest_of([*TEXTS[:6], "something else"])
    write_other.write(corpus / "manifest.csv")
    run(home=tmp_path / "other", data=corpus)
    with pytest.raises(StoreError, match=r"has 'u6' from other words than .*; extract what is out of date again"):
        merge(cache_of(corpus) / "words", [tmp_path / "other" / "cache" / "said" / "words"])


def test_a_limit_takes_the_utterances_that_audio_would(corpus, run):
    assert run(limit=3).num_extracted == 3
    assert list(store_of(corpus)) == [u.utterance_id for u in manifest_of(TEXTS).limited(3)]
    assert run().num_extracted == 4


# Without audio.


def test_a_cache_with_a_manifest_is_enough(corpus, model, run):
    run()
    manifest = (cache_of(corpus) / "manifest.csv").read_bytes()
    shutil.rmtree(corpus.parent)
    for options in ({}, {"corpus": "said"}):
        assert run(name=f"words-{len(options)}", **options).num_extracted == 7
        check(store_of(corpus, f"words-{len(options)}"), model, TEXTS)
    assert (cache_of(corpus) / "manifest.csv").read_bytes() == manifest


def test_which_cache_must_be_clear(corpus, run):
    run()
    shutil.rmtree(corpus.parent)
    shutil.copytree(cache_of(corpus), cache_of(corpus).with_name("other"))
    with pytest.raises(StoreError, match=r"several caches under .*: other, said; choose with --corpus NAME"):
        run()
    shutil.rmtree(cache_of(corpus).parent)
    with pytest.raises(CorpusError, match=r"no corpus under .*; put one there"):
        run()
    with pytest.raises(CorpusError, match="no corpus 'said' under"):
        run(corpus="said")


def test_words_and_sounds_stand_side_by_side(corpus, model, run, tiny_model, speech_like):
    for n in range(7):
        soundfile.write(corpus / f"u{n}.wav", speech_like(16000, seed=n), 16000)
    extract(model=tiny_model("wav2vec2"), name="ssl")
    run()
    cache = featcache.open(cache_of(corpus))
    assert list(cache) == ["egemaps", "ssl", "words"]
    assert set(cache["ssl"]) == set(cache["words"])


# Checked.


def test_words_are_computed_anew(corpus, model, run):
    run()
    shutil.rmtree(corpus.parent)
    deviations = recompute(store_of(corpus), None, 7, model=model)
    assert [deviation.layer for deviation in deviations] == ["0", "1", "2", "3"]
    assert all(deviation.within for deviation in deviations)
    assert max(deviation.largest for deviation in deviations) > 0


def test_another_text_has_other_frames(corpus, model, run):
    run()
    manifest_of(["hello there", *TEXTS[1:]]).write(cache_of(corpus) / "manifest.csv")
    with pytest.raises(StoreError, match="'u0' is stored with 3 frames, computed anew it has 8"):
        recompute(store_of(corpus), None, 7, model=model)


# A machine's transcripts.


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
    assert {failure.reason for failure in report.failures} == {"the transcripts 'asr' lack it"}
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
    with pytest.raises(AudioError, match=r"utterance 'u6': the transcripts 'asr' lack it \(stopped by --strict\)"):
        run(transcripts="asr", strict=True)


# What cannot be.


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"transcripts": "asr"}, StoreError, r"no transcripts 'asr' in .* \(there: none\)"),
        (
            {"model": "egemaps"},
            ModelError,
            "--model egemaps reads audio and --text .* words; extract one after the other",
        ),
        ({"batch_seconds": 5}, ModelError, "--batch-seconds does not apply to .*, which reads no audio"),
        ({"text": None, "model": "egemaps", "transcripts": "asr"}, ModelError, "--transcripts says .* --text"),
        ({"text": "hubert-base"}, ModelError, "hubert-base is a 'hubert' model of speech, .* use it with --model"),
        ({"text": "openai/whisper-tiny"}, ModelError, "is a 'whisper' model of speech, .* use it with --model"),
        ({"text": "spectrogram"}, ModelError, "spectrogram reads audio, .* use it with --model"),
        ({"text": "tinybird"}, ModelError, "unknown text model 'tinybird'; nearest: tinybert"),
        ({"text": None, "model": "tinybert"}, ModelError, "tinybert is a 'bert' model of text, .* use it with --text"),
        (
            {"text": None, "model": "FacebookAI/roberta-base"},
            ModelError,
            "FacebookAI/roberta-base is a 'roberta' model of text, .* use it with --text",
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
    with pytest.raises(ModelError, match=r"is a 'wav2vec2' model of speech, .* use it with --model"):
        run(text=tiny_model("wav2vec2"))


@pytest.mark.parametrize("texts", [[""] * 3, [" ", "\n", ""]])
def test_a_corpus_without_words_is_refused(corpus, run, texts):
    manifest_of(texts).write(corpus / "manifest.csv")
    with pytest.raises(
        ManifestError, match=r"none of 3 utterances has words: .* column 'transcript' is empty or missing"
    ):
        run()
    transcribe(corpus, {"u0": "", "u1": " "})
    with pytest.raises(ManifestError, match="the transcripts 'asr' have no words for any of 3 utterances"):
        run(transcripts="asr")


def test_a_missing_column_is_no_words(corpus, run):
    (corpus / "manifest.csv").write_text("path\na.wav\n")
    with pytest.raises(FeatcacheError, match=r"column 'transcript' is empty or missing; fill it, or .* --transcripts"):
        run()


# On the command line.


def call(monkeypatch, capsys, *arguments):
    monkeypatch.setattr("sys.argv", ["featcache", *map(str, arguments)])
    try:
        main()
        code = 0
    except SystemExit as stop:
        code = stop.code or 0
    captured = capsys.readouterr()
    return code, captured.out, captured.err


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
        (["--model", "egemaps"], "--model egemaps reads audio and --text tinybert words; extract one after the other"),
        (["--no-do-normalize"], "--do-normalize does not apply to 'tinybert'"),
        (["--channel", "first"], "--channel does not apply to 'tinybert'"),
        (["--max-seconds", "3"], "--max-seconds does not apply to 'tinybert'"),
        (["--window", "25ms", "--hop", "10ms"], "--hop, --window does not apply to 'tinybert'"),
        (["--batch-seconds", "3"], "--batch-seconds does not apply to 'tinybert', which reads no audio"),
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
    assert "6 failed, listed in failures.csv; first: 'u1': the transcripts 'asr' lack it" in out
    assert os.listdir(cache_of(corpus) / "tinybert-asr")
