"""Transcripts → a store like any other, by the same code as for audio, and without any audio."""

import hashlib
import json
import re
import shutil

import h5py
import numpy as np
import pytest
import soundfile

import featcache
from featcache.errors import CorpusError, StoreError
from featcache.extraction import extract, summarise_report
from featcache.extraction import run as running
from featcache.extraction.merge import merge
from featcache.extraction.verify import recompute
from featcache.manifest import Manifest, Utterance
from featcache.units import format_bytes
from tests.extraction.text.text_corpus import TEXTS, cache_of, check, manifest_of, store_of


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
    assert run().num_extracted == 1  # The position in a file is not part of the text.
    assert "transcripts changed since they were extracted: 1 stored utterance is extracted again" in caplog.text
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
    assert "1 of 7 utterances have no text; their frames are only special tokens" in caplog.text
    assert "1 utterance is cut to the first 40 tokens, the most that the model reads" in caplog.text
    tokens = int(store_of(corpus).num_frames([f"u{n}" for n in range(7)]).sum())
    assert report.num_tokens == tokens
    assert f"{tokens} tokens will take {format_bytes(report.planned_bytes)} on disk" in caplog.text
    told = (
        rf"7 of 7 utterances extracted, {tokens} tokens in \d+ s \(\d+ tokens/s\)\n7 of 7 .*\n{report.cache / 'words'}"
    )
    assert re.fullmatch(told, summarise_report(report))


@pytest.mark.parametrize("options", [{}, {"store": "float32"}, {"store": "int8"}, {"pool": True}, {"layers": "last"}])
def test_the_size_is_told_beforehand(corpus, tiny_text_model, options):
    """The announced size is within one percent for full shards of a model that is large compared with HDF5's tables."""
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
    with pytest.raises(
        StoreError, match=r"has 'u6' from other text than .*; extract the part that is out of date again"
    ):
        merge(cache_of(corpus) / "words", [tmp_path / "other" / "cache" / "said" / "words"])


def test_a_limit_takes_the_utterances_that_audio_would(corpus, run):
    assert run(limit=3).num_extracted == 3
    assert list(store_of(corpus)) == [u.utterance_id for u in manifest_of(TEXTS).limited(3)]
    assert run().num_extracted == 4


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
    with pytest.raises(StoreError, match=r"several caches under .*; which corpus\? --corpus other or --corpus said"):
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
    with pytest.raises(StoreError, match="'u0' is stored with 3 frames, but recomputed with 8"):
        recompute(store_of(corpus), None, 7, model=model)
