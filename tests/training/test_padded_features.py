"""Features with padding in memory: all frames of the store, of which heads use the first ones."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from featcache.cache.kept_padding import Padding
from featcache.cache.reader import FeatureStore
from featcache.cache.statistics import of_frames
from featcache.cache.writer import Record, StoreWriter
from featcache.errors import StoreError
from featcache.features import Description
from featcache.heads.packed import pack
from featcache.normalise import Normaliser
from featcache.training.batches import FeatureWindows, num_values
from featcache.training.memory import DTYPES, WorkingCopy
from featcache.training.store_features import StoreFeatures, features_of, steps_of

PADDED = 12
LENGTHS = {"a": 5, "b": PADDED, "c": 1}
KEEP = Normaliser(group_of={}, mean_={}, std_={})


@pytest.fixture
def whole(rng):
    """Return utterance id → (num_layers, PADDED, hidden_size) features with padding."""
    return {key: rng.normal(size=(3, PADDED, 4)).astype(np.float32) for key in LENGTHS}


@pytest.fixture
def open_store(tmp_path, whole):
    def open_store(name="store", padded=PADDED):
        description = Description(
            dataset="hidden_states",
            layer_names=("0", "1", "2"),
            hidden_size=4,
            frame_shift=0.02,
            sampling_rate=16000,
            channel="mean",
            settings={"extractor": "ssl"},
            provenance={"num_blocks": 2},
            padded_frames=padded,
        )
        writer = StoreWriter(tmp_path / name, description, "float32")
        records = [
            Record(
                utterance_id=key,
                features=features[:, : LENGTHS[key]],
                statistics=of_frames(features[:, : LENGTHS[key]]),
                duration=1.0,
                audio_sha256="",
                start=None,
                end=None,
                padding=None if padded is None else Padding(features=features[:, LENGTHS[key] :]),
            )
            for key, features in whole.items()
        ]
        writer.write_shard(records)
        writer.finish(list(whole), failed=[])
        return FeatureStore(tmp_path / name)

    return open_store


def loaded(features, dtype, *, room=None):
    copy = WorkingCopy(dtype=dtype, compute=torch.float32, room=room)
    windows = FeatureWindows(features, [KEEP] * len(features), copy, workers=1)
    windows.load(list(LENGTHS))
    return [window.utterances for window in windows.windows(list(LENGTHS))]


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=str)
@pytest.mark.parametrize("max_frames", [None, 3])
def test_packed_utterances_have_all_frames_and_know_the_real_ones(open_store, whole, dtype, max_frames):
    features = StoreFeatures(open_store(), layers="1-2", max_frames=max_frames, with_padding=True)
    (utterances,) = loaded([features], dtype)
    for key, (packed,) in utterances.items():
        expected = torch.from_numpy(whole[key][1:])
        assert torch.equal(packed.unpack(), pack(expected, dtype).unpack())
        assert packed.num_frames == PADDED
        assert packed.real_frames == min(LENGTHS[key], max_frames or PADDED)
        for same in (packed.to("cpu"), packed.layers(slice(1, 2)), replace(packed, values=packed.values)):
            assert same.real_frames == packed.real_frames
        assert torch.equal(packed.layers(slice(1, 2)).unpack(), pack(expected[1:], dtype).unpack())


def test_windows_count_the_padding_as_memory(open_store):
    store = open_store()
    plain = StoreFeatures(store, layers="all", max_frames=None)
    padded = StoreFeatures(store, layers="all", max_frames=None, with_padding=True)
    size = 3 * 4
    assert steps_of([padded]) == size
    assert num_values([plain], list(LENGTHS)) == size * sum(LENGTHS.values())
    assert num_values([padded], list(LENGTHS)) == size * PADDED * len(LENGTHS)
    # Half of the room is for a window that is read ahead; the other half holds one utterance with padding.
    assert [list(window) for window in loaded([padded], torch.float32, room=2 * 4 * size * PADDED)] == [
        [*"a"],
        [*"b"],
        [*"c"],
    ]


def test_without_padding_nothing_is_packed_about_it(open_store, whole):
    for store in (open_store(), open_store("plain", None)):
        (utterances,) = loaded(features_of([store], layers="all", max_frames=None, pooling=None), torch.float32)
        for key, (packed,) in utterances.items():
            assert packed.real_frames is None
            assert torch.equal(packed.values, torch.from_numpy(whole[key][:, : LENGTHS[key]]))


@pytest.mark.parametrize("paired", [True, False])
def test_of_several_stores_only_those_with_padding_are_read_with_it(open_store, paired):
    stores = [open_store(), open_store("plain", None)]
    features = features_of(stores, layers="all", max_frames=4, pooling=None, paired=paired, with_padding=True)
    assert [one.padded_frames for one in features] == [PADDED, None]
    (utterances,) = loaded(features, torch.float32)
    found = {key: [(one.num_frames, one.real_frames) for one in packed] for key, packed in utterances.items()}
    assert found == {"a": [(12, 4), (4, None)], "b": [(12, 4), (4, None)], "c": [(12, 1), (1, None)]}


def test_padding_that_was_not_kept_is_missed_in_one_line(open_store):
    with pytest.raises(StoreError, match="plain contains no padding; extract with --keep-padding into a store of anot"):
        StoreFeatures(open_store("plain", None), layers="all", max_frames=None, with_padding=True)
