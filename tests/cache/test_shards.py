"""Shards that are manipulated, truncated or replaced give one line of advice, and never a wrong number."""

import json
import os
from contextlib import suppress

import h5py
import numpy as np
import pytest

from featcache.cache import layout
from featcache.cache.identity import StoreIdentity
from featcache.cache.reader import FeatureStore
from featcache.cache.request import REQUEST
from featcache.cache.writer import StoreWriter
from featcache.errors import StoreError
from featcache.extraction.verify import damaged_files
from tests.cache.tampering import a_table_without, attribute, cell, linked, no_attribute, replaced


@pytest.fixture
def check_refused(folder, describe):
    """Return a check that reader and writer refuse a store whose first shard is faulty."""

    def check(message):
        for refuses in (
            lambda: FeatureStore(folder)["u0"],
            lambda: StoreWriter(folder, describe(), "float16"),
            lambda: (folder / layout.INDEX).unlink() or FeatureStore(folder),
        ):
            with pytest.raises(StoreError, match=message) as error:
                refuses()
            assert "\n" not in str(error.value)

    return check


def external_storage(file, outside):
    del file["hidden_states"]
    bytes_there = [(str(outside / "outside.bin"), 0, 2 * 3 * 7 * 4)]
    file.create_dataset("hidden_states", (3, 7, 4), "float16", external=bytes_there)


def virtual(file, outside):
    del file["hidden_states"]
    view = h5py.VirtualLayout(shape=(3, 7, 4), dtype="float16")
    view[:] = h5py.VirtualSource(str(outside / "outside.h5"), "hidden_states", shape=(3, 7, 4))
    file.create_virtual_dataset("hidden_states", view)


def one_layer_less(file, _outside):
    file.attrs["layer_names"] = np.array(["0", "1"], dtype=h5py.string_dtype())


TAMPERED = {
    "external link": (
        linked("hidden_states", lambda o: h5py.ExternalLink(str(o / "outside.h5"), "/hidden_states")),
        "has no dataset /hidden_states",
    ),
    "external link to a table": (
        linked("utterances", lambda o: h5py.ExternalLink(str(o / "outside.h5"), "/utterances")),
        "has no dataset /utterances",
    ),
    "external link to a group": (
        linked("statistics", lambda o: h5py.ExternalLink(str(o / "outside.h5"), "/statistics")),
        "has no dataset /statistics/count",
    ),
    "soft link": (linked("statistics/mean", lambda _: h5py.SoftLink("/statistics/m2")), "has no dataset /statistics/m"),
    "external storage": (external_storage, "/hidden_states is not contiguous in the file"),
    "virtual dataset": (virtual, "/hidden_states is not contiguous in the file"),
    "compressed": (
        replaced("hidden_states", np.zeros((3, 7, 4), "float16"), compression="gzip"),
        "/hidden_states is not contiguous",
    ),
    "no features": (replaced("hidden_states", shape=(3, 0, 4), dtype="float16"), "is not contiguous"),
    "never written": (replaced("hidden_states", shape=(3, 10**15, 4), dtype="float16"), "is not contiguous"),
    "another dtype": (replaced("hidden_states", np.zeros((3, 7, 4))), "/hidden_states is not a dataset of float16"),
    "statistics of another dtype": (replaced("statistics/mean", np.zeros((2, 3, 4))), "is not a dataset of float32"),
    "a group instead": (
        lambda file, _: (file.pop("hidden_states"), file.create_group("hidden_states")),
        "not a dataset",
    ),
    "a dataset instead of a group": (replaced("statistics", np.zeros(3)), "has no dataset /statistics/count"),
    "fewer frames": (replaced("hidden_states", np.zeros((3, 6, 4), "float16")), "contradict each other"),
    "fewer layers": (replaced("hidden_states", np.zeros((2, 7, 4), "float16")), "contradict each other"),
    "another size": (replaced("hidden_states", np.zeros((3, 7, 5), "float16")), "contradict each other"),
    "one axis": (replaced("hidden_states", np.zeros(84, "float16")), "contradict each other"),
    "statistics of fewer": (replaced("statistics/max", np.zeros((1, 3, 4), "float32")), "contradict each other"),
    "other counts": (replaced("statistics/count", np.array([4, 3])), "contradict each other"),
    "too many frames": (cell("num_frames", 1, 1000), "contradict each other"),
    "negative frames": (cell("num_frames", 0, -2), "contradict each other"),
    "frames elsewhere": (cell("first_frame", 1, 4), "contradict each other"),
    "a table of numbers": (replaced("utterances", np.zeros(2)), "/utterances is not a dataset of"),
    "a table without": (a_table_without("duration"), "/utterances is not a dataset of"),
    "an id that is no text": (cell("id", 0, b"\xff\xfe"), "damaged .*utf-8"),
    "a later version": (attribute("format_version", 2), "has format version 2, expected 1; read it with"),
    "no version": (no_attribute("format_version"), "has format version None, expected 1"),
    "no layer names": (no_attribute("layer_names"), "has missing or faulty attributes: layer_names"),
    "layer names of another type": (attribute("layer_names", 3), "has missing or faulty attributes: layer_names"),
    "layer names of another number": (one_layer_less, "contradict each other"),
    "another dataset": (attribute("dataset", "statistics/mean"), "shard-00000.h5"),
    "no such dataset": (attribute("dataset", "/../x"), "shard-00000.h5"),
    "no such dtype": (attribute("storage_dtype", "half a float"), "damaged .*half a float"),
    "objects": (attribute("storage_dtype", "O"), "shard-00000.h5"),
    "settings that are not JSON": (attribute("settings", "{"), "damaged"),
    "settings that were changed": (attribute("settings", "{}"), "its settings contradict its fingerprint"),
}


@pytest.mark.parametrize("how", TAMPERED)
def test_a_shard_that_was_tampered_with_is_refused(folder, outside, check_refused, tampering, how):
    tamper, message = TAMPERED[how]
    with tampering(folder / "shard-00000.h5") as file:
        tamper(file, outside)
    check_refused(message)


def settings_with(**changes):
    """Change settings, and the fingerprint accordingly."""

    def tamper(file, _outside):
        settings = json.loads(file.attrs["settings"]) | changes
        file.attrs["settings"] = json.dumps(settings)
        file.attrs["fingerprint"] = StoreIdentity(settings=settings).fingerprint

    return tamper


def raw_settings(text):
    def tamper(file, _outside):
        file.attrs["settings"] = text
        with suppress(ValueError, RecursionError):
            file.attrs["fingerprint"] = StoreIdentity(settings=json.loads(text)).fingerprint

    return tamper


def nested(levels):
    value = "x"
    for _ in range(levels):
        value = [value]
    return value


WRONG_TYPES = {
    "a number as name of a layer": (attribute("layer_names", np.array([0, 1, 2])), "layer_names"),
    "layer names in a table": (attribute("layer_names", np.array([["0"]] * 3, h5py.string_dtype())), "layer_names"),
    "a size as text": (attribute("hidden_size", "4"), "hidden_size"),
    "a size as fraction": (attribute("hidden_size", 4.0), "hidden_size"),
    "a size as truth": (attribute("hidden_size", True), "hidden_size"),
    "a frame shift as text": (attribute("frame_shift", "0.02"), "frame_shift"),
    "a fingerprint as number": (attribute("fingerprint", 7), "fingerprint"),
    "nothing": (attribute("storage_dtype", h5py.Empty("f")), "storage_dtype"),
    "bytes": (attribute("dataset", np.bytes_(b"hidden_states")), "dataset"),
    "a rate as text": (attribute("sampling_rate", "fast"), "sampling_rate"),
    "an extractor as number": (attribute("extractor", 3), "extractor"),
    "blocks as text": (attribute("num_blocks", "many"), "num_blocks"),
    "seconds as list": (attribute("max_seconds", np.array([1.0, 2.0])), "max_seconds"),
    "another record": (attribute("more", np.zeros(2, [("a", "i4"), ("b", "f4")])), "more"),
    "a reference": (lambda file, _: file.attrs.__setitem__("more", file.ref), "more"),
    "a table as attribute": (attribute("more", np.zeros((3, 3))), "more"),
    "settings as number": (attribute("settings", 3), "settings"),
    "settings as list": (raw_settings("[]"), "settings"),
    "settings as nothing": (raw_settings("null"), "settings"),
    "settings as text": (raw_settings('"x"'), "settings"),
    "deep settings": (settings_with(more=nested(100)), "settings"),
    "deeper settings": (raw_settings("[" * 50_000 + "]" * 50_000), "settings|damaged"),
    "pool as text": (settings_with(pool="yes"), "settings: pool"),
    "layers as number": (settings_with(layers=3), "settings: layers"),
    "numbers as layers": (settings_with(layers=[0, 1]), "settings: layers"),
    "seconds as text": (settings_with(max_seconds="all"), "settings: max_seconds"),
    "a model as list": (settings_with(model_id=["a"]), "settings: model_id"),
}


@pytest.mark.parametrize("how", WRONG_TYPES)
def test_attributes_of_wrong_types_are_told_in_one_line(folder, outside, check_refused, tampering, how):
    tamper, name = WRONG_TYPES[how]
    with tampering(folder / "shard-00000.h5") as file:
        tamper(file, outside)
    check_refused(name)


@pytest.mark.parametrize("how", ["pipe", "device", "folder", "nowhere"])
@pytest.mark.parametrize("name", ["shard-00000.h5", layout.INDEX, REQUEST])
def test_what_is_no_regular_file_is_not_waited_for(folder, check_refused, how, name):
    path = folder / name
    path.unlink()
    if how == "pipe":
        getattr(os, "mkfifo", lambda _path: pytest.skip("needs named pipes"))(path)
    elif how == "device":
        path.symlink_to("/dev/zero")
    elif how == "folder":
        path.mkdir()
    else:
        path.symlink_to("nowhere")
    if name.startswith("shard"):
        with pytest.raises(StoreError, match=r"shard-00000\.h5 cannot be opened"):
            FeatureStore(folder)["u0"]
    else:
        assert list(FeatureStore(folder)) == ["u0", "u1", "u2"]
    assert how == "nowhere" or any(name in line for line in damaged_files(folder))


@pytest.mark.parametrize("seed", range(3))
def test_no_flip_anywhere_is_more_than_one_line(folder, describe, seed):
    """Every reader of a file with a flipped bit returns the written values or raises one line; nothing crashes."""
    rng = np.random.default_rng(seed)
    names = ["shard-00000.h5", "shard-00001.h5", layout.INDEX, REQUEST]
    whole = {name: (folder / name).read_bytes() for name in names}
    for _ in range(40):
        name = names[int(rng.integers(len(names)))]
        changed = bytearray(whole[name])
        changed[int(rng.integers(len(changed)))] ^= 1 << int(rng.integers(8))
        (folder / name).write_bytes(changed)
        told = []
        for read in (lambda: dict(FeatureStore(folder)), lambda: StoreWriter(folder, describe(), "float16").entries()):
            try:
                read()
            except StoreError as error:
                told.append(str(error))
        assert name.startswith("shard") or not told
        assert "\n" not in "".join(told)
        assert any(name in line for line in damaged_files(folder))
        (folder / name).write_bytes(whole[name])


@pytest.mark.parametrize("length", [0, 1, 100, 3000, -1])
def test_a_truncated_shard_says_what_to_do(folder, check_refused, length):
    shard = folder / "shard-00000.h5"
    shard.write_bytes(shard.read_bytes()[:length])
    check_refused(r"shard-00000.h5: not readable as HDF5 \(.*\); remove it and extract again")


def test_garbage_and_folders_are_no_shards(folder, check_refused):
    (folder / "shard-00000.h5").write_bytes(b"garbage" * 1000)
    check_refused("shard-00000.h5: not readable as HDF5")
    (folder / "shard-00000.h5").unlink()
    (folder / "shard-00000.h5").mkdir()
    with pytest.raises(StoreError, match=r"shard-00000.h5 cannot be opened \(Is a directory\)$"):
        FeatureStore(folder)


def test_a_folder_without_shards(tmp_path):
    with pytest.raises(StoreError, match=r"contains no features; expected shards such as shard-00000.h5"):
        FeatureStore(tmp_path)
    with pytest.raises(StoreError, match="contains no features"):
        FeatureStore(tmp_path / "nowhere")
