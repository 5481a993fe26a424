"""The training benchmarks with few utterances and without assertions on time: both sides do the same work."""

import numpy as np
import pytest
import torch

import featcache
from featcache.settings.field import non_default
from featcache.settings.training_loop import LoopSettings
from tests.benchmarks import options, training
from tests.benchmarks.synthetic_cache import write_cache
from tests.benchmarks.task import Task

# Float32 sums over padded batches and over concatenated frames differ by rounding only.
TOLERANCE = 1e-5
STORES = {"dense": ["wav2vec2-base"], "lstm": ["wav2vec2-base"], "fusion": ["wav2vec2-base", "egemaps"]}


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return write_cache(tmp_path_factory.mktemp("bench"), 32, num_layers=3, hidden_size=16, num_speakers=4)


def test_the_synthetic_cache_is_one(cache):
    opened = featcache.open(cache)
    store, descriptors = opened["wav2vec2-base"], opened["egemaps"]
    assert (len(opened.manifest), len(store), len(descriptors)) == (32, 32, 32)
    assert store.metadata["storage_dtype"] == "float16"
    frames = store.num_frames(store.utterance_ids)
    assert ((frames >= 150) & (frames <= 220)).all()
    assert (descriptors.num_frames(store.utterance_ids) == 2 * frames + 1).all()
    labels = {(u.speaker_id, u.labels["emotion"]) for u in opened.manifest}
    assert len(labels) == 4 * 8
    means = store.pooled("mean")
    expected = [store[i].mean(axis=1) for i in store.utterance_ids]
    np.testing.assert_allclose(means, expected, atol=1e-3)  # float16 has 11 significant bits
    assert store.mean_and_std(store.utterance_ids)[1].min() > 0.5


@pytest.mark.parametrize("head", STORES)
def test_plain_heads_give_what_ours_give(cache, head):
    task = Task.of(cache, *STORES[head])
    source = task.source("float32")
    ids = task.cache.manifest.utterance_ids[:5]
    source.load(ids)
    [window] = source.windows(ids)
    [one] = task.trainings(head, [1], 1, torch.float32)
    ours = one.head.eval()
    layers, sizes = zip(
        *((len(task.cache[n].layer_names), task.cache[n].hidden_size) for n in task.stores), strict=True
    )
    plain = training.PLAIN[head](layers, sizes, task.num_classes).eval()
    # Our heads have no learned layer weights for stores with a single layer.
    with torch.no_grad():
        state = ours.state_dict()
        for number in range(len(sizes)):
            branch = plain.branch if head == "lstm" else plain.branches[number]
            if f"averages.{number}.scalars" in state:
                branch.weights.copy_(state[f"averages.{number}.scalars"])
            branch.dense[1].load_state_dict(ours.branches[number].linear.state_dict())
        if head == "lstm":
            plain.lstm.load_state_dict(ours.hidden.lstm.state_dict())
        else:
            plain.second[1].load_state_dict(ours.hidden.linear.state_dict())
        plain.output.load_state_dict(ours.output.state_dict())
        items = [([packed.values for packed in window.utterances[i]], 0) for i in ids]
        batch, mask, _ = training.collate(items)
        expected = ours(window.batch(ids, [slice(None)] * len(sizes)))
        torch.testing.assert_close(plain(batch, mask), expected, rtol=0, atol=TOLERANCE)


def test_plain_heads_learn_from_what_was_written(cache, tmp_path, monkeypatch):
    steps = []
    adam_step = torch.optim.Adam.step
    monkeypatch.setattr(torch.optim.Adam, "step", lambda *arguments: steps.append(1) or adam_step(*arguments))
    task = Task.of(cache, "wav2vec2-base")
    assert training.plain_loop(task, "lstm", [1, 2], 2, tmp_path) > 0
    assert len(steps) == 2 * 2 * -(-len(task.fold.train) // 16)


def test_every_case_is_a_row(cache, tmp_path):
    rows = training.compare_heads(cache, "wav2vec2-base", tmp_path, seeds=(1, 2), epochs=1)
    rows += [
        training.loading(cache, "wav2vec2-base"),
        training.roofline(cache, "wav2vec2-base", seeds=(1, 2), epochs=1, copied=2**20, side=64),
    ]
    assert [row.case.split(",")[0] for row in rows] == ["dense", "lstm", "fusion", "reading and normalising", "dense"]
    assert all(row.ours > 0 and row.plain > 0 for row in rows)
    table = training.Measured(rows=rows, num_utterances=32).table()
    assert len(table.rows) == len(rows)
    assert {len(row) for row in table.rows} == {len(table.columns)}


def test_the_roofline_counts_what_each_seed_must_do(cache, monkeypatch):
    monkeypatch.setattr(training, "_bandwidth", lambda size: 1e9)
    monkeypatch.setattr(training, "_product_rate", lambda dtype, side: 1e30)
    task = Task.of(cache, "wav2vec2-base")
    store = task.cache["wav2vec2-base"]
    train, validation = (sum(store[i].size for i in ids) for ids in (task.fold.train, task.fold.validation))
    row = training.roofline(cache, "wav2vec2-base", seeds=(1, 2), epochs=1)
    assert row.plain == pytest.approx(2 * 4 * (2 * train + validation) / 1e9)  # small features are kept as float32
    monkeypatch.setattr(training, "_bandwidth", lambda size: 1e30)
    monkeypatch.setattr(training, "_product_rate", lambda dtype, side: 1e9)
    row = training.roofline(cache, "wav2vec2-base", seeds=(1, 2), epochs=1)
    per_frame = 2 * 3 * 16, 2 * (16 * 128 + 128 * 128)
    expected = (2 * per_frame[0] + 3 * per_frame[1]) * train / 48 + sum(per_frame) * validation / 48
    assert row.plain == pytest.approx(2 * expected / 1e9)


def test_every_option_of_the_training_steps_is_a_row(cache):
    measured = options.compare(cache, seeds=(1,), rounds=1)
    assert measured.plain > 0
    assert list(measured.seconds) == list(options.OPTIONS)
    given = {name for one in options.OPTIONS.values() if isinstance(one, LoopSettings) for name in non_default(one)}
    assert set(LoopSettings.__dataclass_fields__) - given == {"weight_decay", "stop_on", "evaluate_every"}
    table = measured.table()
    assert {len(row) for row in table.rows} == {len(table.columns)}
