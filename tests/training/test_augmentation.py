"""Samplers, mixup, masks, noise and crops agree with slow plain versions, alone and together."""

from collections import Counter
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from featcache.heads.packed import Change, Packed, pack
from featcache.settings.training_loop import LoopSettings, read_masks, read_warmup
from featcache.targets.losses import CLASSIFICATION, REGRESSION
from featcache.training.augmentation import FeatureAugmentation
from featcache.training.mixup import Mixture, Mixup
from featcache.training.sampling import Balanced
from featcache.training.together import train_together
from featcache.training.train import Training, TrainingConfig
from tests.training.plain_loop import FOLD, HEADS, TARGETS, VALUES, InMemory, make_features, make_head, same_weights

CONFIG = TrainingConfig(max_epochs=2, batch_size=4, learning_rate=0.01)
# Sums in another order.
ROUNDING = 1e-6
EACH = [
    {"mixup": 0.4},
    {"mask_time": "2x3"},
    {"mask_dims": "1x2"},
    {"feature_noise": 0.5},
    {"crop": 2},
    {"sampler": "balanced"},
]
ALL = {name: value for one in EACH for name, value in one.items()}


def trainings(seeds, name="dense", stores=1, objective=CLASSIFICATION, **options):
    targets = TARGETS if objective is CLASSIFICATION else VALUES
    loop = LoopSettings(**options)
    outputs = {} if objective is CLASSIFICATION else {"num_outputs": 2}
    return [
        Training(
            make_head(name, stores, seed=seed, **outputs), seed, FOLD, targets, CONFIG, loop=loop, objective=objective
        )
        for seed in seeds
    ]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.int8])
@pytest.mark.parametrize(("name", "stores"), HEADS)
def test_trainings_with_every_option_are_the_same_alone_and_together(name, stores, dtype):
    source = InMemory(make_features(stores), dtype)
    together = trainings((1, 2, 3), name, stores, **ALL)
    list(train_together(together, source, workers=2))
    for training in together:
        [alone] = trainings((training.seed,), name, stores, **ALL)
        list(train_together([alone], source, workers=1))
        assert alone.history == training.history
        assert same_weights(alone.head, training.head.state_dict())


@pytest.mark.parametrize("option", EACH, ids=str)
def test_an_option_changes_the_training_and_only_its_own_draws(option):
    source = InMemory(make_features())
    plain, changed = trainings((1,)) + trainings((1,), **option)
    for training in (plain, changed):
        list(train_together([training], source, workers=1))
    assert changed.history != plain.history
    assert plain._order._generator.bit_generator.state == changed._order._generator.bit_generator.state or (
        "sampler" in option
    )
    assert torch.equal(plain.head.generator.get_state(), changed.head.generator.get_state())
    if "sampler" not in option:
        [other] = trainings((1,), objective=REGRESSION, **option)
        list(train_together([other], source, workers=1))
        assert np.isfinite(other.history[-1].train_loss)


@pytest.mark.parametrize("text", ["0x10", "2x0", "0x0", "none"])
def test_masks_of_no_strength_are_no_masks(text):
    assert read_masks(text) is None
    assert read_masks("2×10") == read_masks(" 2 x 10 ") == "2x10"
    source = InMemory(make_features())
    plain, cropped = trainings((1,)) + trainings((1,), crop=1000)
    for training in (plain, cropped):
        list(train_together([training], source, workers=1))
    assert plain.history == cropped.history


@pytest.mark.parametrize("faulty", ["", "2", "x", "-1x2", "2x-1", "1.5x2", "101x1", 2, None, True])
def test_other_masks_are_refused(faulty):
    with pytest.raises(ValueError, match="expected COUNTxWIDTH"):
        read_masks(faulty)


@pytest.mark.parametrize("faulty", ["", "x", -1, 1.5, "nan", "inf", True, None])
def test_other_warmups_are_refused(faulty):
    with pytest.raises(ValueError, match="expected a number of steps"):
        read_warmup(faulty)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.int8])
def test_a_change_of_the_average_is_the_same_change_of_every_layer(dtype):
    generator = torch.Generator().manual_seed(0)
    head = make_head(seed=3).eval()
    with torch.no_grad():
        head.averages[0].scalars.copy_(torch.tensor([0.5, -1.0, 2.0]))
    items = [pack(torch.randn(3, n, 4, generator=generator), dtype) for n in (5, 8)]
    changes = [
        Change(frames=(slice(1, 3),), dims=(slice(0, 1),)),
        Change(noise=torch.randn(8, 4, generator=generator), noise_std=0.3, frames=(slice(0, 0), slice(6, 8))),
    ]

    def gradients(features):
        head.zero_grad()
        outputs = head([features])
        outputs.square().sum().backward()
        return [outputs.detach(), *(one.grad.clone() for one in head.parameters())]

    changed = [replace(item, change=change) for item, change in zip(items, changes, strict=True)]
    plain = []
    for item, change in zip(items, changes, strict=True):
        layers = item.unpack().clone()
        if change.noise is not None:
            layers += change.noise_std * change.noise
        for frames in change.frames:
            layers[:, frames] = 0
        for dims in change.dims:
            layers[:, :, dims] = 0
        plain.append(layers)
    for one, other in zip(gradients(changed), gradients(plain), strict=True):
        torch.testing.assert_close(one, other, rtol=ROUNDING, atol=ROUNDING)
    for item, layers in zip(changed, plain, strict=True):  # heads that learn no layer weights
        torch.testing.assert_close(item.copy(), layers, rtol=ROUNDING, atol=ROUNDING)
    assert all(torch.equal(one.values, item.values) for one, item in zip(changed, items, strict=True))


def batch_of(lengths, sizes=(6,), ratios=(1,)):
    """Return features whose values are the number of the frame, from 1 on."""
    return [
        [Packed(values=torch.arange(1.0, n * ratio + 1)[None, :, None].repeat(2, 1, size)) for n in lengths]
        for size, ratio in zip(sizes, ratios, strict=True)
    ]


@given(crop=st.integers(1, 12), width=st.integers(1, 12), seed=st.integers(0, 99))
def test_stores_are_cut_and_masked_at_the_same_times(crop, width, seed):
    loop = LoopSettings(crop=crop, mask_time=f"2x{width}", mask_dims="1x3")
    lengths = [1, 7, 30]
    paired = FeatureAugmentation(seed, loop, [0.02, 0.02]).applied(batch_of(lengths, (6, 5), (1, 1)))
    for length, one, other in zip(lengths, *paired, strict=True):
        assert one.num_frames == other.num_frames == min(length, crop)
        assert torch.equal(one.values[0, :, 0], other.values[0, :, 0])
        assert one.change.frames == other.change.frames
        assert len(one.change.dims) == 1
        assert one.change.dims[0].stop - one.change.dims[0].start <= 3
    faster = FeatureAugmentation(seed, loop, [0.02, 0.01, float("nan")])
    slow, fast, tokens = faster.applied(batch_of(lengths, (6, 5, 4), (1, 2, 1)))
    for length, one, other, still in zip(lengths, slow, fast, tokens, strict=True):
        assert other.values[0, :, 0].tolist() == [v for n in one.values[0, :, 0].tolist() for v in (2 * n - 1, 2 * n)]
        assert [(2 * s.start, 2 * s.stop) for s in one.change.frames if s.start < s.stop] == [
            (s.start, s.stop) for s in other.change.frames if s.start < s.stop
        ]
        assert still.num_frames == length
        assert not still.change.frames


def test_widths_and_places_are_uniform():
    augmentation = FeatureAugmentation(1, LoopSettings(mask_time="2x3", crop=5), [0.02])
    widths, firsts, places = Counter(), Counter(), Counter()
    for _ in range(200):
        for item in augmentation.applied(batch_of([8] * 10))[0]:
            widths.update(s.stop - s.start for s in item.change.frames)
            places.update(s.start for s in item.change.frames if s.stop - s.start == 1)
            firsts[int(item.values[0, 0, 0]) - 1] += 1
    assert sorted(widths) == [0, 1, 2, 3]
    assert sorted(firsts) == [0, 1, 2, 3]
    assert sorted(places) == [0, 1, 2, 3, 4]
    # Six standard deviations of a binomial distribution.
    for counts in (widths, firsts, places):
        number, share = sum(counts.values()), 1 / len(counts)
        assert all(abs(one - number * share) < 6 * np.sqrt(number * share) for one in counts.values())


def test_noise_has_its_standard_deviation_and_is_new_in_every_batch():
    augmentation = FeatureAugmentation(1, LoopSettings(feature_noise=0.5), [0.02])
    [first], [second] = (augmentation.applied(batch_of([400, 400], (64,))) for _ in range(2))
    noises = [item.copy()[0] - item.values[0] for item in (*first, *second)]
    for noise in noises:
        assert abs(float(noise.mean())) < 0.02
        assert float(noise.std()) == pytest.approx(0.5, rel=0.02)
    correlations = np.corrcoef([noise.flatten().numpy() for noise in noises])
    assert np.abs(correlations - np.eye(4)).max() < 0.05  # eight standard deviations for 25 600 values


@pytest.mark.parametrize("part", ["validation", "test"])
def test_only_training_batches_are_changed(part):
    source, seen = InMemory(make_features()), []
    [training] = trainings((1,), **ALL)
    applied = training._augmentation.applied
    training._augmentation.applied = lambda batch: seen.append(training.head.training) or applied(batch)
    list(train_together([training], source, workers=1))
    assert seen
    assert all(seen)
    ids = getattr(FOLD, part)
    with torch.no_grad():
        expected = training.head.eval()([[source.window.utterances[i][0] for i in ids]]).softmax(1)
    found = torch.tensor([training.predictions[i] for i in ids])
    torch.testing.assert_close(found, expected, rtol=ROUNDING, atol=ROUNDING)


@given(
    sizes=st.lists(st.integers(1, 12), min_size=2, max_size=4),
    cuts=st.lists(st.integers(0, 40), max_size=3),
    seed=st.integers(0, 9),
)
def test_each_class_is_drawn_equally_often_also_from_windows(sizes, cuts, seed):
    targets = {f"{number}-{i}": number for number, size in enumerate(sizes) for i in range(size)}
    ids = [list(targets)[i] for i in np.random.default_rng(seed).permutation(len(targets))]
    sampler = Balanced(seed, ids, targets)
    bounds = [0, *sorted(min(cut, len(ids)) for cut in cuts), len(ids)]
    for _ in range(2):
        drawn = [i for first, last in pairwise(bounds) for i in sampler.order(ids[first:last])]
        assert len(drawn) == sampler.per_epoch
        per_class = Counter(targets[i] for i in drawn)
        assert set(per_class.values()) == {max(1, round(len(ids) / len(sizes)))}
    if not cuts:
        repeated = Counter(drawn)
        for number, size in enumerate(sizes):
            times = [repeated[f"{number}-{i}"] for i in range(size)]
            assert max(times) - min(times) <= 1


def test_a_mixture_has_the_loss_of_mixed_targets():
    generator = torch.Generator().manual_seed(0)
    mixture = Mixture(share=0.3, partners=torch.tensor([2, 0, 1]))
    outputs, classes = torch.randn(3, 4, generator=generator), torch.tensor([1, 3, 0])
    one_hot = torch.nn.functional.one_hot(classes, 4).float()
    expected = torch.nn.functional.cross_entropy(outputs, mixture.mixed(one_hot))
    torch.testing.assert_close(mixture.loss(CLASSIFICATION.loss, outputs, classes), expected)
    values = torch.rand(3, 4, generator=generator)
    mixed = torch.stack([0.3 * values[i] + 0.7 * values[j] for i, j in enumerate([2, 0, 1])])
    assert torch.equal(mixture.mixed(values), mixed)
    assert mixture.loss(REGRESSION.loss, outputs, values) == REGRESSION.loss(outputs, mixed)


def test_shares_have_a_beta_distribution_and_partners_are_a_permutation():
    mixup = Mixup(1, 0.2)
    drawn = [mixup.draw(5, "cpu") for _ in range(2000)]
    assert all(sorted(one.partners.tolist()) == [0, 1, 2, 3, 4] for one in drawn)
    shares = np.array([one.share for one in drawn])
    # Mean 1/2 and variance 1 / (4 (2 alpha + 1)) of Beta(alpha, alpha).
    assert shares.mean() == pytest.approx(0.5, abs=0.06)
    assert shares.var() == pytest.approx(1 / (4 * 1.4), rel=0.05)


def test_mixup_uses_the_pooled_vectors_and_half_of_each_with_equal_shares(monkeypatch):
    [training] = trainings((1,), mixup=1.0)
    monkeypatch.setattr(training._mixup, "draw", lambda batch, device: Mixture(share=1.0, partners=torch.arange(batch)))
    [plain] = trainings((1,))
    for one in (training, plain):
        list(train_together([one], InMemory(make_features()), workers=1))
    assert training.history == plain.history
