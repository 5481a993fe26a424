"""Files of a writer are readable in plain h5py, and an unfinished write never looks finished."""

import json
import shutil
import zlib

import h5py
import numpy as np
import pytest

from featcache._version import __version__
from featcache.cache import layout
from featcache.cache import writer as writing
from featcache.cache.identity import StoreIdentity
from featcache.cache.reader import FeatureStore
from featcache.cache.request import REQUEST
from featcache.cache.writer import StoreWriter, encode
from featcache.errors import FeatureError, StoreError


def names(folder):
    return sorted(path.name for path in folder.iterdir() if path.name != REQUEST)


def test_a_shard_in_plain_h5py(write_store, describe, make_features):
    features = make_features(5, 2, 9)
    description = describe(
        model_id="facebook/wav2vec2-base",
        weights_sha256="ab" * 32,
        layers=["0", "1", "2"],
        do_normalize=None,
        provenance={"torch_version": "2.6", "revision": ""},
    )
    folder = write_store(features, description=description)
    with h5py.File(folder / "shard-00000.h5", "r") as file:
        assert set(file) == {"hidden_states", "utterances", "statistics"}
        assert file["hidden_states"].shape == (3, 16, 4)
        assert file["hidden_states"].dtype == np.float16
        expected = np.concatenate(list(features.values()), axis=1).astype(np.float16)
        np.testing.assert_array_equal(file["hidden_states"][()], expected)

        table = file["utterances"]
        assert table.dtype.names == ("id", "first_frame", "num_frames", "duration", "audio_sha256", "start", "end")
        assert [text.decode() for text in table["id"]] == ["u0", "u1", "u2"]
        assert table["first_frame"].tolist() == [0, 5, 7]
        assert table["num_frames"].tolist() == [5, 2, 9]
        assert table["duration"].tolist() == [1.5] * 3
        assert np.isnan(table["start"]).all()
        assert np.isnan(table["end"]).all()

        statistics = file["statistics"]
        assert set(statistics) == {"count", "mean", "m2", "max"}
        assert statistics["count"].dtype == np.int64
        assert statistics["count"][()].tolist() == [5, 2, 9]
        for name in ("mean", "m2", "max"):
            assert statistics[name].shape == (3, 3, 4)
            assert statistics[name].dtype == np.float32

        for dataset in (file["hidden_states"], *statistics.values()):
            assert dataset.chunks is None
            assert dataset.id.get_offset() is not None  # Contiguous, so that it can be memory-mapped.
            assert dataset.attrs["crc32"] == zlib.crc32(dataset[()].tobytes())
        assert "crc32" in table.attrs

        attributes = dict(file.attrs)
    assert attributes.pop("layer_names").tolist() == ["0", "1", "2"]
    assert attributes.pop("layers").tolist() == ["0", "1", "2"]
    settings = json.loads(attributes.pop("settings"))
    identity = StoreIdentity.of(description, "float16")
    assert settings == identity.settings
    assert attributes == {
        "format_version": 1,
        "featcache_version": __version__,
        "fingerprint": identity.fingerprint,
        "dataset": "hidden_states",
        "extractor": "made-up",
        "model_id": "facebook/wav2vec2-base",
        "weights_sha256": "ab" * 32,
        "hidden_size": 4,
        "frame_shift": 0.02,
        "sampling_rate": 16000,
        "channel": "mean",
        "storage_dtype": "float16",
        "torch_version": "2.6",
        "revision": "",
    }


def test_a_store_without_layers_holds_frames(write_store, describe, make_features):
    features = make_features(5, 2, num_layers=1)
    description = describe(dataset="frames", frame_shift=None)
    folder = write_store(features, description=description, storage_dtype="float32")
    with h5py.File(folder / "shard-00000.h5", "r") as file:
        assert set(file) == {"frames", "utterances", "statistics"}
        assert file["frames"].dtype == np.float32
        np.testing.assert_array_equal(file["frames"][()], np.concatenate(list(features.values()), axis=1)[0])
        assert np.isnan(file.attrs["frame_shift"])
    with h5py.File(folder / "index.h5", "r") as file:
        np.testing.assert_array_equal(file["frames"][()], np.concatenate(list(features.values()), axis=1)[0])


def test_the_index_presents_all_shards_as_one(write_store, make_features, tmp_path, monkeypatch):
    features = make_features(5, 2, 9, 1)
    first, second = dict(list(features.items())[:3]), dict(list(features.items())[3:])
    folder = write_store(first, second)
    monkeypatch.chdir(tmp_path.root)  # The shards are found next to the index from any working folder.
    with h5py.File(folder / "index.h5", "r") as index:
        assert index["hidden_states"].is_virtual
        together = np.concatenate(list(features.values()), axis=1).astype(np.float16)
        np.testing.assert_array_equal(index["hidden_states"][()], together)
        for name in ("count", *layout.STATISTICS):
            parts = []
            for number in range(2):
                with h5py.File(folder / layout.shard_name(number), "r") as shard:
                    parts.append(shard[f"statistics/{name}"][()])
                    assert shard.attrs["fingerprint"] == index.attrs["fingerprint"]
            np.testing.assert_array_equal(index[f"statistics/{name}"][()], np.concatenate(parts))
        assert index["utterances"]["shard"].tolist() == [0, 0, 0, 1]
        assert index["utterances"]["row"].tolist() == [0, 1, 2, 0]
        assert index["shards"]["number"].tolist() == [0, 1]
        sizes = [(folder / layout.shard_name(number)).stat().st_size for number in range(2)]
        assert index["shards"]["bytes"].tolist() == sizes
        assert bool(index.attrs["complete"])
        assert index.attrs["num_requested"] == 4


def test_of_an_utterance_that_was_extracted_again_the_index_shows_the_last(write_store, make_features):
    old = make_features(5, 2, 9)
    new = {"u1": make_features(4)["u0"]}
    folder = write_store(old, new)
    with h5py.File(folder / "index.h5", "r") as index:
        table = index["utterances"][()]
        assert [text.decode() for text in table["id"]] == ["u0", "u1", "u2"]
        for row, expected in zip(table, ({**old, **new}[key] for key in ("u0", "u1", "u2")), strict=True):
            stretch = index["hidden_states"][:, row["first_frame"] : row["first_frame"] + row["num_frames"]]
            np.testing.assert_array_equal(stretch, expected.astype(np.float16))
    store = FeatureStore(folder)
    np.testing.assert_array_equal(store["u1"], new["u1"].astype(np.float16))


def test_other_settings_are_refused_and_named(write_store, describe, make_features):
    sha = "0123456789abcdef" * 4
    folder = write_store(make_features(3), description=describe(layers=["0"], weights_sha256=sha, old=1))
    before = names(folder)
    with pytest.raises(StoreError) as error:
        StoreWriter(folder, describe(layers=["1"], weights_sha256="f" * 64), "float32")
    message = str(error.value)
    assert "layers is ['0'] there and ['1'] now" in message
    assert "weights_sha256 is 0123456789ab… there and ffffffffffff… now" in message
    assert "storage_dtype is float16 there and float32 now" in message
    assert "old is 1 there and None now" in message
    assert "extractor" not in message
    assert "--name" in message
    assert "\n" not in message
    assert names(folder) == before


def test_a_store_goes_on_with_new_versions(write_store, describe, make_features):
    first, second = make_features(3), {"v": make_features(2)["u0"]}
    write_store(first, description=describe(provenance={"torch_version": "2.6"}))
    folder = write_store(second, description=describe(provenance={"torch_version": "2.7"}))
    store = FeatureStore(folder)
    assert store.utterance_ids == ("u0", "v")
    assert store["u0"].shape == (3, 3, 4)
    assert store["v"].shape == (3, 2, 4)


def test_a_store_is_unfinished_until_it_is_finished(tmp_path, describe, record, make_features):
    features = make_features(3, 4)
    writer = StoreWriter(tmp_path / "store", describe(), "float16")
    writer.write_shard([record("u0", features["u0"])])
    assert names(tmp_path / "store") == ["shard-00000.h5"]
    assert not FeatureStore(tmp_path / "store").complete
    writer.finish(["u0"], failed=[])
    assert FeatureStore(tmp_path / "store").complete
    writer.write_shard([record("u1", features["u1"])])
    assert not FeatureStore(tmp_path / "store").complete
    writer.finish(["u0", "u1", "u2"], failed=[])
    store = FeatureStore(tmp_path / "store")
    assert not store.complete
    assert store.metadata["num_requested"] == 3
    writer.finish(["u0", "u1", "u2"], failed=["u2"])
    assert FeatureStore(tmp_path / "store").complete


def test_nothing_to_write_leaves_no_files(tmp_path, describe):
    writer = StoreWriter(tmp_path / "store", describe(), "float16")
    writer.write_shard([])
    writer.finish([], failed=[])
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("fault", [ZeroDivisionError, KeyboardInterrupt])
def test_a_write_that_fails_leaves_what_was_there(write_store, describe, record, make_features, monkeypatch, fault):
    features = make_features(3, 4)
    folder = write_store({"u0": features["u0"]})
    writer = StoreWriter(folder, describe(), "float16")

    def fail(_table):
        raise fault

    monkeypatch.setattr(layout, "crc32_of_table", fail)  # It is called after the features are written.
    with pytest.raises(fault):
        writer.write_shard([record("u1", features["u1"])])
    assert names(folder) == ["shard-00000.h5"]
    assert list(writer.entries()) == ["u0"]
    monkeypatch.undo()
    writer.write_shard([record("u1", features["u1"])])
    assert list(FeatureStore(folder)) == ["u0", "u1"]


def test_a_full_disk(write_store, describe, record, make_features, monkeypatch):
    features = make_features(3, 4)
    folder = write_store({"u0": features["u0"]})
    writer = StoreWriter(folder, describe(), "float16")
    usage = shutil.disk_usage(folder)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=writing.SPARE_BYTES))
    with pytest.raises(
        StoreError, match=r"shard-00001.h5 could not be written \(.*No space left on device\); the 1 utt"
    ):
        writer.write_shard([record("u1", features["u1"])])
    assert names(folder) == ["shard-00000.h5"]


@pytest.mark.parametrize("share", [0.0, 0.5, 0.95])
def test_a_disk_that_ends_in_the_middle_of_a_shard(write_store, describe, record, make_features, tmp_path, share):
    resource = pytest.importorskip("resource")
    features = make_features(3, 500, hidden_size=64)
    description = describe(hidden_size=64)
    needed = write_store({"u1": features["u1"]}, description=description, folder=tmp_path / "other")
    folder = write_store({"u0": features["u0"]}, description=description)
    writer = StoreWriter(folder, description, "float16")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    # With a limited file size, the same calls fail as on a full disk.
    room = int(share * (needed / "shard-00000.h5").stat().st_size)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
    try:
        with pytest.raises(StoreError) as error:
            writer.write_shard([record("u1", features["u1"])])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert str(error.value).startswith(f"{folder / 'shard-00001.h5'} could not be written (File too large); ")
    assert "the 1 utterances stored before are kept: raise the limit on the size of files ('ulimit" in str(error.value)
    assert "\n" not in str(error.value)
    assert names(folder) == ["shard-00000.h5"]
    writer.write_shard([record("u1", features["u1"])])
    np.testing.assert_array_equal(FeatureStore(folder)["u1"], features["u1"].astype(np.float16))


def test_encoding_rounds_to_the_nearest(make_features):
    features = make_features(7)["u0"]
    half = encode(features, "float16", "012")
    assert half.dtype == np.float16
    # Half a unit in the last place of float16, which has 11 significant bits.
    np.testing.assert_allclose(half, features, rtol=2**-11, atol=2**-25)
    assert encode(features, "float32", "012").dtype == np.float32
    np.testing.assert_array_equal(encode(features, "float32", "012"), features)


@pytest.mark.parametrize("value", [65520.0, -7e4, 3e38])
def test_values_that_overflow_are_named_with_their_layer(make_features, value):
    features = make_features(7)["u0"]
    features[1, 3, 2] = value
    with pytest.raises(FeatureError, match=r"layer 1: values up to .* overflow float16; extract with --store float32"):
        encode(features, "float16", "012")
    assert encode(features, "float32", "012")[1, 3, 2] == np.float32(value)


def test_the_largest_half_does_not_overflow(make_features):
    features = make_features(7)["u0"]
    features[1, 3, 2] = 65519  # It rounds to 65504.
    assert encode(features, "float16", "012")[1, 3, 2] == 65504


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("storage_dtype", ["float16", "float32"])
def test_values_that_are_not_finite_are_refused(make_features, value, storage_dtype):
    features = make_features(7)["u0"]
    features[2, 0, 0] = value
    with pytest.raises(FeatureError, match=r"^layer 2: NaN or infinite values$"):
        encode(features, storage_dtype, "012")
    with pytest.raises(FeatureError, match=r"^features: NaN or infinite values$"):
        encode(features[2:], storage_dtype, [""])
