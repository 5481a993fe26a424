"""Features that are written window by window are read back unchanged, and no file is left behind."""

import gc
import multiprocessing
import os
import signal
import time

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featcache.cache import layout, spool
from featcache.cache.reader import FeatureStore
from featcache.cache.spool import Spool, bytes_on_disk
from featcache.cache.statistics import RunningStatistics, of_frames
from featcache.cache.writer import Record, StoreWriter
from featcache.errors import StoreError
from featcache.files.regular import remove_unfinished


@pytest.fixture(params=["memory", "disk"])
def where(request, monkeypatch):
    """Return where the features are: in memory, or in a file that is read in small pieces."""
    if request.param == "disk":
        monkeypatch.setattr(spool, "IN_MEMORY_BYTES", 0)
    monkeypatch.setattr(spool, "PIECE_BYTES", 40)
    return request.param


def filled(folder, features, cuts=(3, 4), dtype="float32"):
    found = Spool(folder, features.shape, dtype)
    for first, last in zip((0, *cuts), (*cuts, features.shape[1]), strict=True):
        found.write(first, features[:, first:last])
    return found


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_pieces_are_what_was_written(tmp_path, make_features, where, dtype):
    features = make_features(11)["u0"].astype(dtype)
    found = filled(tmp_path, features, dtype=dtype)
    assert found.nbytes == features.nbytes
    assert bytes_on_disk(features.shape, dtype) == (features.nbytes if where == "disk" else 0)
    for layer, expected in enumerate(features):
        pieces = list(found.pieces(layer))
        assert len(pieces) > 1
        assert all(piece.dtype == dtype for piece in pieces)
        np.testing.assert_array_equal(np.concatenate(pieces), expected)


def test_pieces_may_come_out_as_something_else(tmp_path, make_features, where):
    features = make_features(11)["u0"]
    found = filled(tmp_path, features)
    found.encode_with(lambda layer, piece: np.rint(piece * 10 + layer).astype(np.int8), np.int8)
    assert found.nbytes == features.size
    for layer in range(3):
        expected = np.rint(features[layer] * 10 + layer).astype(np.int8)
        np.testing.assert_array_equal(np.concatenate(list(found.pieces(layer))), expected)


@pytest.mark.parametrize("dataset", ["hidden_states", "frames"])
def test_a_shard_of_spools_is_that_of_arrays(tmp_path, describe, record, make_features, where, dataset):
    features = make_features(5, 11, 9, num_layers=3 if dataset == "hidden_states" else 1)
    written = []
    for name in ("arrays", "spools"):
        records = [record(key, values) for key, values in features.items()]
        if name == "spools":
            spooled = filled(tmp_path / name, records[1].features, dtype="float16")
            fields = {**vars(records[1]), "features": spooled}
            records[1] = Record(**fields)
        writer = StoreWriter(tmp_path / name, describe(dataset=dataset), "float16")
        writer.write_shard(records)
        with h5py.File(tmp_path / name / layout.shard_name(0)) as file:
            written.append((file[dataset][()].tobytes(), file[dataset].attrs["crc32"]))
        store = FeatureStore(tmp_path / name)
        for key, values in features.items():
            np.testing.assert_array_equal(store.view(key), values.astype(np.float16))
    assert written[0] == written[1]
    assert not spooled.close.alive


def names(folder):
    return sorted(os.listdir(folder))


def test_a_spool_bears_no_name_and_gives_its_room_back(tmp_path, make_features, where):
    found = filled(tmp_path, make_features(11)["u0"])
    assert not [name for name in names(tmp_path) if not name.startswith(".spool.")]
    close = found.close
    del found
    gc.collect()
    assert not close.alive
    assert names(tmp_path) == []


def _spool_and_wait(folder, ready):
    spool.IN_MEMORY_BYTES = 0
    found = filled(folder, np.ones((3, 11, 4), dtype=np.float32))
    ready.set()
    time.sleep(60)
    found.close()


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="needs fork to kill its own copy")
def test_a_spool_does_not_outlive_a_killed_process(tmp_path):
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    process = context.Process(target=_spool_and_wait, args=(tmp_path, ready))
    process.start()
    assert ready.wait(60)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    remove_unfinished(tmp_path)  # For file systems without unnamed files.
    assert names(tmp_path) == []


def test_a_full_disk_is_told_in_one_line(tmp_path, make_features, monkeypatch):
    resource = pytest.importorskip("resource")
    monkeypatch.setattr(spool, "IN_MEMORY_BYTES", 0)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))  # The same calls fail as on a full disk.
    try:
        with pytest.raises(StoreError, match=r"^features of a long utterance could not be written to .* \(File too la"):
            filled(tmp_path, make_features(5000)["u0"])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@given(cuts=st.lists(st.integers(1, 49), max_size=6, unique=True), offset=st.sampled_from([0.0, 1.0, -1e3]))
def test_statistics_of_pieces_are_those_of_all_frames(cuts, offset):
    features = (offset + np.random.default_rng(len(cuts)).standard_normal((2, 50, 3))).astype(np.float32)
    running = RunningStatistics()
    for first, last in zip((0, *sorted(cuts)), (*sorted(cuts), 50), strict=True):
        running.add(features[:, first:last])
    found, exact = running.result(), features.astype(np.float64)
    assert found.count == 50
    assert found.mean.dtype == found.m2.dtype == found.max.dtype == np.float32
    # A mean that float32 rounds by e adds count * e^2 to the sum of squares.
    rounding = 4 * np.finfo(np.float32).eps * max(1.0, abs(offset))
    np.testing.assert_allclose(found.mean, exact.mean(axis=1), rtol=np.finfo(np.float32).eps, atol=1e-9)
    expected = np.square(exact - exact.mean(axis=1, keepdims=True)).sum(axis=1)
    np.testing.assert_allclose(found.m2, expected, rtol=1e-5, atol=50 * rounding**2)
    np.testing.assert_array_equal(found.max, features.max(axis=1))
    if not cuts:
        for name in ("mean", "m2", "max"):
            np.testing.assert_array_equal(getattr(found, name), getattr(of_frames(features), name))
