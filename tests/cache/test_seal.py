"""Because of the seal in front of shards and indexes, HDF5 never parses changed bytes."""

import json

import h5py
import numpy as np
import pytest

from featcache.cache import layout, seal, shards
from featcache.cache.reader import FeatureStore
from featcache.cache.seal import SEAL_BYTES, check_seal, is_sealed
from featcache.errors import StoreError
from featcache.extraction.verify import damaged_datasets, damaged_files, unchecked_files

FLIPS = 64


@pytest.fixture
def folder(write_store, make_features):
    """Return the folder of a store of two shards and an index, alone in its cache."""
    return write_store(make_features(5, 2, 9), {"v": make_features(4)["u0"]})


def flipped(path, rng, number):
    """Flip one bit at a time, one in each of equal parts of a file, and restore the file at the end."""
    whole = path.read_bytes()
    ends = np.linspace(0, len(whole), number + 1).astype(int)
    for place in rng.integers(ends[:-1], ends[1:]):
        changed = bytearray(whole)
        changed[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(changed)
        yield int(place)
    path.write_bytes(whole)


@pytest.fixture
def parsed(monkeypatch):
    """Return the list of files that HDF5 opened."""
    opened = []
    real = h5py.File

    def spy(path, *args, **kwargs):
        opened.append(str(path))
        return real(path, *args, **kwargs)

    monkeypatch.setattr(shards.h5py, "File", spy)
    return opened


def test_every_flip_in_an_index_is_found_before_hdf5_reads_it(folder, rng, parsed, caplog):
    path = folder / layout.INDEX
    expected = list(FeatureStore(folder))
    parsed.clear()
    for place in flipped(path, rng, FLIPS):
        with pytest.raises(StoreError, match=r"index\.h5: not readable as HDF5"):
            check_seal(path)
        assert any(layout.INDEX in line for line in damaged_files(folder)), place
        caplog.clear()
        store = FeatureStore(folder)
        assert list(store) == expected
        assert store.complete  # The request replaces the damaged index.
        assert "its shards are read instead" in caplog.text
    assert str(path) not in parsed
    assert list(damaged_files(folder)) == []


def test_every_flip_in_a_shard_is_found_and_no_table_of_hdf5_is_read_then(folder, rng, parsed):
    path = folder / layout.shard_name(0)
    arrays = check_seal(path)
    for place in flipped(path, rng, FLIPS):
        parsed.clear()
        assert list(damaged_datasets(folder)), place
        in_array = any(first <= place < first + count for first, count in arrays)
        assert (str(path) in parsed) == in_array
    assert list(damaged_datasets(folder)) == []


@pytest.mark.parametrize("name", [layout.INDEX, "shard-00000.h5"])
@pytest.mark.parametrize("change", [lambda b: b[:-1], lambda b: b + b"\0", lambda b: b[:600], lambda b: b[512:]])
def test_a_file_of_another_length_is_found(folder, name, change):
    path = folder / name
    path.write_bytes(change(path.read_bytes()))
    if path.read_bytes().startswith(b"\x89HDF"):  # Without the user block it looks like a file of an earlier release.
        assert check_seal(path) is None
    else:
        assert any(name in line for line in damaged_files(folder))


def test_a_seal_covers_what_no_other_checksum_does(folder):
    path = folder / layout.shard_name(0)
    with h5py.File(path) as file:
        assert file.userblock_size == SEAL_BYTES
        names = ["hidden_states", *(f"statistics/{name}" for name in ("count", *layout.STATISTICS))]
        extents = sorted((file[name].id.get_offset(), file[name].nbytes) for name in names)
    assert check_seal(path) == extents
    assert check_seal(folder / layout.INDEX) == []
    seal.seal(path, [(extents[0][0] - 8, extents[0][1] + 8), *extents[1:]])  # Eight more bytes are not covered.
    assert check_seal(path) is not None
    assert "some bytes are covered by no checksum" in next(damaged_datasets(folder))


HOSTILE = {
    "no JSON": b"{",
    "deep": b"[" * 400,
    "a list": b"[]",
    "no payload": b'{"bytes": SIZE}',
    "text": b'{"bytes": "x", "payload": []}',
    "negative": b'{"bytes": SIZE, "payload": [[600, -5]], "sha256": ""}',
    "before the file": b'{"bytes": SIZE, "payload": [[-600, 5]], "sha256": ""}',
    "behind the file": b'{"bytes": SIZE, "payload": [[600, 99999999999999999999]], "sha256": ""}',
    "overlapping": b'{"bytes": SIZE, "payload": [[600, 50], [620, 50]], "sha256": ""}',
    "too many": json.dumps({"bytes": 0, "payload": [[600 + i, 1] for i in range(40)]}).encode(),
    "no number": b'{"bytes": SIZE, "payload": [[600, NaN]], "sha256": ""}',
    "infinite": b'{"bytes": SIZE, "payload": [[600, Infinity]], "sha256": ""}',
}


@pytest.mark.parametrize("how", HOSTILE)
def test_a_hostile_seal_is_refused_in_one_line(folder, how):
    path = folder / layout.shard_name(0)
    whole = path.read_bytes()
    text = b"featcache seal 1\n" + HOSTILE[how].replace(b"SIZE", str(len(whole)).encode())
    path.write_bytes(text[:SEAL_BYTES].ljust(SEAL_BYTES, b"\0") + whole[SEAL_BYTES:])
    with pytest.raises(StoreError, match=r"not readable as HDF5 \(.*\); remove it and extract again") as error:
        FeatureStore(folder)["u0"]
    assert "\n" not in str(error.value)


def test_files_of_earlier_releases_are_read_and_named(folder, make_features, caplog):
    expected = {key: np.array(value) for key, value in FeatureStore(folder).items()}
    for path in folder.glob("*.h5"):  # Without a user block, as earlier releases wrote them.
        whole = path.with_suffix(".old")
        with h5py.File(path) as file, h5py.File(whole, "w") as old:
            old.attrs.update(file.attrs)
            if path.name == layout.INDEX:
                old["utterances"] = file["utterances"][()]
                sizes = [(n, (folder / layout.shard_name(n)).stat().st_size) for n in range(2)]
                old["shards"] = np.array(sizes, dtype=layout.SHARD_DTYPE)
            else:
                for name in file:
                    file.copy(name, old)
        whole.replace(path)
    (folder / "request.json").unlink()
    with h5py.File(folder / layout.INDEX, "r+") as file:
        sizes = [(n, (folder / layout.shard_name(n)).stat().st_size) for n in range(2)]
        file["shards"][...] = np.array(sizes, dtype=layout.SHARD_DTYPE)
    assert not any(map(is_sealed, folder.glob("*.h5")))
    with caplog.at_level("INFO"):
        store = FeatureStore(folder)
    assert "has no checksum, as in earlier releases" in caplog.text
    assert store.complete
    assert (store.num_requested, store.num_in_corpus) == (4, None)
    assert {key: value.tolist() for key, value in store.items()} == {k: v.tolist() for k, v in expected.items()}
    assert list(damaged_files(folder)) == []
    assert unchecked_files(folder) == ["shard-00000.h5", "shard-00001.h5", "index.h5"]
