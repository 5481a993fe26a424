"""HDF5 would crash when it closes a file that it could not write, so that write errors are hidden from it."""

import errno
import io
import os
import subprocess
import sys

import numpy as np
import pytest

from featcache.cache import sink
from featcache.cache.reader import FeatureStore
from featcache.cache.writer import StoreWriter
from featcache.errors import DiskError


def fail(number):
    raise OSError(number, os.strerror(number))


class Failing(io.FileIO):
    """File whose calls fail from a given one on, as on a full or disconnected disk."""

    left = 0

    def _count(self):
        Failing.left -= 1
        if Failing.left < 0:
            fail(errno.EIO)

    def write(self, content):
        self._count()
        return super().write(content[: max(1, len(content) - 1)])  # A disk may accept only some of the bytes.

    def truncate(self, size=None):
        self._count()
        return super().truncate(size)


@pytest.fixture
def store(tmp_path, describe, record, make_features):
    features = make_features(3, 50)
    writer = StoreWriter(tmp_path / "store", describe(), "float16")
    writer.write_shard([record("u0", features["u0"])])
    return writer, record("u1", features["u1"]), features


def test_whichever_write_fails_hdf5_hears_nothing_and_the_store_stays_as_it_was(store, monkeypatch):
    writer, new, features = store
    before = sorted(os.listdir(writer.folder))
    monkeypatch.setattr(sink, "open", lambda path, mode, **_: Failing(path, "w+"), raising=False)
    told, left = [], []
    for number in range(10_000):
        Failing.left = number
        try:
            writer.write_shard([new])
        except DiskError as error:
            told.append(str(error))
            left.append(sorted(os.listdir(writer.folder)))
        else:
            break
    expected = "shard-00001.h5 could not be written (Input/output error); the 1 utterances stored before are kept"
    assert all(expected in line for line in told)
    assert left == [before] * number
    assert number > 20  # Header, arrays, tables and metadata: each was the first to fail once.
    np.testing.assert_array_equal(FeatureStore(writer.folder)["u1"], features["u1"].astype(np.float16))


LIMITED = """
import resource, sys, numpy as np
from pathlib import Path
from featcache.cache.statistics import of_frames
from featcache.cache.writer import Record, StoreWriter, encode
from featcache.errors import DiskError
from featcache.extractors.base import Description

folder, layers = Path(sys.argv[1]), ("0", "1")
description = Description(
    dataset="hidden_states", layer_names=layers, hidden_size=16, frame_shift=0.02, sampling_rate=16000,
    channel="mean", settings={"extractor": "made-up"}, provenance={},
)
def record(name):
    features = np.random.default_rng(0).normal(size=(2, 50, 16)).astype(np.float32)
    return Record(
        utterance_id=name, features=encode(features, "float16", layers), statistics=of_frames(features),
        duration=1.0, audio_sha256="0" * 64, start=None, end=None,
    )
whole = StoreWriter(folder / "whole", description, "float16")
whole.write_shard([record("u0")])
size = (folder / "whole" / "shard-00000.h5").stat().st_size
writer = StoreWriter(folder / "store", description, "float16")
told = []
for limit in [0, 1, 100, 2047, 2048, 2049, *range(3000, size, 997), size - 1]:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        writer.write_shard([record("u0")])
    except DiskError as error:
        told.append(str(error))
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert len(told) and not list((folder / "store").glob("*")), limit
writer.write_shard([record("u0")])
print(len(told), sum("File too large" in line for line in told))
"""


def test_a_limit_on_the_size_of_files_crashes_nothing(tmp_path):
    pytest.importorskip("resource")
    # In a separate process, because HDF5 crashed at its end.
    done = subprocess.run([sys.executable, "-c", LIMITED, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, (done.returncode, done.stderr)
    refused, told = map(int, done.stdout.split())
    assert refused == told > 6
