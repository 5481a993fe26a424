"""Shared fixtures of the cache's tests: made-up features, and stores written from them."""

from contextlib import contextmanager
from dataclasses import replace

import h5py
import numpy as np
import pytest

from featcache.cache import layout
from featcache.cache.quantise import quantise
from featcache.cache.seal import seal
from featcache.cache.statistics import of_frames
from featcache.cache.writer import Record, StoreWriter, encode
from featcache.features import Description
from tests.cache.tampering import SECRET


@pytest.fixture(scope="session")
def tampering():
    """Open a file of a store and change it as an attacker could: its seal and checksums match afterwards."""

    @contextmanager
    def tampering(path):
        with h5py.File(path, "r+") as file:
            yield file
        seal(path, [])

    return tampering


@pytest.fixture(scope="session")
def describe():
    """Return a function that makes a description; other keywords become settings."""

    def make(*, dataset="hidden_states", num_layers=3, hidden_size=4, frame_shift=0.02, provenance=None, **settings):
        layers = dataset == "hidden_states"
        return Description(
            dataset=dataset,
            layer_names=tuple(str(number) for number in range(num_layers)) if layers else ("",),
            hidden_size=hidden_size,
            frame_shift=frame_shift,
            sampling_rate=16000,
            channel="mean",
            settings={"extractor": "made-up", **settings},
            provenance=provenance or {},
        )

    return make


@pytest.fixture
def make_features(rng):
    """Return a function that makes features of utterances ``u0``, ``u1``, … with given numbers of frames."""

    def make(*num_frames, num_layers=3, hidden_size=4):
        return {
            f"u{number}": rng.standard_normal((num_layers, frames, hidden_size)).astype(np.float32)
            for number, frames in enumerate(num_frames)
        }

    return make


@pytest.fixture(scope="session")
def record():
    def make(utterance_id, features, storage_dtype="float16", **fields):
        names = [str(number) for number in range(len(features))]
        given = {"duration": 1.5, "audio_sha256": "0" * 64, "start": None, "end": None, **fields}
        statistics = of_frames(features)
        if storage_dtype == "int8":
            stored, step = quantise(features, statistics.mean)
            statistics = replace(statistics, step=step)
        else:
            stored = encode(features, storage_dtype, names)
        return Record(utterance_id=utterance_id, features=stored, statistics=statistics, **given)

    return make


@pytest.fixture
def write_store(tmp_path, describe, record):
    """Return a function that writes a store, one shard for each group of utterances, and returns its folder."""

    def write(*groups, folder=None, description=None, storage_dtype="float16"):
        folder = folder or tmp_path / "store"
        writer = StoreWriter(folder, description or describe(), storage_dtype)
        for features in groups:
            writer.write_shard([record(key, value, storage_dtype) for key, value in features.items()])
        writer.finish(list(writer.entries()), failed=[])
        return folder

    return write


@pytest.fixture
def features(make_features):
    return make_features(5, 2, 9)


@pytest.fixture
def folder(write_store, features):
    """Return the folder of a store of two shards, with u0 and u1 in the first, and an index."""
    first = {key: features[key] for key in ("u0", "u1")}
    return write_store(first, {"u2": features["u2"]})


@pytest.fixture
def outside(tmp_path):
    """Return a folder with files outside the store that a hostile shard could point to."""
    with h5py.File(tmp_path / "outside.h5", "w") as file:
        for name, shape, dtype in (
            ("hidden_states", (3, 7, 4), "float16"),
            ("statistics/mean", (2, 3, 4), "float32"),
        ):
            file[name] = np.full(shape, SECRET, dtype)
        file["utterances"] = np.array([("x", 0, 7, 1.0, "", np.nan, np.nan)], dtype=layout.UTTERANCE_DTYPE)
    (tmp_path / "outside.bin").write_bytes(np.full(1000, SECRET, "float16").tobytes())
    return tmp_path
