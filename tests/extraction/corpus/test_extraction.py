"""From a corpus to its stores: which utterances are computed, kept and recomputed."""

import itertools
import logging

import numpy as np
import pytest
import soundfile

import featcache
from featcache.cache.reader import FeatureStore
from featcache.errors import StoreError
from featcache.extraction import summarise_report
from featcache.manifest import Manifest, Utterance
from tests.extraction.corpus.made_up import (
    ALL,
    HOP,
    RATE,
    MadeUpExtractor,
    cache_of,
    check,
    contents,
    run,
    store_of,
    use,
    write_audio,
    write_manifest,
)


@pytest.mark.parametrize("workers", [1, 2, 3, 4])
@pytest.mark.parametrize("batch_seconds", [0, 5, 60])
def test_features_and_their_order_depend_on_no_speed_option(corpus, made_up, workers, batch_seconds):
    report = run(workers=workers, batch_seconds=batch_seconds)
    assert report.num_utterances == report.num_extracted == 7
    assert report.stores == ("wav2vec2-base",)
    assert report.audio_seconds == pytest.approx(6.0)
    assert not report.interrupted
    assert not report.failures
    store = store_of(corpus)
    assert store.complete
    check(store, corpus, made_up, ALL)
    assert len(list(store.path.glob("shard-*.h5"))) == 4
    assert not (store.path / "failures.csv").exists()


@pytest.mark.parametrize("storage_dtype", ["float16", "float32"])
def test_models_are_stored_as_asked_for(corpus, made_up, storage_dtype):
    run(store=storage_dtype)
    store = store_of(corpus)
    assert store.view("u0").dtype == storage_dtype
    check(store, corpus, made_up, ALL)


def test_descriptors_are_stored_in_full(corpus, monkeypatch):
    extractor = MadeUpExtractor(dataset="frames")
    use(monkeypatch, extractor)
    run(model="spectrogram", store="float16")
    store = FeatureStore(cache_of(corpus) / "spectrogram")
    assert store.view("u0").dtype == np.float32
    check(store, corpus, extractor, ALL)


def test_what_is_stored_is_not_computed_again(corpus, made_up):
    run()
    assert len(made_up.done) == 7
    before = contents(store_of(corpus).path)
    report = run()
    assert len(made_up.done) == 7
    assert report.num_extracted == report.audio_seconds == report.planned_bytes == 0
    after = contents(store_of(corpus).path)
    shards = [path for path in before if path.name.startswith("shard")]
    assert {path: before[path] for path in shards} == {path: after[path] for path in shards}
    assert store_of(corpus).complete
    assert summarise_report(report).startswith("nothing to do: all 7 utterances are cached")


def test_the_cache_keeps_the_manifest_and_the_corpus_name(corpus, made_up):
    report = run()
    assert report.cache == cache_of(corpus)
    cache = featcache.open(report.cache)
    assert list(cache.manifest) == list(Manifest.read(corpus / "manifest.csv"))
    assert (report.cache / "corpus.json").read_text() == '{"corpus": "folder"}'


def test_what_a_killed_process_left_of_the_manifest_goes(corpus, made_up):
    cache = run().cache
    left = [cache / f".{name}.{'0f' * 16}.tmp" for name in ("manifest.csv", "corpus.json")]
    for path in left:
        path.write_bytes(b"half of it")
    run()
    assert not [path for path in left if path.exists()]


def test_ids_may_be_any_text(corpus, made_up):
    ids = ['say "a, b"', "one\r\ntwo", "Ärger 😠", "x" * 70_000, "../up", "u' OR 1=1", "u6"]
    Manifest([Utterance(utterance_id=key, path=f"u{i}.wav") for i, key in enumerate(ids)]).write(
        corpus / "manifest.csv"
    )
    run()
    assert store_of(corpus).utterance_ids == tuple(ids)
    assert run().num_extracted == 0


def test_changed_audio_is_computed_again_and_nothing_else(corpus, made_up, caplog):
    run()
    old = dict(store_of(corpus))
    samples, _ = soundfile.read(corpus / "u3.wav")
    write_audio(corpus / "u3.wav", samples[: len(samples) // 2])
    report = run()
    assert "audio changed since it was extracted: 1 stored utterance is extracted again" in caplog.text
    assert report.num_extracted == 1
    assert len(made_up.done) == 8
    store = store_of(corpus)
    check(store, corpus, made_up, ALL)
    assert len(store["u3"][0]) < len(old["u3"][0])
    assert run().num_extracted == 0


def test_a_changed_stretch_is_computed_again_and_nothing_else(corpus, made_up):
    run()
    whole = store_of(corpus)["u4"]
    utterances = list(Manifest.read(corpus / "manifest.csv"))
    for times in ({"start": 0.5}, {"start": 0.5, "end": 1.5}, {"end": 1.5}):
        utterances[4] = Utterance(utterance_id="u4", path="u4.wav", **times)
        Manifest(utterances).write(corpus / "manifest.csv")
        assert run().num_extracted == 1
        first, last = (round(times.get(name, default) * RATE / HOP) for name, default in (("start", 0), ("end", 2)))
        np.testing.assert_array_equal(store_of(corpus)["u4"], whole[:, first:last])
        assert run().num_extracted == 0


def test_a_file_that_moves_or_goes_away_keeps_its_features(corpus, made_up):
    run()
    (corpus / "u0.wav").rename(corpus / "moved.wav")
    (corpus / "u1.wav").unlink()
    Manifest([Utterance(utterance_id=key, path="moved.wav" if key == "u0" else f"{key}.wav") for key in ALL]).write(
        corpus / "manifest.csv"
    )
    report = run()
    assert report.num_extracted == 0
    assert not report.failures
    assert len(store_of(corpus)) == 7


def test_new_utterances_are_added(corpus, made_up):
    write_manifest(corpus, ["u0.wav", "u1.wav"])
    run()
    write_manifest(corpus, [f"{key}.wav" for key in ALL])
    assert run().num_extracted == 5
    check(store_of(corpus), corpus, made_up, ALL)


def test_other_settings_are_refused_and_nothing_is_touched(corpus, made_up, monkeypatch):
    run()
    before = contents(cache_of(corpus))
    write_manifest(corpus, ["u0.wav"])
    use(monkeypatch, MadeUpExtractor(layers="0,4"))
    with pytest.raises(StoreError, match=r"was made with other settings: layers is None there and 0,4 now; .* --name"):
        run()
    with pytest.raises(StoreError, match="storage_dtype is float16 there and float32 now"):
        run(store="float32")
    assert contents(cache_of(corpus)) == before
    run(name="some-layers")
    assert list(featcache.open(cache_of(corpus))) == ["some-layers", "wav2vec2-base"]


def test_larger_limits_keep_what_smaller_ones_took(corpus, made_up):
    taken = []
    for limit in range(1, 9):
        report = run(limit=limit)
        assert report.num_utterances == min(limit, 7)
        assert report.num_extracted == (1 if limit <= 7 else 0)
        taken.append(set(store_of(corpus)))
    assert all(smaller <= larger for smaller, larger in itertools.pairwise(taken))
    assert taken[2] != set(ALL[:3])  # A random subset.
    assert taken[-1] == set(ALL)


def test_a_dry_run_writes_nothing(corpus, made_up, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    home = tmp_path / "elsewhere" / "data"
    plan = run(data=corpus, home=home, dry_run=True)
    assert not home.parent.exists()
    assert not made_up.done
    assert plan.num_extracted == 7
    assert plan.planned_bytes > 0
    assert "wav2vec2-base: 7 of 7 utterances to extract, 0 cached" in caplog.text
    assert "6 s of audio will take" in caplog.text

    run(limit=3)
    before = contents(tmp_path)
    assert run(dry_run=True).num_extracted == 4
    assert contents(tmp_path) == before


def test_the_size_that_is_told_is_the_size_that_is_written(tmp_path, rng, monkeypatch):
    folder = tmp_path / "data" / "corpora" / "made-up"
    for number in range(4):
        write_audio(folder / f"u{number}.wav", 0.1 * rng.standard_normal(RATE * (number + 1)))
    write_manifest(folder, [f"u{number}.wav" for number in range(4)])
    use(monkeypatch, MadeUpExtractor(num_layers=13, repeat=256))  # The same number of values as wav2vec2-base.
    report = run()
    written = sum(path.stat().st_size for path in store_of(folder).path.glob("*.h5"))
    assert report.planned_bytes == pytest.approx(written, rel=0.01)


def test_nothing_is_cut_silently(corpus, monkeypatch, caplog):
    extractor = MadeUpExtractor(max_seconds=0.6)
    use(monkeypatch, extractor)
    report = run()
    assert "wav2vec2-base: 4 utterances are cut to the first 0.6 s" in caplog.text
    store = store_of(corpus)
    assert store.metadata["max_seconds"] == 0.6
    lengths = dict(zip(ALL, [0.5, 1.3, 0.2, 0.9, 2.0, 0.4, 0.7], strict=True))
    for utterance_id, seconds in lengths.items():
        assert store.num_frames([utterance_id])[0] == round(min(seconds, 0.6) * RATE) // HOP
        assert store.duration([utterance_id]) == pytest.approx(seconds)  # The whole duration, not the used part.
    written = sum(path.stat().st_size for path in store.path.glob("shard-*.h5"))
    assert report.planned_bytes <= written
