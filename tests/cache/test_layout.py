"""What identifies a store, and the checksums over its arrays and tables."""

import json
import re
import zlib

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featcache.cache import layout
from featcache.cache.shards import read_attributes

ROW = ("a", 0, 5, 1.5, "0" * 64, np.nan, 2.0)


@given(st.integers(0, 10**9 - 1))
def test_a_shard_is_known_by_its_name(number):
    match = re.fullmatch(layout.SHARD_PATTERN, layout.shard_name(number))
    assert match
    assert int(match[1]) == number


@pytest.mark.parametrize("name", ["shard-1.h5", "shard-000001.h5", "shard-00001.h5.tmp", "index.h5", "shard--0001.h5"])
def test_other_names_are_no_shards(name):
    assert not re.fullmatch(layout.SHARD_PATTERN, name)


def test_the_order_of_settings_is_no_part_of_the_fingerprint():
    assert layout.fingerprint({"a": 1, "b": [2]}) == layout.fingerprint({"b": [2], "a": 1})


def test_every_setting_and_the_storage_dtype_are_part_of_the_fingerprint(describe):
    made = [
        (describe(), "float16"),
        (describe(), "float32"),
        (describe(precision="float32"), "float16"),
        (describe(precision="bfloat16"), "float16"),
        (describe(do_normalize=None), "float16"),
        (describe(do_normalize=False), "float16"),
        (describe(layers=["0", "1"]), "float16"),
    ]
    fingerprints = {layout.attributes(*arguments)["fingerprint"] for arguments in made}
    assert len(fingerprints) == len(made)


def test_versions_and_revisions_are_no_part_of_the_fingerprint(describe):
    old, new = (layout.attributes(describe(provenance={"torch_version": v}), "float16") for v in ("2.6", "2.7"))
    assert old["fingerprint"] == new["fingerprint"]
    assert new["torch_version"] == "2.7"


def test_settings_come_back_from_the_attributes(describe):
    description = describe(layers=("0", "1"), do_normalize=None, n_fft=800)
    settings = layout.settings_of(layout.attributes(description, "float16"))
    assert settings == layout.identity(description, "float16")
    assert settings == json.loads(json.dumps(settings))  # plain values: a tuple has become a list
    assert settings["n_fft"] == 800
    assert layout.fingerprint(settings) == layout.attributes(description, "float16")["fingerprint"]


@pytest.mark.parametrize(
    "changes",
    [
        {"dataset": "hidden_states", "provenance": {"torch_version": "2.6", "num_blocks": 2}},
        {"dataset": "frames", "frame_shift": None, "num_layers": 1, "provenance": {"feature_names": ["a", "b"]}},
    ],
)
def test_a_description_comes_back_from_the_attributes_of_a_file(describe, tmp_path, changes):
    description = describe(**changes, layers=["0", "1"], do_normalize=None, architecture={"stride": [5, 2]})
    expected = layout.attributes(description, "int8")
    with h5py.File(tmp_path / "file.h5", "w") as file:
        file.attrs.update(expected)
        found = layout.description_of(read_attributes(file, tmp_path / "file.h5"))
    assert found == description
    np.testing.assert_equal(layout.attributes(found, "int8"), expected)


@pytest.mark.parametrize("dtype", ["float16", "float32", "int64"])
def test_crc32_is_that_of_the_bytes_whatever_the_pieces(rng, dtype):
    array = rng.integers(0, 100, (3, 5, 4)).astype(dtype)
    expected = zlib.crc32(array.tobytes())
    assert layout.crc32([array]) == expected
    assert layout.crc32(layer[frames] for layer in array for frames in (slice(0, 2), slice(2, 5))) == expected
    assert layout.crc32([array.transpose(2, 1, 0).copy().transpose(2, 1, 0)]) == expected


@pytest.mark.parametrize("column", range(len(ROW)))
def test_crc32_of_a_table_is_moved_by_every_column(column):
    changed = list(ROW)
    changed[column] = "other" if isinstance(ROW[column], str) else 7
    before, same, after = (np.array([row], dtype=layout.UTTERANCE_DTYPE) for row in (ROW, ROW, tuple(changed)))
    assert layout.crc32_of_table(before) == layout.crc32_of_table(same)
    assert layout.crc32_of_table(before) != layout.crc32_of_table(after)
