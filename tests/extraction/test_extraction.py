"""From a corpus to its stores: what is computed, what is kept, and what is told when something goes wrong.

A made-up extractor stands in for the models: its features are simple functions of the signal, and it counts its work.
"""

import contextlib
import csv
import itertools
import logging
import multiprocessing
import os
import shutil
import signal as signals
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import filelock
import numpy as np
import pytest
import soundfile

import featcache
from featcache import extractors
from featcache.audio import Signal
from featcache.cache.reader import FeatureStore
from featcache.cache.writer import StoreWriter
from featcache.errors import AudioError, CorpusError, ModelError, StoreError
from featcache.extraction import extract, extract_corpus, summarise_report
from featcache.extraction import plan as planning
from featcache.extractors.base import Extractor
from featcache.features import Description
from featcache.manifest import Manifest, Utterance
from featcache.units import format_bytes

RATE = 8000
HOP = 160
# An utterance whose samples all have this value makes the made-up extractor answer with …
NOT_A_NUMBER, OVERFLOW, TOO_LONG, BROKEN = 0.5, 0.25, 0.125, 0.0625


class MadeUpExtractor(Extractor):
    """Layer k is k + 1 times a window's mean, deviation and maximum."""

    def __init__(self, *, dataset="hidden_states", num_layers=3, repeat=1, max_seconds=None, **settings):
        self.repeat = repeat
        self.done = []
        self.description = Description(
            dataset=dataset,
            layer_names=tuple(str(number) for number in range(num_layers)) if dataset == "hidden_states" else ("",),
            hidden_size=3 * repeat,
            frame_shift=HOP / RATE,
            sampling_rate=None,
            channel="mean",
            max_seconds=max_seconds,
            settings={"extractor": "made-up", "max_seconds": max_seconds, **settings},
        )

    def num_frames(self, num_samples, sampling_rate):
        return num_samples // HOP

    def hop(self, sampling_rate):
        return HOP

    def extract(self, signals):
        assert signals
        for signal in signals:
            if np.all(signal.samples == TOO_LONG):
                raise AudioError("too long for this model")
            if np.all(signal.samples == BROKEN):
                raise ZeroDivisionError("a bug in the extractor")
        self.done += signals
        return [self.compute(signal) for signal in signals]

    def compute(self, signal):
        windows = signal.samples[: len(signal.samples) // HOP * HOP].reshape(-1, HOP)
        frames = np.stack([windows.mean(axis=1), windows.std(axis=1), windows.max(axis=1)], axis=1)
        features = np.stack([(k + 1) * np.tile(frames, self.repeat) for k in range(len(self.description.layer_names))])
        if np.all(signal.samples == NOT_A_NUMBER):
            features[1, 0, 0] = np.nan
        if np.all(signal.samples == OVERFLOW):
            features[2, 0, 0] = 1e6
        return features.astype(np.float32)


@pytest.fixture
def corpus(tmp_path, rng):
    """Seven utterances of different lengths under ``data/corpora``, with a manifest."""
    folder = tmp_path / "data" / "corpora" / "made-up"
    lengths = [0.5, 1.3, 0.2, 0.9, 2.0, 0.4, 0.7]
    for number, seconds in enumerate(lengths):
        write_audio(folder / f"u{number}.wav", 0.1 * rng.standard_normal(int(seconds * RATE)))
    write_manifest(folder, [f"u{number}.wav" for number in range(len(lengths))])
    return folder


def write_audio(path, samples):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, RATE, subtype="FLOAT")


def write_manifest(folder, paths):
    Manifest([Utterance(utterance_id=Path(path).stem, path=path) for path in paths]).write(folder / "manifest.csv")


@pytest.fixture
def made_up(monkeypatch):
    """The extractor that every model's name stands for."""
    extractor = MadeUpExtractor()
    use(monkeypatch, extractor)
    monkeypatch.setattr(planning, "SHARD_UTTERANCES", 2)
    return extractor


def use(monkeypatch, extractor):
    monkeypatch.setattr(extract_corpus, "create_extractor", lambda _model, **_options: extractor)


def run(**options):
    return extract(**{"model": "wav2vec2-base", "egemaps": False, "workers": 2, **options})


def cache_of(corpus):
    return corpus.parents[1] / "cache" / corpus.name


def store_of(corpus):
    return FeatureStore(cache_of(corpus) / "wav2vec2-base")


def contents(folder):
    """Every file below a folder, with its bytes and the time of its last change."""
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.rglob("*") if path.is_file()}


def failures_of(corpus):
    with open(cache_of(corpus) / "wav2vec2-base" / "failures.csv", newline="") as file:
        return list(csv.DictReader(file))


def check(store, corpus, extractor, utterance_ids):
    """Every utterance holds what the extractor makes of its own file alone."""
    assert list(store) == list(utterance_ids)
    for utterance_id in utterance_ids:
        samples, rate = soundfile.read(corpus / f"{utterance_id}.wav", dtype="float32")
        expected = extractor.compute(Signal(samples=samples, sampling_rate=rate))
        np.testing.assert_array_equal(store[utterance_id], expected.astype(store.metadata["storage_dtype"]))


ALL = [f"u{number}" for number in range(7)]


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
    assert "audio changed since it was extracted: 1 stored utterances are extracted again" in caplog.text
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
    assert taken[2] != set(ALL[:3])  # drawn from all over
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
    use(monkeypatch, MadeUpExtractor(num_layers=13, repeat=256))  # as many values as wav2vec2-base has
    report = run()
    written = sum(path.stat().st_size for path in store_of(folder).path.glob("*.h5"))
    assert report.planned_bytes == pytest.approx(written, rel=0.01)


def test_nothing_is_cut_silently(corpus, monkeypatch, caplog):
    extractor = MadeUpExtractor(max_seconds=0.6)
    use(monkeypatch, extractor)
    report = run()
    assert "wav2vec2-base: of 4 utterances only the first 0.6 s are used" in caplog.text
    store = store_of(corpus)
    assert store.metadata["max_seconds"] == 0.6
    lengths = dict(zip(ALL, [0.5, 1.3, 0.2, 0.9, 2.0, 0.4, 0.7], strict=True))
    for utterance_id, seconds in lengths.items():
        assert store.num_frames([utterance_id])[0] == round(min(seconds, 0.6) * RATE) // HOP
        assert store.duration([utterance_id]) == pytest.approx(seconds)  # what is there, not what is used
    written = sum(path.stat().st_size for path in store.path.glob("shard-*.h5"))
    assert report.planned_bytes <= written


def test_too_small_a_disk_is_told_before_anything_is_computed(corpus, made_up, monkeypatch):
    usage = shutil.disk_usage(corpus)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage._replace(free=1000))
    with pytest.raises(StoreError, match=r"\d+\.\d kB will be needed under .* and 1\.0 kB are free; make room, or .*"):
        run()
    with pytest.raises(StoreError, match="are free"):
        run(dry_run=True)
    assert not made_up.done


def test_a_disk_that_fills_up_keeps_what_was_finished(corpus, made_up, monkeypatch):
    usage = shutil.disk_usage(corpus)

    def disk_usage(folder):  # as if something else had filled the disk after the first shard
        return usage._replace(free=0) if (Path(folder) / "shard-00000.h5").exists() else usage

    message = (
        r"shard-00001.h5 could not be written \(.*No space left.*\); the 2 utterances stored before are kept: make"
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

    def write(writer, records, number):
        if writer.entries():
            (writer.folder / f".shard-00001.h5.{os.getpid()}.tmp").write_bytes(b"half a shard")
            os.kill(os.getpid(), signals.SIGKILL)
        write_shard(writer, records, number)

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
            if len(calls) == 3:  # in the middle of the second shard
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
    assert "stopped before the end; the same command goes on from here" in summarise_report(report)
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
    (corpus / "u0.wav").unlink()  # the first of all: its batch may hold nothing else
    write_audio(corpus / "u1.wav", np.full(RATE, NOT_A_NUMBER))
    write_audio(corpus / "u2.wav", np.full(RATE, OVERFLOW))
    write_audio(corpus / "u3.wav", np.full(RATE, TOO_LONG))
    (corpus / "u5.wav").write_bytes(b"no audio")
    report = run(batch_seconds=batch_seconds)
    assert report.num_extracted == 2
    check(store_of(corpus), corpus, made_up, ["u4", "u6"])
    assert store_of(corpus).complete  # every utterance is stored or known to fail
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
    assert report.num_extracted == 6  # u4 has changed as well
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
        CorpusError, match=r"is the cache of another corpus: .* give this one another name with --corpus"
    ):
        run(data=other)
    assert contents(cache_of(corpus)) == before


def test_nothing_new_but_failures_is_no_nothing_to_do(corpus, made_up):
    (corpus / "u0.wav").unlink()
    run()
    assert summarise_report(run()).startswith("0 of 7 utterances extracted")


def test_no_utterance_at_all(corpus, made_up):
    write_manifest(corpus, ["gone.wav", "lost.wav"])
    with pytest.raises(AudioError, match=r"none of the 2 utterances could be extracted; 'gone': gone.wav: cannot be"):
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
    run()  # the lock's file alone locks nothing
    assert len(made_up.done) == 7


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
    assert len(made_up.done) == 0  # the whole finds what its parts did


def test_parts_at_the_same_time_take_no_shard_of_each_other(corpus, made_up):
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda index: run(shard_index=index, num_shards=3, workers=1), range(3)))
    assert store_of(corpus).complete
    assert set(store_of(corpus)) == set(ALL)
    assert sum(path.name.startswith("shard-") for path in store_of(corpus).path.iterdir()) == 4  # two, one and one


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
    assert run(shard_index=0, num_shards=3).num_extracted == 0  # all are there: another number loses nothing


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


@pytest.mark.parametrize(("index", "number"), [(2, 2), (-1, 2), (1, 1)])
def test_a_part_that_there_is_not(corpus, made_up, index, number):
    with pytest.raises(StoreError, match=f"--shard-index is {index}, expected 0 to {number - 1}"):
        run(shard_index=index, num_shards=number)


@pytest.mark.parametrize("device", ["cuda:7", "nonsense", ""])
def test_a_device_that_there_is_not(corpus, device):
    for devices in (device, f"cpu,{device}"):
        with pytest.raises(ModelError, match=rf"--device {device} cannot be used here \(.*\); cpu always can"):
            extract(device=devices)


def test_a_gpu_does_not_stand_twice(corpus, monkeypatch):
    monkeypatch.setattr(extractors, "usable_device", lambda device: device)
    with pytest.raises(
        ModelError, match=r"^--device cuda,cpu,cuda:0 names cuda:0 twice; one copy of the model is enou"
    ):
        extract(device="cuda,cpu,cuda:0")


@pytest.mark.parametrize(("device", "workers"), [("cpu", 2), ("cuda:0", 2), ("cpu,cpu", 6), ("cuda:0,cuda:1", 6)])
def test_several_devices_have_enough_workers(monkeypatch, device, workers):
    monkeypatch.setattr(planning, "available_cores", lambda: 2)
    assert planning.default_workers(device) == workers


def test_two_stores_are_filled_from_the_same_audio(corpus, made_up, monkeypatch):
    lld = MadeUpExtractor(dataset="frames")
    monkeypatch.setattr(extract_corpus, "create_extractor", lambda model, **_: lld if model == "egemaps" else made_up)
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
    monkeypatch.setattr(extract_corpus, "create_extractor", lambda model, **_: lld if model == "egemaps" else made_up)
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
    assert egemaps.metadata["sampling_rate"] == 16000  # filled once, and carried on as it was begun
    assert egemaps.metadata["max_seconds"] == 1.0
    assert egemaps["u0"].shape[2] == 25
    assert len(list(egemaps.path.glob("shard-*.h5"))) == 1
    assert alone.layer_names == ("0", "1", "2", "3")
    assert alone.metadata["fingerprint"] == together.metadata["fingerprint"]
    for key in alone:
        assert alone[key].shape[0] == 4
        # both are rounded to float16, half a unit in the last place each; the models agree to 1e-5
        np.testing.assert_allclose(alone[key], together[key], rtol=2**-10, atol=1e-4)
    assert extract(**options).num_extracted == 0

    assert extract(**{**options, "name": "several", "device": "cpu,cpu", "workers": None}).num_extracted == 3
    for key in alone:
        np.testing.assert_array_equal(cache["several"].view(key), alone.view(key))
