"""If an index is missing, damaged or wrong, the shards are read instead, or one line states the contradiction."""

import shutil

import h5py
import numpy as np
import pytest

from featcache.cache import layout
from featcache.cache.reader import FeatureStore
from featcache.cache.request import REQUEST
from featcache.cache.writer import StoreWriter
from featcache.errors import StoreError
from tests.cache.tampering import a_table_without, attribute, cell, linked, no_attribute, replaced


@pytest.mark.parametrize("asked", [True, False])
def test_without_its_index_a_store_is_read_from_its_shards(folder, features, asked):
    with_index = FeatureStore(folder)
    (folder / layout.INDEX).unlink()
    if not asked:  # As in stores of earlier releases: it is not known whether the store is complete.
        (folder / REQUEST).unlink()
    without = FeatureStore(folder)
    assert with_index.complete
    assert without.complete == asked
    assert without.num_requested == (3 if asked else None)
    assert without.utterance_ids == with_index.utterance_ids
    assert without.layer_names == with_index.layer_names
    for key, expected in features.items():
        np.testing.assert_array_equal(without[key], expected.astype(np.float16))


def index_without(name):
    def tamper(file, _outside):
        del file[name]

    return tamper


DISBELIEVED = {
    "sizes of shards": replaced("shards", np.array([(0, 1), (1, 2)], layout.SHARD_DTYPE)),
    "fewer shards": lambda file, _: replaced("shards", file["shards"][:1])(file, _),
    "no shards": index_without("shards"),
    "shards as numbers": replaced("shards", np.zeros(2)),
    "shards elsewhere": linked("shards", lambda o: h5py.ExternalLink(str(o / "outside.h5"), "/utterances")),
    "no table": index_without("utterances"),
    "table elsewhere": linked("utterances", lambda o: h5py.ExternalLink(str(o / "outside.h5"), "/utterances")),
    "table without a column": a_table_without("row"),
    "shards that are not there": cell("shard", 0, 99),
    "another version": attribute("format_version", 2),
    "no layer names": no_attribute("layer_names"),
    "no word on its end": no_attribute("complete"),
}


@pytest.mark.parametrize("how", DISBELIEVED)
@pytest.mark.parametrize("asked", [True, False])
def test_an_index_that_cannot_be_right_gives_way_to_the_shards(folder, outside, features, tampering, how, asked):
    with tampering(folder / layout.INDEX) as file:
        DISBELIEVED[how](file, outside)
    if not asked:
        (folder / REQUEST).unlink()
    store = FeatureStore(folder)
    assert store.complete == asked  # Without an index, only the request states it.
    assert list(store) == list(features)
    for key, expected in features.items():
        np.testing.assert_array_equal(store[key], expected.astype(np.float16))


@pytest.mark.parametrize("content", [b"", b"garbage" * 1000])
def test_an_index_that_is_no_hdf5_gives_way_to_the_shards(folder, features, content):
    (folder / layout.INDEX).write_bytes(content)
    assert list(FeatureStore(folder)) == list(features)


@pytest.mark.parametrize(
    ("column", "value"),
    [("row", 99), ("row", -1), ("row", 1), ("shard", 1), ("num_frames", 6), ("num_frames", 10**12), ("id", "u9")],
)
def test_an_index_that_lies_about_an_utterance_is_found_out(folder, tampering, column, value):
    with tampering(folder / layout.INDEX) as file:
        cell(column, 0, value)(file, None)
    store = FeatureStore(folder)
    utterance_id = store.utterance_ids[0]
    for read in (
        store.view,
        store.__getitem__,
        lambda key: store.pooled("mean", [key]),
        lambda key: store.mean_and_std([key]),
    ):
        with pytest.raises(StoreError, match=r"index.h5 does not match shard-0000\d.h5; remove the index"):
            read(utterance_id)


@pytest.mark.parametrize(
    ("name", "value"),
    [("hidden_size", 5), ("layer_names", np.array(["0"], dtype=h5py.string_dtype())), ("dataset", "x")],
)
def test_an_index_that_lies_about_its_shards_is_found_out(folder, tampering, name, value):
    with tampering(folder / layout.INDEX) as file:
        file.attrs[name] = value
    with pytest.raises(StoreError, match=f"shard-00000.h5 belongs to another store: {name} differ"):
        FeatureStore(folder)["u0"]


def test_a_shard_of_another_store_is_found_out(folder, write_store, describe, make_features, tmp_path):
    other = write_store(make_features(3), description=describe(model_id="other"), folder=tmp_path / "other")
    shutil.copy(other / "shard-00000.h5", folder / "shard-00002.h5")
    store = FeatureStore(folder)
    assert store["u2"].shape == (3, 9, 4)
    with pytest.raises(StoreError, match=r"shard-00002.h5 belongs to another store: fingerprint, settings differ"):
        store["u0"]
    with pytest.raises(StoreError, match="was made with other settings: model_id is other there"):
        StoreWriter(folder, describe(), "float16")
