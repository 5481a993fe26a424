"""A file that crashes HDF5 crashes only the separate process, and all other files are read."""

import faulthandler
import genericpath
import os

import pytest

from featcache.cache.apart import read_apart


@pytest.mark.skipif(os.name == "nt", reason="crashes as POSIX does")
def test_a_crash_is_told_and_survived(tmp_path):
    assert list(read_apart(faulthandler._sigsegv, [tmp_path])) == [None]


def test_results_come_in_order_and_failures_as_none(tmp_path):
    paths = [tmp_path / name for name in ("a", "b", "c")]
    paths[0].write_bytes(b"1")
    paths[2].write_bytes(b"333")
    assert list(read_apart(genericpath.getsize, paths)) == [1, None, 3]
    assert list(read_apart(genericpath.getsize, [])) == []
