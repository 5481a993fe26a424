"""Padding in shards: read back as it was written, and refused in one line if it was manipulated."""

from dataclasses import replace

import h5py
import numpy as np
import pytest

from featcache.cache import layout
from featcache.cache.kept_padding import Padding, quantised_padding
from featcache.cache.quantise import restore
from featcache.cache.reader import FeatureStore
from featcache.cache.writer import StoreWriter
from featcache.errors import StoreError
from featcache.extraction.verify import check_all_finite, damaged_files
from tests.cache.tampering import attribute, linked, replaced

PADDED = 9


@pytest.fixture
def whole(make_features):
    """Return all frames of three utterances, the last of which has no padding."""
    return make_features(PADDED, PADDED, PADDED)


@pytest.fixture
def store_of(tmp_path, describe, record):
    """Return a function that writes a store of the first frames of each utterance, and of its padding."""

    def write(whole, lengths=(5, 2, PADDED), dtype="float16"):
        writer = StoreWriter(tmp_path / "store", replace(describe(), padded_frames=PADDED), dtype)
        records = []
        for (key, features), length in zip(whole.items(), lengths, strict=True):
            rest = features[:, length:]
            padding = quantised_padding(rest) if dtype == "int8" else Padding(features=rest.astype(dtype))
            records.append(replace(record(key, features[:, :length], dtype), padding=padding))
        writer.write_shard(records)
        writer.finish(list(whole), failed=[])
        return FeatureStore(tmp_path / "store")

    return write


@pytest.mark.parametrize("dtype", layout.STORAGE_DTYPES)
@pytest.mark.parametrize("lengths", [(5, 2, PADDED), (PADDED, PADDED, PADDED), (1, 1, 1)])
def test_padding_follows_the_frames(store_of, whole, lengths, dtype):
    store = store_of(whole, lengths, dtype)
    assert list(damaged_files(store.path)) == []
    check_all_finite(store)
    for (key, features), length in zip(whole.items(), lengths, strict=True):
        found = store.view(key, with_padding=True)
        real, rest = features[:, :length], features[:, length:]
        np.testing.assert_array_equal(found[:, :length], store.view(key))
        if dtype == "int8":
            padding = quantised_padding(rest)
            rest = restore(padding.features, padding.mean, padding.step)
        np.testing.assert_array_equal(found[:, length:], rest.astype(found.dtype))
        np.testing.assert_allclose(store.pooled("mean", [key])[0], real.mean(axis=1), rtol=1e-5, atol=1e-6)
        for layers in ([1], [2, 0], slice(1, 3)):
            for frames in (slice(None), slice(4), slice(3, 8), slice(8, None)):
                part = store.view(key, layers, frames, with_padding=True)
                np.testing.assert_array_equal(part, found[layers][:, frames])


def test_utterances_of_one_store_all_have_padding_or_none_has(tmp_path, describe, record, whole):
    writer = StoreWriter(tmp_path / "store", replace(describe(), padded_frames=PADDED), "float16")
    with pytest.raises(ValueError, match="0 of 1 utterances have padding"):
        writer.write_shard([record("u0", whole["u0"])])
    plain = StoreWriter(tmp_path / "plain", describe(), "float16")
    with pytest.raises(ValueError, match="1 of 1 utterances have padding"):
        plain.write_shard([replace(record("u0", whole["u0"]), padding=Padding(features=whole["u0"]))])


def test_values_that_are_not_finite_are_found_in_the_padding(store_of, whole):
    whole["u1"][2, -1, 0] = np.inf
    with pytest.raises(StoreError, match=r"the features of 1 utterance \('u1'\) are NaN or infinite in the layers 2;"):
        check_all_finite(store_of(whole))


TOTAL = 4 + 7  # frames of padding
TAMPERED = {
    "no padding": (lambda file, _: file.pop("padding"), "has no dataset /padding/hidden_states"),
    "a dataset instead": (replaced("padding", np.zeros(3)), "has no dataset /padding/hidden_states"),
    "elsewhere": (
        linked("padding/hidden_states", lambda o: h5py.ExternalLink(str(o / "outside.h5"), "/hidden_states")),
        "has no dataset /padding/hidden_states",
    ),
    "fewer": (replaced("padding/hidden_states", np.zeros((3, TOTAL - 1, 4), "f2")), "/padding contradicts its utter"),
    "layers": (replaced("padding/hidden_states", np.zeros((2, TOTAL, 4), "f2")), "/padding contradicts its utterances"),
    "axes": (replaced("padding/hidden_states", np.zeros(3 * TOTAL * 4, "f2")), "/padding contradicts its utterances"),
    "dtype": (replaced("padding/hidden_states", np.zeros((3, TOTAL, 4))), "/padding/hidden_states is not a dataset of"),
    "never written": (replaced("padding/hidden_states", shape=(3, 10**15, 4), dtype="f2"), "is not contiguous"),
    "more frames": (attribute("padded_frames", PADDED + 1), "/padding contradicts its utterances"),
    "less than the utterance": (attribute("padded_frames", PADDED - 1), "its padded_frames is 8"),
    "no frames": (attribute("padded_frames", 0), "its padded_frames is 0"),
    "too many frames": (attribute("padded_frames", 2**63 - 1), "its padded_frames is 9223372036854775807"),
    "beyond 64 bits": (attribute("padded_frames", np.uint64(2**64 - 1)), "its padded_frames is 18446744073709551615"),
    "text": (attribute("padded_frames", "9"), "padded_frames"),
}


@pytest.mark.parametrize("how", TAMPERED)
def test_padding_that_was_tampered_with_is_refused(store_of, whole, outside, tampering, how):
    folder = store_of(whole).path
    tamper, message = TAMPERED[how]
    with tampering(folder / "shard-00000.h5") as file:
        tamper(file, outside)
    for read in (lambda: FeatureStore(folder)["u0"], lambda: (folder / layout.INDEX).unlink() or FeatureStore(folder)):
        with pytest.raises(StoreError, match=message) as error:
            read()
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["mean", "step"])
def test_the_scale_of_int8_padding_belongs_to_its_utterances(store_of, whole, outside, tampering, name):
    folder = store_of(whole, dtype="int8").path
    with tampering(folder / "shard-00000.h5") as file:
        replaced(f"padding/{name}", np.zeros((2, 3, 4), "float32"))(file, outside)
    with pytest.raises(StoreError, match="/padding contradicts its utterances"):
        FeatureStore(folder)["u0"]


def test_an_index_does_not_promise_padding_that_a_shard_lacks(store_of, whole, tampering):
    folder = store_of(whole).path
    with tampering(folder / "shard-00000.h5") as file:
        del file.attrs["padded_frames"]
    store = FeatureStore(folder)
    with pytest.raises(StoreError, match="contains no padding; extract with --keep-padding"):
        store.view("u0", with_padding=True)
