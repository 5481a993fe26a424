"""The request of a store survives kills and lost indexes, and different numbers of parts exclude each other."""

import json
import multiprocessing
import threading

import numpy as np
import pytest

from featcache.cache import layout
from featcache.cache.reader import FeatureStore
from featcache.cache.request import REQUEST, StoreRequest, known_request, read_request, write_request
from featcache.cache.shards import Shard, shard_numbers
from featcache.cache.writer import StoreWriter
from featcache.errors import StoreError
from featcache.extraction.verify import damaged_files
from featcache.files import regular as files

REQUESTS = [
    StoreRequest(utterance_ids=("a", "ä\n", "")),
    StoreRequest(utterance_ids=(), num_in_corpus=9, num_parts=3, shards=(0, 2), failed=("x",)),
]


@pytest.mark.parametrize("request_", REQUESTS)
def test_a_request_comes_back(tmp_path, request_):
    assert read_request(tmp_path) is None
    write_request(tmp_path, request_)
    assert read_request(tmp_path) == request_


def test_every_flipped_bit_is_found(tmp_path, rng):
    write_request(tmp_path, REQUESTS[1])
    path = tmp_path / REQUEST
    whole = path.read_bytes()
    for place in range(len(whole)):
        changed = bytearray(whole)
        changed[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(changed)
        with pytest.raises(StoreError, match=r"request\.json: .*; remove it, and the next 'featcache extract' writes"):
            read_request(tmp_path)


@pytest.mark.parametrize(
    "content", ["", "[]", "{", "[" * 100_000, "null", '{"utterance_ids": 3}', '{"utterance_ids": [3], "shards": "x"}']
)
def test_a_hostile_request_is_refused_in_one_line(tmp_path, content, caplog):
    (tmp_path / REQUEST).write_text(content)
    with pytest.raises(StoreError, match="damaged") as error:
        read_request(tmp_path)
    assert "\n" not in str(error.value)
    assert known_request(tmp_path) is None
    assert "damaged" in caplog.text


@pytest.fixture
def writer(tmp_path, describe):
    def make(part=(0, 1)):
        return StoreWriter(tmp_path / "store", describe(), "float16", part=part)

    return make


@pytest.fixture
def records(make_features, record):
    features = make_features(*range(1, 13))
    return {key: record(key, value) for key, value in features.items()}


def test_a_store_is_as_finished_without_its_index_as_with_it(writer, records, tmp_path):
    filling = writer()
    filling.begin(["u0", "u1", "u2"], num_in_corpus=7)
    filling.write_shard([records["u0"]])
    assert not FeatureStore(tmp_path / "store").complete
    assert FeatureStore(tmp_path / "store").num_requested == 3  # It is known before the end.
    filling.write_shard([records["u1"]])
    for failed in ([], ["u2"]):
        filling.finish(["u0", "u1", "u2"], failed=failed, num_in_corpus=7)
        with_index = FeatureStore(tmp_path / "store")
        (tmp_path / "store" / layout.INDEX).unlink()
        without = FeatureStore(tmp_path / "store")
        for store in (with_index, without):
            assert store.complete == bool(failed)
            assert (store.num_requested, store.num_in_corpus) == (3, 7)
    (tmp_path / "store" / "shard-00001.h5").unlink()
    assert not FeatureStore(tmp_path / "store").complete  # The lost shard is noticed.
    assert FeatureStore(tmp_path / "store").num_requested == 3


def test_a_damaged_request_is_no_request(writer, records, tmp_path):
    filling = writer()
    filling.write_shard([records["u0"]])
    filling.finish(["u0"], failed=[])
    path = tmp_path / "store" / REQUEST
    path.write_text(json.dumps({**json.loads(path.read_text()), "failed": ["u9"]}))
    assert FeatureStore(tmp_path / "store").complete  # The index records it.
    assert any(REQUEST in line for line in damaged_files(tmp_path / "store"))
    (tmp_path / "store" / layout.INDEX).unlink()
    assert not FeatureStore(tmp_path / "store").complete


def stored(folder):
    """Return the utterances in the shards, as stored in the files."""
    return {key: n for n in shard_numbers(folder) for key in Shard(folder / layout.shard_name(n)).utterances["id"]}


@pytest.mark.parametrize("links", [True, False])
@pytest.mark.parametrize("parts", [((0, 2), (0, 3)), ((0, 2), (0, 2)), ((0, 1), (0, 3)), ((1, 2), (1, 4))])
def test_two_writers_never_take_each_others_shard(writer, records, tmp_path, monkeypatch, parts, links):
    """Two writers open the store at the same time, as parts of different numbers or as the same part."""
    if not links:

        def refuse(*_args):
            raise PermissionError

        monkeypatch.setattr(files.os, "link", refuse)
    one, other = map(writer, parts)
    ready = threading.Barrier(2)

    def fill(writer, keys):
        def next_number():  # The number that it found before the other one wrote.
            index, of = writer._part
            number = max(writer._tables, default=-1) + 1
            return number + (index - number) % of

        writer.next_number = next_number
        ready.wait()
        for key in keys:
            writer.write_shard([records[key]])

    keys = sorted(records)
    threads = [threading.Thread(target=fill, args=args) for args in ((one, keys[::2]), (other, keys[1::2]))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(stored(tmp_path / "store")) == keys
    assert not list((tmp_path / "store").glob(".*.tmp"))
    one.finish(keys, failed=[])
    assert FeatureStore(tmp_path / "store").complete
    assert list(damaged_files(tmp_path / "store")) == []


def test_a_task_that_is_done_again_writes_the_same_file(writer, records, tmp_path):
    pair, filling = [records["u0"], records["u1"]], writer()
    filling.write_shard(pair, number=4)
    before = (tmp_path / "store" / layout.shard_name(4)).read_bytes()
    writer().write_shard(pair, number=4)
    assert shard_numbers(tmp_path / "store") == [4]
    assert (tmp_path / "store" / layout.shard_name(4)).read_bytes() == before
    writer().write_shard(pair[:1], number=4)  # A shard with one utterance less must not replace it.
    assert shard_numbers(tmp_path / "store") == [4, 5]
    writer().write_shard([records["u2"]], number=4)
    assert sorted(stored(tmp_path / "store")) == ["u0", "u1", "u2"]


def test_parts_of_another_number_are_refused_until_all_have_ended(writer, records, tmp_path):
    keys = ["u0", "u1"]
    first = writer((0, 2))
    first.begin(keys)
    told = r"is being filled in 2 parts, and not all of them are finished; this is one of 3: give --num-shards 2, or"
    for _ in ("running", "one has ended"):
        for write in (True, False):
            with pytest.raises(StoreError, match=told) as error:
                writer((0, 3)).begin(keys, write=write)
            assert "\n" not in str(error.value)
        writer((1, 2)).begin(keys)
        writer((0, 1)).begin(keys, write=False)  # A process without parts waits for the lock alone.
        if not shard_numbers(tmp_path / "store"):
            first.write_shard([records["u0"]])
            first.finish(keys, failed=[])
    second = writer((1, 2))
    second.write_shard([records["u1"]])
    second.finish(keys, failed=[])
    third = writer((0, 3))
    third.begin(records)  # All parts are finished.
    with pytest.raises(StoreError, match="is being filled in 3 parts"):
        writer((1, 2)).begin(keys)


def _begin(folder, describe, of, results):
    try:
        StoreWriter(folder, describe, "float16", part=(0, of)).begin(["u0"])
        results.put(of)
    except StoreError:
        results.put(None)


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="needs fork")
def test_of_parts_of_different_numbers_that_start_together_one_begins(tmp_path, describe):
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    arguments = [(tmp_path / "store", describe(), of, results) for of in (2, 3, 4, 5)]
    processes = [context.Process(target=_begin, args=given) for given in arguments]
    for process in processes:
        process.start()
    begun = [results.get(timeout=60) for _ in processes]
    for process in processes:
        process.join()
    assert sorted(of is None for of in begun) == [False, True, True, True]
    assert read_request(tmp_path / "store").num_parts == next(of for of in begun if of)


def test_features_are_those_that_were_written(writer, records, tmp_path):
    filling = writer()
    filling.write_shard(list(records.values()))
    store = FeatureStore(tmp_path / "store")
    for key, value in records.items():
        np.testing.assert_array_equal(store.view(key), value.features)
