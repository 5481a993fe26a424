"""Names of shards, and checksums of arrays and tables."""

import re
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featcache.cache import layout

ROW = ("a", 0, 5, 1.5, "0" * 64, np.nan, 2.0)


@given(st.integers(0, 10**9 - 1))
def test_a_shard_is_known_by_its_name(number):
    match = re.fullmatch(layout.SHARD_PATTERN, layout.shard_name(number))
    assert match
    assert int(match[1]) == number


@pytest.mark.parametrize("name", ["shard-1.h5", "shard-000001.h5", "shard-00001.h5.tmp", "index.h5", "shard--0001.h5"])
def test_other_names_are_no_shards(name):
    assert not re.fullmatch(layout.SHARD_PATTERN, name)


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
