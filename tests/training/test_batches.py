"""Windows over features larger than memory: each utterance once, within the memory, the same for all trainings."""

import time
import weakref
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from featcache.cache.reader import FeatureStore
from featcache.heads import create_head
from featcache.heads.packed import pack, packed_bytes
from featcache.normalise import Normaliser
from featcache.protocols import Fold
from featcache.training import batches as windows
from featcache.training.batches import FeatureWindows, num_values
from featcache.training.memory import WorkingCopy
from featcache.training.store_features import StoreFeatures, features_of, steps_of
from featcache.training.together import train_together
from featcache.training.train import Training, TrainingConfig

NUM_LAYERS, SIZE = 2, 4
KEEP = Normaliser(group_of={}, mean_={}, std_={})


@dataclass
class Pretended:
    """Features of utterances with given lengths; the values of each utterance are its number."""

    lengths: list[int]
    layers = (0, 1)
    max_frames = None
    paired: bool = True
    frame_size: int = SIZE
    in_order = StoreFeatures.in_order
    drop_pages = StoreFeatures.drop_pages
    of_stores = StoreFeatures.of_stores
    padded_frames = None
    num_read, real_frames = StoreFeatures.num_read, StoreFeatures.real_frames

    def __post_init__(self):
        ids = tuple(f"u{i}" for i in range(len(self.lengths)))
        self.store = SimpleNamespace(utterance_ids=ids, drop_pages=lambda: None)
        self.being_read = 0

    def num_frames(self, utterance_id):
        return self.lengths[int(utterance_id[1:])]

    def prefetch(self, utterance_ids, num_frames):
        assert list(num_frames) == [self.num_frames(utterance_id) for utterance_id in utterance_ids]

    def of_layers(self, normaliser):
        return normaliser

    def read(self, utterance_id, num_frames, normaliser):
        return torch.full((NUM_LAYERS, num_frames, SIZE), float(utterance_id[1:]))


def source_of(features, room, *, dtype=torch.float32, ids=None):
    copy = WorkingCopy(dtype=dtype, compute=torch.float32, room=room)
    source = FeatureWindows([features], [KEEP], copy, workers=2)
    source.load(features.store.utterance_ids if ids is None else ids)
    return source


def size_of(window):
    return sum(one.values.nbytes for packed in window.utterances.values() for one in packed)


lengths = st.lists(st.integers(1, 20), min_size=1, max_size=60)
ONE_FRAME = NUM_LAYERS * SIZE * 4  # bytes in float32


@given(lengths=lengths, frames=st.integers(2, 400), epoch=st.none() | st.integers(1, 5), data=st.data())
def test_each_utterance_comes_once_and_no_window_takes_more_than_half_the_room(lengths, frames, epoch, data):
    features = Pretended(lengths)
    ids = features.store.utterance_ids
    wanted = data.draw(st.sets(st.sampled_from(ids)))
    room = frames * ONE_FRAME
    seen = []
    for window in source_of(features, room).windows(sorted(wanted), epoch=epoch):
        assert size_of(window) <= room / 2 or len(window.utterances) == 1
        for utterance_id, (packed,) in window.utterances.items():
            assert (packed.values == float(utterance_id[1:])).all()
            assert packed.num_frames == features.num_frames(utterance_id)
        seen += window.utterances
    assert sorted(seen) == sorted(wanted)


@given(lengths=lengths, frames=st.integers(2, 200), epoch=st.none() | st.integers(1, 3), data=st.data())
def test_what_comes_together_depends_on_the_epoch_alone(lengths, frames, epoch, data):
    features = Pretended(lengths)
    ids = features.store.utterance_ids
    source = source_of(features, frames * ONE_FRAME)
    whole = [list(window.utterances) for window in source.windows(ids, epoch=epoch)]
    assert whole == [list(window.utterances) for window in source.windows(ids, epoch=epoch)]
    some = data.draw(st.sets(st.sampled_from(ids)))
    found = [list(window.utterances) for window in source.windows(sorted(some), epoch=epoch)]
    left = [[i for i in window if i in some] for window in whole]
    assert found == [window for window in left if window]


def test_epochs_shuffle_what_comes_together():
    features = Pretended([3] * 100)
    source = source_of(features, 60 * ONE_FRAME)
    ids = features.store.utterance_ids
    first, second = ({frozenset(w.utterances) for w in source.windows(ids, epoch=epoch)} for epoch in (1, 2))
    assert len(first) == len(second) == 10
    assert first != second
    in_order = [i for window in source.windows(ids) for i in window.utterances]
    assert in_order == list(ids)


def test_a_window_may_be_a_single_utterance():
    source = source_of(Pretended([5, 7, 5]), 1.0)
    windows = list(source.windows(["u0", "u1", "u2"], epoch=1))
    assert sorted(list(window.utterances) for window in windows) == [["u0"], ["u1"], ["u2"]]


@pytest.mark.parametrize("room", [None, 40 * ONE_FRAME])
def test_utterances_that_take_no_part_are_not_read(room, monkeypatch):
    features, read = Pretended([3] * 20), set()
    unwatched = features.read
    monkeypatch.setattr(features, "read", lambda i, *rest: read.add(i) or unwatched(i, *rest))
    ids = features.store.utterance_ids[5:15]
    source = source_of(features, room, ids=ids)
    assert sum(len(window.utterances) for window in source.windows(ids, epoch=1)) == 10
    assert read == set(ids)


def test_a_window_goes_before_the_next_but_one_is_read(monkeypatch):
    source = source_of(Pretended([3] * 60), 24 * ONE_FRAME)
    made, left, read = [], [], source._read

    def held():
        return sum(reference() is not None for reference in made)

    def watched(ids):
        end = time.monotonic() + 60
        while held() > 1 and time.monotonic() < end:  # until the trainings have received the next window
            time.sleep(0.001)
        left.append(held())
        window = read(ids)
        made.append(weakref.ref(window))
        return window

    monkeypatch.setattr(source, "_read", watched)
    for window in source.windows(IDS, epoch=1):
        assert window.utterances
    assert len(left) > 5
    assert max(left) == 1


@pytest.mark.parametrize("room", [None, 200 * ONE_FRAME])
def test_files_are_let_go_of_while_reading(room, monkeypatch):
    monkeypatch.setattr(windows, "READ_AT_ONCE", 20 * ONE_FRAME)
    features = Pretended([3] * 60)
    frames, most, read = [], [], features.read
    monkeypatch.setattr(features, "read", lambda i, number, given: frames.append(number) or read(i, number, given))
    features.store.drop_pages = lambda: (most.append(sum(frames)), frames.clear())
    list(source_of(features, room).windows(features.store.utterance_ids))
    assert sum(most) == 180
    assert max(most) == 18
    assert not frames


def test_sizes_count_every_store_and_the_frames_in_use():
    one, other = Pretended([5, 9]), Pretended([6, 7], frame_size=1)
    assert steps_of([one, other]) == NUM_LAYERS * (SIZE + 1)
    assert num_values([one, other], ["u0", "u1"]) == (5 + 7) * NUM_LAYERS * (SIZE + 1)
    one.paired = other.paired = False
    assert num_values([one, other], ["u0", "u1"]) == NUM_LAYERS * ((5 + 9) * SIZE + (6 + 7))


KINDS = {"ssl": 2, "egemaps": 1, "text": 3, "functionals": 1}


@pytest.fixture
def unpaired(tmp_path, write_store, rng):
    """Return the features of four stores whose frames do not pair, and the frames that were written."""
    written = {
        kind: {
            f"u{i}": rng.normal(size=(layers, 1 if kind == "functionals" else int(n), size)).astype("f4")
            for i, n in enumerate(rng.integers(1, 9, 40))
        }
        for size, (kind, layers) in enumerate(KINDS.items(), start=2)
    }
    for kind, frames in written.items():
        write_store(tmp_path / kind, frames, kind=kind)
    stores = [FeatureStore(tmp_path / kind) for kind in KINDS]
    return features_of(stores, layers="all", max_frames=4, pooling=None), written


def packed_size(window):
    """Return the size of all loaded features in bytes."""
    every = [one for packed in window.utterances.values() for one in packed]
    return sum(one.values.nbytes + (0 if one.step is None else one.step.nbytes) for one in every)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.int8])
def test_stores_that_do_not_pair_keep_their_own_frames_and_are_counted_to_the_byte(unpaired, dtype, monkeypatch):
    features, written = unpaired
    ids = features[0].store.utterance_ids
    most = {"ssl": 4, "egemaps": 8, "text": 100, "functionals": 1}  # number of frames in 0.08 s
    expected_ahead = {kind: [min(most[kind], written[kind][i].shape[1]) for i in ids] for kind in KINDS}
    ahead = {kind: [] for kind in KINDS}
    for kind, one in zip(KINDS, features, strict=True):
        prefetch = one.prefetch

        def prefetched(i, n, kind=kind, prefetch=prefetch):
            ahead[kind].extend(n)
            prefetch(i, n)

        monkeypatch.setattr(one, "prefetch", prefetched)
    planned = packed_bytes(dtype, num_values(features, ids), len(ids) * steps_of(features))
    for room in (None, planned / 2):
        copy = WorkingCopy(dtype=dtype, compute=torch.float32, room=room)
        source = FeatureWindows(features, [KEEP] * 4, copy, workers=2)
        source.load(ids)
        windows = list(source.windows(ids))
        assert ahead == expected_ahead
        assert sum(map(packed_size, windows)) == planned
        assert all(packed_size(window) <= (room or np.inf) / 2 for window in windows)
        assert (len(windows) > 1) == (room is not None)
        for window in windows:
            for utterance_id, packed in window.utterances.items():
                for one, kind in zip(packed, KINDS, strict=True):
                    frames = torch.from_numpy(written[kind][utterance_id][:, : most[kind]])
                    assert torch.equal(one.unpack(), pack(frames, dtype).unpack())
        ahead.update({kind: [] for kind in KINDS})


@pytest.mark.parametrize("head", ["ffn", "fusion"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.int8])
def test_unpaired_stores_train_together_in_windows_as_alone(unpaired, head, dtype):
    features, _ = unpaired
    ids = features[0].store.utterance_ids
    fold = Fold(name="1", train=ids[:20], validation=ids[20:30], test=ids[30:])
    targets = {utterance_id: i % 2 for i, utterance_id in enumerate(ids)}
    sizes = {"num_layers": list(KINDS.values()), "hidden_sizes": [2, 3, 4, 5], "num_outputs": 2}
    config = TrainingConfig(max_epochs=3, batch_size=4, learning_rate=0.02)

    def train(*seeds):
        copy = WorkingCopy(dtype=dtype, compute=torch.float32, room=num_values(features, ids) * dtype.itemsize / 2)
        source = FeatureWindows(features, [KEEP] * 4, copy, workers=2)
        source.load(ids)
        heads = {seed: create_head(head, **sizes, paired=False, seed=seed) for seed in seeds}
        trainings = [Training(one, seed, fold, targets, config) for seed, one in heads.items()]
        assert len(list(train_together(trainings, source, workers=2))) == len(seeds)
        return {training.seed: training for training in trainings}

    together = train(1, 2)
    for seed in (1, 2):
        alone = train(seed)[seed]
        assert together[seed].predictions == alone.predictions
        assert together[seed].history == alone.history
        weights = alone.head.state_dict()
        assert all(torch.equal(values, weights[name]) for name, values in together[seed].head.state_dict().items())


# Training in windows


IDS = [f"u{i}" for i in range(60)]
TARGETS = {utterance_id: i % 2 for i, utterance_id in enumerate(IDS)}
FOLDS = [
    Fold(name="1", train=tuple(IDS[:30]), validation=tuple(IDS[30:40]), test=tuple(IDS[40:])),
    Fold(name="2", train=tuple(IDS[25:55]), validation=tuple(IDS[:10]), test=tuple(IDS[10:20])),
]


@pytest.fixture
def features(tmp_path, write_store, rng):
    lengths = rng.integers(2, 9, len(IDS))
    frames = {
        i: (rng.normal(size=(NUM_LAYERS, n, SIZE)) + 1.5 * TARGETS[i]).astype("f4")
        for i, n in zip(IDS, lengths, strict=True)
    }
    write_store(tmp_path / "store", frames)
    return StoreFeatures(FeatureStore(tmp_path / "store"), layers="all", max_frames=None)


def trained(source, pairs, config, *, workers=2, head="dense", compute=torch.float32):
    """Return (seed, fold) → finished training."""
    sizes = {"num_layers": [NUM_LAYERS], "hidden_sizes": [SIZE], "num_outputs": 2}
    trainings = {
        pair: Training(create_head(head, **sizes, seed=pair[0]), pair[0], FOLDS[pair[1]], TARGETS, config)
        for pair in pairs
    }
    ended = list(train_together(list(trainings.values()), source, workers=workers))
    assert len(ended) == len(trainings)
    return trainings


ROOM = 120 * ONE_FRAME
PAIRS = [(1, 0), (2, 0), (1, 1), (3, 1)]


@pytest.mark.parametrize("head", ["dense", "lstm"])
def test_in_windows_too_training_together_is_training_alone(features, head):
    source = source_of(features, ROOM)
    assert len(list(source.windows(IDS))) > 4
    # Folds of different sizes, and trainings that stop at different epochs.
    config = TrainingConfig(max_epochs=10, patience=2, batch_size=4, learning_rate=0.02)
    together = trained(source, PAIRS, config, head=head)
    assert len({len(training.history) for training in together.values()}) > 1
    for pair in PAIRS:
        alone = trained(source_of(features, ROOM), [pair], config, workers=1, head=head)[pair]
        assert together[pair].history == alone.history
        assert together[pair].predictions == alone.predictions
        weights = alone.head.state_dict()
        assert all(torch.equal(values, weights[name]) for name, values in together[pair].head.state_dict().items())


def test_in_windows_each_epoch_learns_from_each_utterance_of_its_part_once(features, monkeypatch):
    learned, outputs = [], Training._outputs

    def watched(training, window, ids):
        learned.append((len(training.history), training.head.training, tuple(ids)))
        return outputs(training, window, ids)

    monkeypatch.setattr(Training, "_outputs", watched)
    config = TrainingConfig(max_epochs=3, patience=3, batch_size=4)
    [training] = trained(source_of(features, ROOM), [(1, 0)], config, workers=1).values()
    for epoch in range(3):
        for learning, part in ((True, FOLDS[0].train), (False, FOLDS[0].validation)):
            ids = [i for number, was, batch in learned if (number, was) == (epoch, learning) for i in batch]
            assert sorted(ids) == sorted(part)
    assert sorted(training.predictions) == sorted(FOLDS[0].validation + FOLDS[0].test)
    assert not {i for _, learning, batch in learned if learning for i in batch} & set(FOLDS[0].test)


# Batches contain other utterances, so the weights differ; well separated classes are still predicted alike.
AGREEMENT = 0.95


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int8])
def test_windows_predict_much_as_all_at_once(features, dtype):
    config = TrainingConfig(max_epochs=15, patience=15, batch_size=4, learning_rate=0.01)
    whole, windows = (trained(source_of(features, room, dtype=dtype), [(1, 0)], config)[1, 0] for room in (None, ROOM))
    found, expected = ([np.argmax(one.predictions[i]) for i in FOLDS[0].test] for one in (windows, whole))
    assert np.mean([prediction == TARGETS[i] for prediction, i in zip(expected, FOLDS[0].test, strict=True)]) > 0.9
    assert np.mean(np.equal(found, expected)) >= AGREEMENT


def test_what_a_window_holds_is_what_was_written(features):
    for dtype in (torch.float16, torch.int8):
        for window in source_of(features, ROOM, dtype=dtype).windows(IDS, epoch=1):
            for utterance_id, (packed,) in window.utterances.items():
                expected = pack(torch.from_numpy(features.store[utterance_id]), dtype)
                assert torch.equal(packed.values, expected.values)
