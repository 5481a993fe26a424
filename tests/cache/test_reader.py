"""Features are read as they were written, and nothing is read beyond the request."""

import mmap
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import featcache
from featcache.cache import layout, shards
from featcache.cache.reader import FeatureCache, FeatureStore
from featcache.cache.request import StoreRequest, write_request
from featcache.cache.shards import Shard
from featcache.errors import StoreError
from featcache.manifest import Manifest, Utterance

EPS = np.finfo(np.float32).eps
IDS = [
    "plain",
    "Ärger/größer",
    "怒り 😠",
    "with 'single' and \"double\" quotes, commas; and \\",
    "two\nlines\r\nand\ttabs",
    " spaces around ",
    "../../etc/passwd",
    "a" * 100_000,
    "é",
    "e\u0301",  # The same letter in another Unicode form is another id.
]


@pytest.fixture
def folder(write_store, make_features):
    features = make_features(5, 2, 9, 1)
    return write_store({k: features[k] for k in ("u0", "u1")}, {k: features[k] for k in ("u2", "u3")})


@pytest.mark.parametrize("storage_dtype", ["float16", "float32"])
def test_features_come_back_in_the_order_of_writing(write_store, make_features, storage_dtype):
    features = make_features(5, 2, 9, 1)
    parts = [dict(list(features.items())[:3]), dict(list(features.items())[3:])]
    store = FeatureStore(write_store(*parts, storage_dtype=storage_dtype))
    assert list(store) == list(store.utterance_ids) == list(features)
    assert len(store) == 4
    for key, expected in features.items():
        assert store[key].dtype == np.float32
        np.testing.assert_array_equal(store[key], expected.astype(storage_dtype).astype(np.float32))
        assert store.view(key).dtype == storage_dtype


def test_a_store_without_layers_reads_as_one_layer(write_store, describe, make_features):
    features = make_features(5, 2, num_layers=1)
    description = describe(dataset="frames", frame_shift=None)
    store = FeatureStore(write_store(features, description=description, storage_dtype="float32"))
    assert store.layer_names == ("",)
    assert np.isnan(store.frame_shift)
    for key, expected in features.items():
        np.testing.assert_array_equal(store[key], expected)
    assert store.pooled("max").shape == (2, 1, 4)


def test_any_text_is_an_id(write_store, make_features):
    made = make_features(*range(1, len(IDS) + 1))
    features = dict(zip(IDS, made.values(), strict=True))
    folder = write_store(features)
    for store in (FeatureStore(folder), (folder / layout.INDEX).unlink() or FeatureStore(folder)):
        assert store.utterance_ids == tuple(IDS)
        for key, expected in features.items():
            np.testing.assert_array_equal(store[key], expected.astype(np.float16))


def test_what_a_store_says_of_itself(write_store, describe, make_features):
    folder = write_store(make_features(3), description=describe(model_id="m", provenance={"num_blocks": 2}))
    store = FeatureStore(folder)
    assert store.name == "store"
    assert store.layer_names == ("0", "1", "2")
    assert store.frame_shift == 0.02
    assert store.hidden_size == 4
    assert store.num_blocks == 2
    assert store.metadata["model_id"] == "m"
    assert store.complete
    assert repr(store) == f"FeatureStore({str(folder)!r}, 1 utterances, 3 layers)"


def test_views_are_mapped_and_cannot_be_written(folder):
    store = FeatureStore(folder)
    view = store.view("u1")
    base = view
    while isinstance(base, np.ndarray):
        base = base.base
    assert isinstance(base.obj if isinstance(base, memoryview) else base, mmap.mmap)
    assert view[0].flags.c_contiguous  # A layer of an utterance is contiguous in the file.
    with pytest.raises(ValueError, match="read-only"):
        view[0, 0, 0] = 1
    copy = store["u1"]
    copy[:] = 0
    assert store["u1"].any()


def test_a_view_reads_nothing_else(tmp_path, write_store, make_features):
    """A view of one utterance stays correct when all other frames are overwritten in the file."""
    features = make_features(5, 2, 9)
    folder = write_store(features)
    store = FeatureStore(folder)
    view = store.view("u1")
    with open(folder / "shard-00000.h5", "r+b") as file:
        content = bytearray(file.read())
        wanted = [layer.astype(np.float16).tobytes() for layer in features["u1"]]
        places = [content.index(stretch) for stretch in wanted]
        file.seek(0)
        blank = bytearray(len(content))
        for place, stretch in zip(places, wanted, strict=True):
            blank[place : place + len(stretch)] = stretch
        file.write(blank)
    np.testing.assert_array_equal(view, features["u1"].astype(np.float16))


LAYERS = [None, [2], [0, 1], [2, 0], [1, 1]]
FRAMES = [None, slice(3), slice(2, None), slice(1, 4), slice(None, None, 2), slice(-2, None), slice(0, 0), slice(99)]


@pytest.mark.parametrize("storage_dtype", ["float16", "float32", "int8"])
@pytest.mark.parametrize("layers", LAYERS)
@pytest.mark.parametrize("frames", FRAMES)
def test_a_part_of_an_utterance_is_that_part_of_the_whole(write_store, make_features, storage_dtype, layers, frames):
    store = FeatureStore(write_store(make_features(4, 7, 3), storage_dtype=storage_dtype))
    whole = store.view("u1")
    part = store.view("u1", layers, frames)
    assert part.dtype == whole.dtype
    expected = whole if layers is None else np.stack([whole[layer] for layer in layers])
    np.testing.assert_array_equal(part, expected if frames is None else expected[:, frames])


def test_of_8_bits_only_what_is_asked_for_is_restored(write_store, make_features, monkeypatch):
    store = FeatureStore(write_store(make_features(7), storage_dtype="int8"))
    restored = []
    monkeypatch.setattr(shards, "restore", lambda *given: restored.append(given) or given[0])
    store.view("u0", [2], slice(4, 6))
    ((in_steps, mean, step),) = restored
    assert in_steps.shape == (1, 2, 4)
    assert mean.shape == step.shape == (1, 4)


def test_an_open_shard_holds_one_file_descriptor(write_store, make_features):
    descriptors = "/proc/self/fd"
    if not os.path.isdir(descriptors):
        pytest.skip("this system does not list open files")
    features = make_features(*[1] * 20)
    store = FeatureStore(write_store(*({key: value} for key, value in features.items())))
    before = len(os.listdir(descriptors))
    views = [store.view(key) for key in store]
    assert len(os.listdir(descriptors)) - before <= len(views)


def test_many_threads_read_the_same(write_store, make_features):
    features = make_features(*[2] * 20)
    items = list(features.items())
    folder = write_store(*(dict(pair) for pair in zip(items[::2], items[1::2], strict=True)))
    with ThreadPoolExecutor(8) as pool:
        for _ in range(20):
            store = FeatureStore(folder)  # A store with no shard open yet.
            for found, expected in zip(pool.map(store.__getitem__, features), features.values(), strict=True):
                np.testing.assert_array_equal(found, expected.astype(np.float16))


@pytest.mark.parametrize(("kind", "function"), [("mean", np.mean), ("max", np.max), ("std", np.std)])
def test_pooled_features_are_those_of_the_frames(write_store, make_features, kind, function):
    features = make_features(5, 2, 9, 1)
    # Stored as float32, so that the statistics were computed from exactly these frames.
    store = FeatureStore(write_store(features, storage_dtype="float32"))
    found = store.pooled(kind)
    assert found.dtype == np.float32
    expected = np.stack([function(store[key].astype(np.float64), axis=1) for key in store])
    np.testing.assert_allclose(found, expected, rtol=8 * EPS, atol=8 * EPS)
    np.testing.assert_array_equal(store.pooled(kind, ["u3", "u0", "u3"]), found[[3, 0, 3]])


def test_mean_and_std_over_any_utterances_are_those_of_their_frames(write_store, make_features, rng):
    features = make_features(5, 2, 9, 1, 30)
    store = FeatureStore(write_store(features, storage_dtype="float32"))
    for size in range(1, len(features) + 1):
        keys = rng.permutation(list(features))[:size].tolist()
        mean, std = store.mean_and_std(keys)
        frames = np.concatenate([features[key] for key in keys], axis=1).astype(np.float64)
        np.testing.assert_allclose(mean, frames.mean(axis=1), rtol=0, atol=8 * EPS)
        np.testing.assert_allclose(std, frames.std(axis=1), rtol=8 * EPS, atol=0)


def test_numbers_of_frames_and_durations(folder):
    store = FeatureStore(folder)
    found = store.num_frames(["u2", "u0"])
    assert found.dtype == np.int64
    assert found.tolist() == [9, 5]
    assert store.duration(["u2", "u0"]) == 3.0


def test_an_utterance_that_is_not_there(folder):
    store = FeatureStore(folder)
    assert "u9" not in store
    assert store.get("u9") is None
    with pytest.raises(KeyError, match=r"no utterance 'u9' in .*, which contains 4"):
        store["u9"]


@pytest.fixture
def cache(tmp_path, write_store, make_features):
    Manifest([Utterance(utterance_id="u0", path="u0.wav")]).write(tmp_path / "emodb" / "manifest.csv")
    for name in ("wav2vec2-base", "egemaps"):
        write_store(make_features(3), folder=tmp_path / "emodb" / name)
    (tmp_path / "emodb" / "hubert-base").mkdir()  # Started, but nothing is written yet.
    return tmp_path / "emodb"


def test_a_cache_gives_its_stores_by_name(cache):
    opened = featcache.open(cache)
    assert isinstance(opened, FeatureCache)
    assert opened.name == "emodb"
    assert list(opened) == ["egemaps", "wav2vec2-base"]
    assert len(opened) == 2
    assert "egemaps" in opened
    assert "hubert-base" not in opened
    assert opened["wav2vec2-base"]["u0"].shape == (3, 3, 4)
    assert opened.manifest.utterance_ids == ("u0",)
    assert repr(opened) == f"FeatureCache({str(cache)!r}, 1 utterances, stores: egemaps, wav2vec2-base)"


def test_a_store_that_a_cache_lacks(cache):
    expected = (
        "no store 'wav2vec2-bas'; did you mean 'wav2vec2-base'\\? \\('featcache extract' with .* makes one in .*\\)$"
    )
    with pytest.raises(StoreError, match=expected):
        FeatureCache(cache)["wav2vec2-bas"]


def test_a_store_without_features_yet_is_named(cache):
    """An extraction that runs, or was interrupted before its first shard."""
    (cache / "begun").mkdir()
    write_request(cache / "begun", StoreRequest(utterance_ids=("u0",)))
    again = "if no extraction is running, run the same 'featcache extract' again to continue"
    with pytest.raises(StoreError) as refused:
        FeatureCache(cache)["begun"]
    assert str(refused.value) == f"{cache / 'begun'} is not finished: it contains no features yet; {again}"
    with pytest.raises(
        StoreError, match=rf"no store 'other'; available: .*; without features yet: 'begun' \({again}\)$"
    ):
        FeatureCache(cache)["other"]


def test_a_folder_that_is_no_cache(tmp_path):
    with pytest.raises(StoreError, match=r"is not a cache: it has no manifest.csv; make one with 'featcache extract'"):
        featcache.open(tmp_path)


def test_reading_ahead_asks_for_what_is_read_and_changes_nothing(write_store, make_features, monkeypatch):
    features = make_features(5, 800, 2, 900)
    store = FeatureStore(write_store(features, storage_dtype="float32"))
    asked, prefetch = [], Shard.prefetch
    monkeypatch.setattr(Shard, "prefetch", lambda shard, *frames: asked.append(frames) or prefetch(shard, *frames))
    store.prefetch(["u0", "u1", "u3"], [0, 2], [5, 900, 900])
    assert asked == [([0, 2], 0, 805), ([0, 2], 807, 1707)]  # Adjacent utterances share one request.
    asked.clear()
    store.prefetch(["u1", "u3"], [1], [10, 20])
    assert asked == [([1], 5, 15), ([1], 807, 827)]  # Only frames that will be read.
    store.drop_pages()
    for utterance_id, values in features.items():
        np.testing.assert_array_equal(store[utterance_id], values)
