"""Long recordings are computed in windows and stored like all others; memory does not grow with their length."""

import csv
import logging
import shutil
import sys
import tracemalloc
from pathlib import Path

import h5py
import numpy as np
import pytest
import soundfile

import featcache
from featcache.audio import known_files
from featcache.cache import spool
from featcache.cache.reader import FeatureStore
from featcache.cache.statistics import of_frames
from featcache.errors import ModelError, StoreError
from featcache.extraction import extract
from featcache.extraction import plan as planning
from featcache.extraction.inputs import AudioInput
from featcache.extraction.verify import damaged_datasets, recompute
from featcache.extractors import create_extractor
from featcache.extractors.chunked import extract_windows
from featcache.extractors.ssl import SSLExtractor
from featcache.manifest import Manifest, Utterance
from tests.benchmarks.process import peak_memory
from tests.forked import Forked

RATE = 16000
CHUNKS = {"chunk_seconds": 2.0, "overlap_seconds": 0.5}
# Difference between Chan's merging and float64 sums: some units in the last place of float32.
MERGED = 1e-5


@pytest.fixture(scope="module")
def corpus(tmp_path_factory, speech_like):
    """Return a corpus: a long stereo file at 44.1 kHz, a short file, and three utterances in another long file."""
    folder = tmp_path_factory.mktemp("long") / "talks"
    folder.mkdir()
    stereo = np.stack([speech_like(300_000, 44100, seed=seed) for seed in (0, 1)], axis=1)
    soundfile.write(folder / "talk.wav", stereo, 44100)
    soundfile.write(folder / "word.wav", speech_like(12_000), RATE)
    soundfile.write(folder / "tape.flac", speech_like(9 * RATE, seed=2), RATE)
    Manifest(
        [
            Utterance(utterance_id="talk", path="talk.wav"),
            Utterance(utterance_id="word", path="word.wav"),
            Utterance(utterance_id="one", path="tape.flac", end=4.0),
            Utterance(utterance_id="two", path="tape.flac", start=4.0, end=5.5),
            Utterance(utterance_id="three", path="tape.flac", start=5.5),
        ]
    ).write(folder / "manifest.csv")
    return folder


@pytest.fixture(params=["memory", "disk"])
def where(request, monkeypatch):
    if request.param == "disk":
        monkeypatch.setattr(spool, "IN_MEMORY_BYTES", 0)
        monkeypatch.setattr(spool, "PIECE_BYTES", 1000)
    return request.param


@pytest.fixture
def model(tiny_model):
    return tiny_model("wav2vec2")


@pytest.fixture
def run(corpus, model, tmp_path):
    def start(**options):
        given = {"model": model, "data": corpus, "home": tmp_path / "data", "name": "ssl", "workers": 2, **options}
        return extract(**{"egemaps": False, **given})

    return start


def expected(corpus, extractor, utterance):
    """Return the frames of all windows, concatenated."""
    return np.concatenate([features for _, features in extract_windows(extractor, corpus, utterance)], axis=1)


@pytest.mark.parametrize("storage", ["float16", "float32", "int8"])
@pytest.mark.parametrize("batch_seconds", [0, 5])
def test_a_store_holds_the_frames_of_the_windows(corpus, run, model, where, storage, batch_seconds):
    report = run(store=storage, batch_seconds=batch_seconds, **CHUNKS)
    assert not report.failures
    store = FeatureStore(report.cache / "ssl")
    assert store.complete
    assert (store.metadata["chunk_seconds"], store.metadata["overlap_seconds"]) == (2.0, 0.5)
    extractor = create_extractor(model, **CHUNKS)
    for utterance in Manifest.read(corpus / "manifest.csv"):
        found = store[utterance.utterance_id]
        frames = expected(corpus, extractor, utterance)
        scale = np.abs(frames).max()
        # Rounding of the storage dtype; batches of windows agree to 1e-5.
        tolerance = {"float16": 2**-11, "float32": 0, "int8": 1 / 127}[storage] + (2e-5 if batch_seconds else 1e-6)
        np.testing.assert_allclose(found, frames, rtol=0, atol=tolerance * scale)
        statistics = of_frames(frames)
        for kind in ("mean", "max"):
            pooled = store.pooled(kind, [utterance.utterance_id])[0]
            np.testing.assert_allclose(pooled, getattr(statistics, kind), rtol=0, atol=2 * MERGED * scale)
    assert list(damaged_datasets(store.path)) == []
    assert all(deviation.within for deviation in recompute(store, corpus, 5, model=model))
    assert sorted(path.name for path in store.path.iterdir() if path.suffix == ".tmp") == []


@pytest.mark.parametrize("options", [{}, CHUNKS])
def test_a_file_is_hashed_once_for_all_of_its_utterances(run, corpus, monkeypatch, options):
    hashed = []
    original = known_files.sha256_of_audio
    monkeypatch.setattr(known_files, "sha256_of_audio", lambda path: hashed.append(path.name) or original(path))
    store = FeatureStore(run(egemaps=True, **options).cache / "ssl")
    assert sorted(hashed) == ["talk.wav", "tape.flac", "word.wav"]
    assert store.audio_sha256(["one", "three"]) == [original(corpus / "tape.flac")] * 2


def test_utterances_that_are_not_longer_are_computed_as_ever(run):
    run(name="whole", store="float32")
    run(name="windows", store="float32", chunk_seconds=9.5, overlap_seconds=2.0)
    cache = featcache.open(run(name="whole", store="float32").cache)
    whole, windows = cache["whole"], cache["windows"]
    assert whole.metadata["fingerprint"] != windows.metadata["fingerprint"]
    assert "chunk_seconds" not in whole.metadata["settings"]
    for key in whole:
        np.testing.assert_array_equal(whole[key], windows[key])


def test_windows_count_among_the_settings(run):
    run(**CHUNKS)
    for options, told in [
        ({}, "chunk_seconds is 2.0 there and None now"),
        ({**CHUNKS, "chunk_seconds": 3}, "chunk_seconds is 2.0 there and 3.0 now"),
        ({"chunk_seconds": 2}, "overlap_seconds is 0.5 there and 2.0 now"),
    ]:
        if options == {"chunk_seconds": 2}:
            with pytest.raises(
                ModelError, match="--overlap-seconds is 2, expected less than --chunk-seconds, which is 2"
            ):
                run(**options)
            continue
        with pytest.raises(StoreError, match=told):
            run(**options)
    assert run(chunk_seconds=2, overlap_seconds=0.5).num_extracted == 0  # An integer is the same number.


def test_egemaps_beside_a_model_are_computed_in_windows_too(run, corpus):
    report = run(egemaps=True, **CHUNKS)
    store = FeatureStore(report.cache / "egemaps")
    assert store.metadata["chunk_seconds"] == 2.0
    assert all(deviation.within for deviation in recompute(store, corpus, 5))
    # An existing store keeps its settings.
    assert run(egemaps=True, name="again").stores == ("again", "egemaps")
    assert FeatureStore(report.cache / "egemaps").metadata["chunk_seconds"] == 2.0


def test_only_what_max_seconds_leaves_is_cut_into_windows(run, corpus, model):
    report = run(store="float32", max_seconds=1.8, **CHUNKS)
    whole = run(store="float32", max_seconds=1.8, name="whole")
    assert not report.failures
    for key, features in FeatureStore(whole.cache / "whole").items():
        np.testing.assert_array_equal(FeatureStore(report.cache / "ssl")[key], features)
    longer = FeatureStore(run(store="float32", max_seconds=3.0, name="longer", **CHUNKS).cache / "longer")
    assert longer.num_frames(["talk", "word", "one"]).tolist() == [149, 37, 149]  # (3 s - 25 ms) / 20 ms + 1
    assert longer.duration(["one"]) == 4.0
    assert all(deviation.within for deviation in recompute(longer, corpus, 5, model=model))


@pytest.mark.parametrize("storage", ["float16", "int8"])
def test_the_size_that_is_told_is_the_size_that_is_written(run, where, monkeypatch, storage, caplog):
    caplog.set_level(logging.INFO)
    needed = []
    monkeypatch.setattr(planning, "format_bytes", lambda size: needed.append(size) or f"{size} bytes")
    report = run(store=storage, **CHUNKS)
    with h5py.File(report.cache / "ssl" / "shard-00000.h5") as file:
        payload = file["hidden_states"].nbytes + sum(dataset.nbytes for dataset in file["statistics"].values())
    assert report.planned_bytes == payload + 5 * (planning.ROW_BYTES - 8)
    assert "ssl: 3 long utterances are computed in windows" in caplog.text
    usage = shutil.disk_usage(report.cache)
    waiting = {"float16": 2, "int8": 4}[storage] * (340 + 199 + 174) * 4 * 32 if where == "disk" else 0
    # Space for stored and for waiting features: one group contains all, and the two largest may be in progress.
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=report.planned_bytes + waiting))
    if where == "memory":
        run(store=storage, name="other", dry_run=True, **CHUNKS)
    else:
        with pytest.raises(StoreError, match="bytes are free; free disk space"):
            run(store=storage, name="other", dry_run=True, **CHUNKS)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=report.planned_bytes + 2 * waiting))
    run(store=storage, name="other", dry_run=True, **CHUNKS)


def failures(report, name="ssl"):
    with open(report.cache / name / "failures.csv", newline="") as file:
        return {row["utterance_id"]: row["reason"] for row in csv.DictReader(file)}


def test_a_window_that_fails_is_a_failed_utterance(run, where, monkeypatch):
    extract_one = SSLExtractor.extract

    def overflow_late(extractor, signals):
        found = extract_one(extractor, signals)
        if signals[0].samples.std() == 0:
            found[0][2] = 1e6
        return found

    monkeypatch.setattr(SSLExtractor, "extract", overflow_late)
    folder = run(limit=1, dry_run=True).cache.parents[1] / "corpora" / "other"
    folder.mkdir(parents=True)
    noise = np.random.default_rng(0).uniform(-0.1, 0.1, 6 * RATE)
    noise[-3 * RATE :] = 0.25
    soundfile.write(folder / "late.wav", noise, RATE, subtype="FLOAT")
    noise[-1] = np.nan
    soundfile.write(folder / "nan.wav", noise, RATE, subtype="FLOAT")
    soundfile.write(folder / "good.wav", noise[: 3 * RATE], RATE, subtype="FLOAT")
    soundfile.write(folder / "cut.mp3", noise[: 3 * RATE], RATE)
    (folder / "cut.mp3").write_bytes((folder / "cut.mp3").read_bytes()[:-4000])
    (folder / "manifest.csv").write_text("path\nlate.wav\nnan.wav\ngood.wav\ncut.mp3\n")
    report = run(data=folder, **CHUNKS)
    found = failures(report)
    assert found.pop("cut").startswith("cut.mp3: cut off, 48000 samples announced, decoding ended at ")
    assert found == {
        "late": "layer 2: values up to 1e+06 overflow float16; extract with --store float32",
        "nan": "nan.wav: contains samples that are NaN or infinite",
    }
    assert list(FeatureStore(report.cache / "ssl")) == ["good"]
    assert [path.name for path in (report.cache / "ssl").glob("*.tmp")] == []


def test_a_long_utterance_makes_a_shard_of_its_own(run, monkeypatch, where):
    monkeypatch.setattr(planning, "SHARD_BYTES", 40_000)
    report = run(**CHUNKS)
    store = FeatureStore(report.cache / "ssl")
    assert list(store) == ["talk", "word", "one", "two", "three"]
    tables = []
    for path in sorted(store.path.glob("shard-*.h5")):
        with h5py.File(path) as file:
            tables.append([text.decode() for text in file["utterances"]["id"]])
    assert tables == [["talk"], ["word"], ["one"], ["two"], ["three"]]


def test_what_is_kept_of_hours_does_not_wait_for_many_of_them(monkeypatch):
    items = [
        planning.PlannedUtterance(utterance=Utterance(utterance_id=str(n), path="a.wav"), length=1500.0, bytes=1)
        for n in range(5)
    ]
    assert [len(group) for group in planning.groups(items, AudioInput(Path()))] == [2, 2, 1]


def test_ctrl_c_gives_long_utterances_up(run, monkeypatch, where):
    """An utterance that is interrupted in its first window is neither stored nor failed, and is computed next time."""
    from featcache.extraction import run as running

    done = []
    original = SSLExtractor.extract

    def interrupt_after_the_first(extractor, signals):
        done.append(None)
        return original(extractor, signals)

    class Interrupted(running.ExtractionRun):
        def _process(self, items):
            if any(item.utterance.utterance_id == "talk" for item in items):
                self._stopping.set()
            return super()._process(items)

    with monkeypatch.context() as patch:
        patch.setattr(SSLExtractor, "extract", interrupt_after_the_first)
        patch.setattr("featcache.extraction.extract_corpus.ExtractionRun", Interrupted)
        report = run(workers=1, limit=None, **CHUNKS)
    assert set(FeatureStore(report.cache / "ssl")) == {"word", "two"}
    assert not report.failures
    assert run(**CHUNKS).num_extracted == 3
    assert FeatureStore(report.cache / "ssl").complete


@pytest.mark.parametrize("name", ["egemaps", "spectrogram", "logmel"])
def test_every_extractor_says_how_far_its_frames_are_apart(name):
    extractor = create_extractor(name, sampling_rate=8000)
    assert extractor.hop(8000) == round(8000 * extractor.description.frame_shift)


def print_more_memory(data, home, options):
    """Extract the short and then the long recording; print the growth of the peak memory in bytes."""
    spool.IN_MEMORY_BYTES = 2**16
    peaks = []
    for name in ("short", "long"):
        report = extract(data=data / name, home=home, chunk_seconds=5.0, overlap_seconds=1.0, egemaps=False, **options)
        assert report.num_extracted == 1
        peaks.append(peak_memory())
    print(peaks[1] - peaks[0])


@pytest.fixture(scope="module")
def noises(tmp_path_factory):
    """Return the corpora ``short`` and ``long``: one minute and ten minutes of noise, stereo at 22,050 Hz."""
    folder = tmp_path_factory.mktemp("noises")
    for name, minutes in (("short", 1), ("long", 10)):
        (folder / name).mkdir()
        noise = np.random.default_rng(0).uniform(-0.1, 0.1, (minutes * 60 * 22050, 2)).astype(np.float32)
        soundfile.write(folder / name / "a.wav", noise, 22050)
        (folder / name / "manifest.csv").write_text("path\na.wav\n")
    return folder


def more_memory(noises, home, **options):
    """Return the additional memory in bytes for the long recording, in a process that computed the short one."""
    code, out, err = Forked(print_more_memory, noises, home, options, out=home.with_name("memory")).wait()
    assert code == 0, err
    return int(out.split()[-1])


linux_alone = pytest.mark.skipif(sys.platform != "linux", reason="what a process held at most is told on Linux alone")


@pytest.mark.slow
@linux_alone
def test_ten_minutes_take_no_more_memory_than_one(noises, tmp_path, tiny_model):
    model = tiny_model("wav2vec2", hidden_size=256)
    # Nine more minutes are 95 MB of decoded samples and 111 MB of float32 features; a tenth is left for allocators.
    more = 9 * 60 * np.array([22050 * 2, 50 * 4 * 256]) * 4
    assert more_memory(noises, tmp_path / "data", model=model, store="int8") < 0.1 * more.sum() < 0.25 * more.min()


@linux_alone
def test_four_minutes_of_descriptors_take_no_more_memory_than_one(noises, tmp_path):
    # opensmile takes five times as long as the model. Three more minutes are 32 MB of decoded samples, and half of that
    # after the mixdown to one channel.
    assert more_memory(noises, tmp_path / "data", model="egemaps", max_seconds=240.0) < 0.25 * 3 * 60 * 22050 * 2 * 4


def test_verification_holds_a_window_at_a_time(noises, tmp_path):
    peaks = {}
    for name in ("short", "long"):
        report = extract(model="spectrogram", data=noises / name, home=tmp_path, chunk_seconds=5.0, overlap_seconds=0.1)
        store = FeatureStore(report.cache / "spectrogram")
        tracemalloc.start()
        assert all(deviation.within for deviation in recompute(store, noises / name, 1))
        _, peaks[name] = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    # Nine more minutes are 55 MB of float32 spectra.
    assert peaks["long"] - peaks["short"] < 0.05 * 9 * 60 * 100 * 257 * 4
