"""Stores with only statistics: the same statistics, a hundredth of the size, and no frames."""

import logging

import h5py
import numpy as np
import pytest
import soundfile

import featcache
from featcache.cache import layout
from featcache.cache.reader import FeatureStore
from featcache.cache.writer import StoreWriter
from featcache.cli.app import main
from featcache.corpora.synthetic import make_corpus
from featcache.errors import StoreError
from featcache.extraction import extract
from featcache.extraction.verify import damaged_datasets, recompute
from featcache.fitting.fit import fit

RATE = 16000


@pytest.fixture(scope="module")
def corpus(tmp_path_factory, speech_like):
    folder = tmp_path_factory.mktemp("pooled") / "made-up"
    folder.mkdir()
    for number, seconds in enumerate((0.5, 5.8, 0.3)):
        soundfile.write(folder / f"u{number}.wav", speech_like(int(seconds * RATE), seed=number), RATE)
    (folder / "manifest.csv").write_text("path\nu0.wav\nu1.wav\nu2.wav\n")
    return folder


@pytest.fixture
def run(corpus, tiny_model, tmp_path):
    def start(model=None, **options):
        given = {"model": model or tiny_model("wav2vec2"), "data": corpus, "home": tmp_path / "data", **options}
        return extract(**{"name": "pooled", "pool": True, **given})

    return start


@pytest.mark.parametrize("model", [None, "egemaps", "egemaps-functionals", "spectrogram"])
def test_statistics_are_those_of_the_full_store(run, model):
    report = run(model)
    run(model, name="full", pool=False, egemaps=False, **({} if model else {"store": "float32"}))
    cache = featcache.open(report.cache)
    pooled, full = cache["pooled"], cache["full"]
    assert pooled.pooled_only
    assert not full.pooled_only
    assert list(pooled) == list(full)
    assert pooled.num_frames(list(full)).tolist() == full.num_frames(list(full)).tolist()
    for kind in ("mean", "std", "max"):
        assert pooled.pooled(kind).dtype == np.float32
        np.testing.assert_array_equal(pooled.pooled(kind), full.pooled(kind))
    for one, other in zip(pooled.mean_and_std(list(full)), full.mean_and_std(list(full)), strict=True):
        np.testing.assert_array_equal(one, other)
    size = {store.name: sum(path.stat().st_size for path in store.path.glob("shard*")) for store in (pooled, full)}
    assert size["pooled"] <= size["full"]


def test_no_shard_and_no_index_has_frames(run):
    store = FeatureStore(run().cache / "pooled")
    for name in (layout.shard_name(0), layout.INDEX):
        with h5py.File(store.path / name) as file:
            assert {"hidden_states", "frames"}.isdisjoint(file)
            assert set(file["statistics"]) == {"count", *layout.STATISTICS}
            assert file["statistics/mean"].shape == (3, 4, 32)
            assert file["utterances"]["first_frame"].tolist() == [0, 24, 313]
            assert bool(file.attrs["pool"])
    assert store.identity.settings["pool"] is True
    assert store.metadata["storage_dtype"] == "float32"
    (store.path / layout.INDEX).unlink()
    assert list(FeatureStore(store.path)) == list(store)


def test_frames_are_refused_in_one_line(run):
    store = FeatureStore(run().cache / "pooled")
    for read in (store.__getitem__, store.view):
        with pytest.raises(
            StoreError, match=r"^.*pooled contains only statistics \(--pool\); read them with pooled\(\)"
        ):
            read("u0")
    with pytest.raises(KeyError, match="no utterance 'u9'"):
        store["u9"]


def test_descriptors_beside_a_model_are_pooled_with_it_and_carried_on_as_they_are(run):
    cache = run().cache
    assert FeatureStore(cache / "egemaps").pooled_only
    run(name="full", pool=False)
    assert FeatureStore(cache / "egemaps").pooled_only
    assert not FeatureStore(cache / "full").pooled_only


def test_statistics_alone_never_mix_with_frames(run):
    run(egemaps=False)
    with pytest.raises(StoreError, match="was made with other settings: pool is True there and None now"):
        run(egemaps=False, pool=False, store="float32")
    run(name="full", egemaps=False, pool=False, store="float32")
    with pytest.raises(StoreError, match="was made with other settings: pool is None there and True now"):
        run(name="full", egemaps=False)


@pytest.mark.parametrize("storage", ["float16", "float32", "int8"])
def test_a_storage_dtype_is_refused(run, storage):
    with pytest.raises(
        StoreError, match=rf"^--store {storage} and --pool exclude each other: statistics are always fl"
    ):
        run(store=storage)


def test_a_second_call_finds_all_and_a_third_only_what_is_new(run):
    assert run(limit=2, egemaps=False).num_extracted == 2
    assert run(egemaps=False).num_extracted == 1
    assert run(egemaps=False).num_extracted == 0


def test_verification_computes_the_statistics_anew(run, corpus, tiny_model):
    folder = run(egemaps=False).cache / "pooled"
    assert list(damaged_datasets(folder)) == []
    model = tiny_model("wav2vec2")
    deviations = recompute(FeatureStore(folder), corpus, 3, model=model)
    assert [deviation.layer for deviation in deviations] == ["0", "1", "2", "3"]
    assert all(deviation.within for deviation in deviations)
    for name in ("mean", "m2", "max"):
        path = folder / layout.shard_name(0)
        whole = path.read_bytes()
        with h5py.File(path, "r+") as file:
            file[f"statistics/{name}"][1, 2] += file[f"statistics/{name}"][1, 2] * 0.01 + 0.01
        assert list(damaged_datasets(folder)) == [f"shard-00000.h5: /statistics/{name} has changed"]
        found = {item.layer: item.within for item in recompute(FeatureStore(folder), corpus, 3, model=model)}
        assert found == {"0": True, "1": True, "2": False, "3": True}
        path.write_bytes(whole)


def test_of_other_audio_the_number_of_frames_is_told(run, corpus, tiny_model, tmp_path):
    store = FeatureStore(run(egemaps=False).cache / "pooled")
    for number in range(3):
        soundfile.write(tmp_path / f"u{number}.wav", np.zeros(RATE), RATE)
    (tmp_path / "manifest.csv").write_text("path\nu0.wav\nu1.wav\nu2.wav\n")
    with pytest.raises(StoreError, match=r"is stored with \d+ frames, but recomputed with 49$"):
        recompute(store, tmp_path, 3, model=tiny_model("wav2vec2"))


def test_long_utterances_need_no_spool(run, corpus, tiny_model, monkeypatch):
    monkeypatch.setattr("featcache.extraction.long.Spool", None)
    cache = run(chunk_seconds=2.0, overlap_seconds=0.5).cache
    monkeypatch.undo()
    run(name="full", pool=False, egemaps=False, store="float32", chunk_seconds=2.0, overlap_seconds=0.5)
    pooled, full = FeatureStore(cache / "pooled"), FeatureStore(cache / "full")
    for kind in ("mean", "std", "max"):
        np.testing.assert_array_equal(pooled.pooled(kind), full.pooled(kind))
    assert all(deviation.within for deviation in recompute(pooled, corpus, 3, model=tiny_model("wav2vec2")))


def test_what_is_not_finite_has_no_statistics(run, monkeypatch):
    from featcache.extractors.ssl import SSLExtractor

    original = SSLExtractor.extract

    def spoilt(extractor, signals):
        found = original(extractor, signals)
        found[0][1, 0, 0] = np.nan if len(signals[0].samples) < RATE else 1e6
        return found

    monkeypatch.setattr(SSLExtractor, "extract", spoilt)
    report = run(egemaps=False)
    assert {failure.utterance_id: failure.reason for failure in report.failures} == {
        "u0": "layer 1: NaN or infinite values",
        "u2": "layer 1: NaN or infinite values",
    }
    assert FeatureStore(report.cache / "pooled").pooled("max").max() == 1e6  # It overflows float16, but not float32.


def test_the_size_that_is_told_is_the_size_that_is_written(tmp_path, describe_base, caplog):
    from featcache.cache.statistics import Statistics
    from featcache.cache.writer import Record
    from featcache.extraction.plan import StoreJob

    writer = StoreWriter(tmp_path / "store", describe_base, "float32", pool=True)

    class Extractor:
        description = describe_base

        def num_frames(self, num_samples, _rate):
            return num_samples // 320

    values = np.zeros((13, 768), dtype=np.float32)
    ids = [f"utterance-{number:04d}" for number in range(100)]
    told = 100 * StoreJob("store", Extractor(), writer).size_of(50_000, RATE).stored
    statistics = Statistics(count=156, mean=values, m2=values, max=values)
    times = {"duration": 3.1, "start": None, "end": None}
    writer.write_shard(
        [Record(utterance_id=key, features=None, statistics=statistics, audio_sha256="0" * 64, **times) for key in ids]
    )
    writer.finish(ids, failed=[])
    written = sum(path.stat().st_size for path in (tmp_path / "store").iterdir())
    assert told == pytest.approx(written, rel=0.01)
    assert 10 * written == pytest.approx(120e6, rel=0.01)  # For a thousand utterances, as in the README.


@pytest.fixture
def describe_base():
    from featcache.features import Description

    return Description(
        dataset="hidden_states",
        layer_names=tuple(map(str, range(13))),
        hidden_size=768,
        frame_shift=0.02,
        sampling_rate=RATE,
        channel="mean",
        settings={"extractor": "ssl"},
    )


def test_a_fit_says_that_it_needs_frames(tmp_path, tiny_model):
    make_corpus(tmp_path / "toy", num_speakers=3, repetitions=1)
    extract(model=tiny_model("wav2vec2"), name="states", data=tmp_path / "toy", pool=True)
    message = r"^{} contains only statistics \(--pool\), but head 'dense' is trained on frames; use --pooling mean"
    with pytest.raises(StoreError, match=message.format("states")):
        fit()
    with pytest.raises(StoreError, match=message.format("egemaps")):
        fit(features=["egemaps"])


def test_a_feed_forward_head_needs_frames_for_more_than_one_layer(tmp_path, tiny_model, quick_reports):
    make_corpus(tmp_path / "toy", num_speakers=3, repetitions=1)
    extract(model=tiny_model("wav2vec2"), name="states", data=tmp_path / "toy", pool=True)
    extract(model=tiny_model("wav2vec2"), name="full", data=tmp_path / "toy", store="float32", egemaps=False)
    message = (
        r"^states contains only statistics \(--pool\), but head 'ffn' is trained on frames unless it uses one layer "
        r"\(--layers last\) and no --max-frames; use --pooling mean, or extract without --pool into a store with"
    )
    short = {"head": "ffn", "seeds": [1], "max_epochs": 2}
    for options in ({}, {"layers": "0,2"}, {"layers": "last", "max_frames": 10}):
        with pytest.raises(StoreError, match=message):
            fit(features=["states"], **options, **short)
    found, expected = (fit(features=[name], layers="last", **short).predictions for name in ("states", "full"))
    assert found.equals(expected)
    # With descriptors, which also have statistics.
    assert fit(features=["states", "egemaps"], layers="last", **short).config["pooling"] == "mean+max"


def test_info_says_so(run, capsys, monkeypatch):
    folder = run(egemaps=False).cache / "pooled"
    capsys.readouterr()
    monkeypatch.setattr("sys.argv", ["featcache", "info", str(folder)])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 0
    printed = dict(line.split(None, 1) for line in capsys.readouterr().out.splitlines() if " " in line.strip())
    assert printed["pool"].strip() == "True"
    assert printed["frames"].strip() == "327"


def test_a_dry_run_tells_the_size(run, caplog):
    caplog.set_level(logging.INFO)
    assert run(egemaps=False, dry_run=True).planned_bytes == 3 * (4 * 32 * 3 * 4 + 470)


def test_the_writer_takes_no_record_without_features_for_a_full_store(tmp_path, describe_base):
    from featcache.cache.statistics import of_frames
    from featcache.cache.writer import Record

    writer = StoreWriter(tmp_path / "store", describe_base, "float16")
    statistics = of_frames(np.zeros((13, 2, 768), dtype=np.float32))
    times = {"duration": 3.1, "start": None, "end": None}
    with pytest.raises(ValueError, match="'u0' has only statistics, but the store contains features"):
        writer.write_shard([Record(utterance_id="u0", features=None, statistics=statistics, audio_sha256="", **times)])
