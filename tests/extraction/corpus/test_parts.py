"""Parts of an extraction, several devices and several stores at once."""

from concurrent.futures import ThreadPoolExecutor

import filelock
import numpy as np
import pytest
import soundfile

import featcache
from featcache import extractors
from featcache.audio import Signal
from featcache.errors import ModelError, StoreError
from featcache.extraction import dask_worker, extract
from featcache.extraction import plan as planning
from featcache.units import format_bytes
from tests.extraction.corpus.made_up import (
    ALL,
    HOP,
    NOT_A_NUMBER,
    RATE,
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


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_parts_together_make_one_finished_store(corpus, made_up, order):
    (corpus / "u2.wav").write_bytes(b"no audio")
    for done, index in enumerate(order, start=1):
        report = run(shard_index=index, num_shards=3)
        assert report.num_utterances == len(ALL[index::3])
        assert store_of(corpus).complete == (done == 3)
    store = store_of(corpus)
    assert set(store) == set(ALL) - {"u2"}
    for utterance_id in store:
        samples, _ = soundfile.read(corpus / f"{utterance_id}.wav", dtype="float32")
        expected = made_up.compute(Signal(samples=samples, sampling_rate=RATE)).astype(np.float16)
        np.testing.assert_array_equal(store.view(utterance_id), expected)
    assert [row["utterance_id"] for row in failures_of(corpus)] == ["u2"]
    made_up.done.clear()
    run()
    assert len(made_up.done) == 0  # The whole extraction finds the features of the parts.


def test_parts_at_the_same_time_take_no_shard_of_each_other(corpus, made_up):
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda index: run(shard_index=index, num_shards=3, workers=1), range(3)))
    assert store_of(corpus).complete
    assert set(store_of(corpus)) == set(ALL)
    assert sum(path.name.startswith("shard-") for path in store_of(corpus).path.iterdir()) == 4  # Two, one and one.


def test_a_part_and_the_whole_keep_out_of_each_others_way(corpus, made_up):
    folder = cache_of(corpus) / "wav2vec2-base"
    folder.mkdir(parents=True)
    with filelock.FileLock(folder / ".lock-1-of-2"):
        run(shard_index=0, num_shards=2)
        for options in ({}, {"shard_index": 1, "num_shards": 2}):
            with pytest.raises(StoreError, match="being written by another process"):
                run(**options)
    with filelock.FileLock(folder / ".lock"), pytest.raises(StoreError, match="being written by another process"):
        run(shard_index=0, num_shards=2)


def test_parts_of_another_number_lose_nothing(corpus, made_up):
    run(shard_index=0, num_shards=2)
    before = contents(store_of(corpus).path)
    for index in range(3):
        with pytest.raises(StoreError, match=r"is being filled in 2 parts, and not all of them are finished; this is"):
            run(shard_index=index, num_shards=3)
    after = contents(store_of(corpus).path)
    assert {path: after[path] for path in before} == before
    run(shard_index=1, num_shards=2)
    check(store_of(corpus), corpus, made_up, [*ALL[::2], *ALL[1::2]])
    assert run(shard_index=0, num_shards=3).num_extracted == 0  # Another number of parts loses nothing.


def test_a_whole_extraction_ends_what_parts_began(corpus, made_up):
    run(shard_index=0, num_shards=2)
    assert run().num_extracted == 3
    assert store_of(corpus).complete
    assert set(store_of(corpus)) == set(ALL)


def test_a_store_knows_what_it_was_asked_for(corpus, made_up):
    run(limit=2)
    for index_lost in (False, True):
        store = store_of(corpus)
        assert (len(store), store.complete, store.num_requested, store.num_in_corpus) == (2, True, 2, 7)
        if not index_lost:
            (store.path / "index.h5").unlink()
    run(limit=4)
    store = store_of(corpus)
    assert (len(store), store.complete, store.num_requested, store.num_in_corpus) == (4, True, 4, 7)
    run()
    assert (store_of(corpus).num_requested, store_of(corpus).num_in_corpus) == (7, 7)


@pytest.mark.parametrize(("index", "number"), [(2, 2), (1, 1)])
def test_a_part_that_there_is_not(corpus, made_up, index, number):
    with pytest.raises(StoreError, match=f"--shard-index is {index}, expected 0 to {number - 1}"):
        run(shard_index=index, num_shards=number)


@pytest.mark.parametrize(
    ("device", "message"),
    [
        ("cuda:7", r"--device cuda:7 is not available here \(.*\); use --device cpu"),
        ("nonsense", "^no device 'nonsense'; expected cpu, cuda, cuda:1, mps or auto$"),
        ("", "^no device ''; expected cpu, cuda, cuda:1, mps or auto$"),
    ],
)
def test_a_device_that_there_is_not(corpus, device, message):
    for devices in (device, f"cpu,{device}"):
        with pytest.raises(ModelError, match=message):
            extract(device=devices)


def test_a_gpu_does_not_stand_twice(corpus, monkeypatch):
    monkeypatch.setattr(extractors, "usable_device", lambda device: device)
    with pytest.raises(
        ModelError, match=r"^--device cuda,cpu,cuda:0 names cuda:0 twice; a GPU runs one copy of the mod"
    ):
        extract(device="cuda,cpu,cuda:0")


@pytest.mark.parametrize(("device", "workers"), [("cpu", 2), ("cuda:0", 2), ("cpu,cpu", 6), ("cuda:0,cuda:1", 6)])
def test_several_devices_have_enough_workers(monkeypatch, device, workers):
    monkeypatch.setattr(planning, "available_cores", lambda: 2)
    assert planning.default_workers(device) == workers


def test_two_stores_are_filled_from_the_same_audio(corpus, made_up, monkeypatch):
    lld = MadeUpExtractor(dataset="frames")
    monkeypatch.setattr(dask_worker, "create_extractor", lambda model, **_: lld if model == "egemaps" else made_up)
    report = run(egemaps=True)
    assert report.stores == ("wav2vec2-base", "egemaps")
    assert report.num_extracted == 7
    cache = featcache.open(report.cache)
    check(cache["wav2vec2-base"], corpus, made_up, ALL)
    check(cache["egemaps"], corpus, lld, ALL)
    report = run(model="hubert-base", egemaps=True)
    assert report.num_extracted == 7
    assert len(made_up.done) == 14
    assert len(lld.done) == 7


def test_an_utterance_may_fail_in_one_store_alone(corpus, made_up, monkeypatch):
    lld = MadeUpExtractor(dataset="frames")
    monkeypatch.setattr(dask_worker, "create_extractor", lambda model, **_: lld if model == "egemaps" else made_up)
    lld.compute = lambda signal: np.ones((1, len(signal.samples) // HOP, 3), dtype=np.float32)
    write_audio(corpus / "u3.wav", np.full(RATE, NOT_A_NUMBER))
    report = run(egemaps=True)
    assert [(failure.store, failure.utterance_id) for failure in report.failures] == [("wav2vec2-base", "u3")]
    cache = featcache.open(report.cache)
    assert "u3" not in cache["wav2vec2-base"]
    assert "u3" in cache["egemaps"]
    assert not (report.cache / "egemaps" / "failures.csv").exists()


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1000, "1.0 kB"),
        (25_000_000_000, "25.0 GB"),
        (4e12, "4.0 TB"),
        (4e15, "4.0 PB"),
        (4e21, "4000.0 EB"),
        (0.2, "0 bytes"),
        (1, "1 byte"),
        (999.6, "1.0 kB"),
        (999_960, "1.0 MB"),
        (999_940, "999.9 kB"),
        (999_999_999_999, "1.0 TB"),
    ],
)
def test_sizes_for_people(size, text):
    assert format_bytes(size) == text


def test_a_real_model_and_egemaps(tmp_path, speech_like, tiny_model):
    folder = tmp_path / "data" / "corpora" / "speech"
    for number, seconds in enumerate([0.6, 1.1, 0.8]):
        write_audio(folder / f"u{number}.wav", speech_like(int(seconds * RATE), RATE, seed=number))
    write_manifest(folder, [f"u{number}.wav" for number in range(3)])
    extract(model="egemaps", sampling_rate=16000, max_seconds=1.0)
    model = tiny_model("wav2vec2")
    options = {"model": model, "name": "alone", "batch_seconds": 0, "workers": 2}
    report = extract(**options)
    assert not report.failures
    assert report.stores == ("alone", "egemaps")
    batched = extract(**{**options, "name": "batched", "batch_seconds": 10, "workers": 1})
    assert batched.num_extracted == 3

    cache = featcache.open(report.cache)
    alone, together, egemaps = cache["alone"], cache["batched"], cache["egemaps"]
    assert egemaps.metadata["sampling_rate"] == 16000  # Filled once, and continued with its settings.
    assert egemaps.metadata["max_seconds"] == 1.0
    assert egemaps["u0"].shape[2] == 25
    assert len(list(egemaps.path.glob("shard-*.h5"))) == 1
    assert alone.layer_names == ("0", "1", "2", "3")
    assert alone.metadata["fingerprint"] == together.metadata["fingerprint"]
    for key in alone:
        assert alone[key].shape[0] == 4
        # Both are rounded to float16, by half a unit in the last place; the models agree to 1e-5.
        np.testing.assert_allclose(alone[key], together[key], rtol=2**-10, atol=1e-4)
    assert extract(**options).num_extracted == 0

    assert extract(**{**options, "name": "several", "device": "cpu,cpu", "workers": None}).num_extracted == 3
    for key in alone:
        np.testing.assert_array_equal(cache["several"].view(key), alone.view(key))
