"""Every value that a head is trained on agrees with plain loops over the stored features."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from featcache.cache.reader import FeatureStore
from featcache.errors import ModelError
from featcache.manifest import Manifest, Utterance
from featcache.normalise import SCOPES, Normaliser, fit_normaliser
from featcache.training.store_features import StoreFeatures, average_frames, features_of, frames_in_use, values_in_use

# Tolerance of float32 z-scores and statistics, compared with float64.
Z_SCORES = 1e-5

LENGTHS = {"a1": 5, "a2": 8, "b1": 3, "b2": 6}
TRAIN = ("a1", "b2")


@pytest.fixture
def manifest():
    return Manifest([Utterance(utterance_id=i, path=f"{i}.wav", speaker_id=i[0]) for i in LENGTHS])


@pytest.fixture
def frames(rng):
    """Return utterance id → (num_layers, num_frames, hidden_size) features, with different sizes."""
    return {i: (rng.normal(size=(3, n, 4)) * [1, 5, 0.2, 1] + [0, 3, -9, 1]).astype("f4") for i, n in LENGTHS.items()}


@pytest.fixture
def open_features(tmp_path, write_store):
    def open_store(frames, *, layers="all", max_frames=None, name="store", **options):
        write_store(tmp_path / name, frames, **options)
        return StoreFeatures(FeatureStore(tmp_path / name), layers=layers, max_frames=max_frames)

    return open_store


def read(features, utterance_id, manifest, scope="none"):
    """Read an utterance as a training does."""
    normaliser = features.of_layers(fit_normaliser(features.store, scope, manifest, TRAIN))
    return features.read(utterance_id, *frames_in_use([features], utterance_id), normaliser)


def plain_statistics(frames, utterance_ids):
    together = np.concatenate([frames[i].astype("f8") for i in utterance_ids], axis=1)
    return together.mean(axis=1, keepdims=True), together.std(axis=1, keepdims=True)


def plain_z_scores(frames, scope, utterance_id):
    """Normalise with statistics over all frames of the store, before any cut or averaging."""
    if scope == "none":
        return 0.0, 1.0
    return plain_statistics(frames, TRAIN if scope == "global" else [i for i in frames if i[0] == utterance_id[0]])


def plain_halves(features):
    """Average pairs of frames as Pepino et al. 2021, section 2.2, one value at a time."""
    num_layers, num_frames, size = features.shape
    halved = np.zeros((num_layers, num_frames // 2 + 1, size), dtype="f4")
    for layer in range(num_layers):
        for frame in range(num_frames):
            for dimension in range(size):
                halved[layer, frame // 2, dimension] += features[layer, frame, dimension] / 2
    return halved


@given(num_layers=st.integers(1, 2), num_frames=st.integers(1, 9), size=st.integers(1, 3))
def test_halving_averages_pairs_and_pads_with_zeros(num_layers, num_frames, size):
    features = np.random.default_rng(num_frames).normal(size=(num_layers, num_frames, size)).astype("f4")
    before = features.copy()
    halved = average_frames(features, 2)
    assert halved.shape == (num_layers, num_frames // 2 + 1, size)
    assert halved.dtype == np.float32
    np.testing.assert_allclose(halved, plain_halves(features), rtol=1e-6)
    np.testing.assert_array_equal(features, before)


@pytest.mark.parametrize(("layers", "positions"), [("all", [0, 1, 2]), ("local", [0]), ("last", [2]), ("0,2", [0, 2])])
@pytest.mark.parametrize("scope", SCOPES)
def test_selected_layers_are_normalised_with_their_own_statistics(
    open_features, frames, manifest, scope, layers, positions
):
    features = open_features(frames, layers=layers)
    assert features.layer_names == tuple(map(str, positions))
    for utterance_id, values in frames.items():
        mean, std = plain_z_scores(frames, scope, utterance_id)
        given_out = read(features, utterance_id, manifest, scope)
        assert given_out.dtype == torch.float32
        assert given_out.is_contiguous()
        np.testing.assert_allclose(given_out, ((values - mean) / std)[positions], rtol=Z_SCORES, atol=Z_SCORES)


@pytest.mark.parametrize("scope", SCOPES)
def test_only_the_first_frames_are_given_out_but_all_count_for_the_statistics(open_features, frames, manifest, scope):
    features = open_features(frames, max_frames=4)
    for utterance_id, values in frames.items():
        mean, std = plain_z_scores(frames, scope, utterance_id)
        assert features.num_frames(utterance_id) == values.shape[1]
        np.testing.assert_allclose(
            read(features, utterance_id, manifest, scope), ((values - mean) / std)[:, :4], rtol=Z_SCORES, atol=Z_SCORES
        )


@pytest.mark.parametrize("max_frames", [None, 1, 2, 3, 4, 5])
@pytest.mark.parametrize("scope", SCOPES)
def test_egemaps_are_halved_before_and_normalised_with_statistics_of_all_frames(
    open_features, frames, manifest, scope, max_frames
):
    frames = {utterance_id: values[:1] for utterance_id, values in frames.items()}
    features = open_features(frames, kind="egemaps", max_frames=max_frames)
    assert features.frame_shift == pytest.approx(0.02)
    for utterance_id, values in frames.items():
        mean, std = plain_z_scores(frames, scope, utterance_id)
        expected = (plain_halves(values) - mean) / std
        assert features.num_frames(utterance_id) == expected.shape[1]
        np.testing.assert_allclose(
            read(features, utterance_id, manifest, scope), expected[:, :max_frames], rtol=Z_SCORES, atol=Z_SCORES
        )


@pytest.mark.parametrize(("kind", "most_frames"), [("ssl", 2), ("egemaps", 4)])
def test_no_more_is_read_than_is_used(open_features, frames, manifest, monkeypatch, kind, most_frames):
    frames = {utterance_id: values[: 3 if kind == "ssl" else 1] for utterance_id, values in frames.items()}
    features = open_features(frames, kind=kind, max_frames=2, layers="1" if kind == "ssl" else "all")
    view = features.store.view
    read = []
    monkeypatch.setattr(
        features.store, "view", lambda *part, **options: read.append(view(*part, **options)) or read[-1]
    )
    assert features.read("a2", 2, fit_normaliser(features.store, "none", manifest, ())).shape == (1, 2, 4)
    assert [part.shape for part in read] == [(1, most_frames, 4)]


@pytest.mark.parametrize(
    "options",
    [
        {"kind": "functionals"},
        {"kind": "egemaps", "settings": {"extractor": "spectrogram"}},
    ],
)
def test_nothing_but_egemaps_descriptors_is_halved(open_features, frames, manifest, options):
    frames = {utterance_id: values[:1] for utterance_id, values in frames.items()}
    features = open_features(frames, **options)
    assert features.averaged == 1
    for utterance_id, values in frames.items():
        np.testing.assert_array_equal(read(features, utterance_id, manifest), values)
        assert features.num_frames(utterance_id) == values.shape[1]


def test_a_store_without_layers_gives_what_it_has_whatever_layers_are_asked_for(open_features, frames):
    frames = {utterance_id: values[:1] for utterance_id, values in frames.items()}
    assert open_features(frames, kind="functionals", layers="0,4-8").layers == (0,)


def test_a_single_layer_that_has_a_name_can_be_missing(open_features, frames):
    last = {utterance_id: values[2:] for utterance_id, values in frames.items()}
    options = {"layer_names": ("2",), "provenance": {"num_blocks": 2}}
    assert open_features(last, layers="last", **options).layer_names == ("2",)
    with pytest.raises(ModelError, match="no layer '0' among 2"):
        open_features(last, layers="local", name="other", **options)


def test_what_is_read_is_a_copy_of_its_own(open_features, frames, manifest):
    features = open_features(frames)
    read(features, "a1", manifest).zero_()
    np.testing.assert_array_equal(read(features, "a1", manifest), frames["a1"])
    np.testing.assert_array_equal(features.store["a1"], frames["a1"])


def test_fusion_pairs_frame_with_frame_and_cuts_to_the_shorter(open_features):
    def numbered(lengths):
        return {i: np.arange(n, dtype="f4").reshape(1, n, 1) for i, n in lengths.items()}

    ssl = open_features(numbered({"a": 4, "b": 7}), name="ssl")
    # The pair of frames 2i and 2i + 1 of 10 ms has the mean 2i + 0.5.
    egemaps = open_features(numbered({"a": 13, "b": 8}), name="egemaps", kind="egemaps")
    assert [frames_in_use([ssl, egemaps], i) for i in "ab"] == [[4, 4], [5, 5]]
    assert [frames_in_use([ssl], i) for i in "ab"] == [[4], [7]]
    keep = Normaliser(group_of={}, mean_={}, std_={})
    paired = torch.stack([features.read("a", 4, keep) for features in (ssl, egemaps)]).flatten(1)
    assert paired.tolist() == [[0, 1, 2, 3], [0.5, 2.5, 4.5, 6.5]]
    # Eight frames of b give four pairs, and one frame of zeros.
    assert egemaps.read("b", 5, keep).flatten().tolist() == [0.5, 2.5, 4.5, 6.5, 0]


@pytest.mark.parametrize("most", [None, 3])
def test_paired_frames_are_cut_together(open_features, most):
    lengths = {"a": 4, "b": 7}
    stores = [
        open_features(
            {i: np.zeros((1, n + more, 1), dtype="f4") for i, n in lengths.items()}, name=name, max_frames=most
        )
        for name, more in (("one", 0), ("two", 1))
    ]
    for order in (stores, stores[::-1]):
        assert [frames_in_use(order, i) for i in lengths] == ([[3, 3]] * 2 if most else [[4, 4], [7, 7]])


@pytest.fixture
def stores(tmp_path, write_store):
    """Return the stores of two utterances of 0.16 and 0.1 s by name."""

    def zeros(num_layers, *lengths):
        return {i: np.zeros((num_layers, n, 2), dtype="f4") for i, n in zip("ab", lengths, strict=True)}

    written = {
        "ssl": (zeros(3, 8, 5), {}),
        "other": (zeros(3, 9, 5), {}),
        "coarse": (zeros(2, 4, 3), {"frame_shift": 0.04}),
        "egemaps": (zeros(1, 16, 10), {"kind": "egemaps"}),
        "functionals": (zeros(1, 1, 1), {"kind": "functionals"}),
        "more-functionals": (zeros(1, 1, 1), {"kind": "functionals"}),
        "text": (zeros(2, 6, 3), {"kind": "text"}),
        "more-text": (zeros(2, 6, 3), {"kind": "text"}),
        "own-steps": (zeros(1, 7, 5), {"kind": "functionals", "settings": {"extractor": "spectrogram"}}),
    }
    for name, (frames, options) in written.items():
        write_store(tmp_path / name, frames, **options)
    return lambda *names: [FeatureStore(tmp_path / name) for name in names]


@pytest.mark.parametrize(
    ("names", "paired"),
    [
        (["ssl", "other"], True),
        (["ssl", "egemaps"], True),
        (["functionals", "more-functionals"], True),
        (["text"], True),
        (["own-steps"], True),
        (["ssl", "coarse"], False),
        (["ssl", "functionals"], False),
        (["text", "ssl"], False),
        (["text", "more-text"], False),
        (["text", "functionals"], False),
        (["ssl", "egemaps", "text"], False),
    ],
)
def test_frames_pair_where_they_are_of_the_same_moments(stores, names, paired):
    options = {"layers": "all", "max_frames": None}
    assert [features.paired for features in features_of(stores(*names), pooling=None, **options)] == [paired] * len(
        names
    )
    assert not any(features.paired for features in features_of(stores(*names), pooling=None, paired=False, **options))
    # pooled features have one frame each, so all stores pair
    assert all(features.paired for features in features_of(stores(*names), pooling="mean", **options))


def test_there_is_something_to_pool_but_in_functionals(stores):
    names = ["ssl", "egemaps", "text", "own-steps", "functionals"]
    assert [store.has_frames for store in stores(*names)] == [True, True, True, True, False]


@pytest.mark.parametrize(
    ("names", "max_frames", "of_a", "of_b"),
    [
        (["ssl", "text"], None, [8, 6], [5, 3]),
        (["ssl", "text"], 4, [4, 6], [4, 3]),
        (["text", "ssl"], 4, [6, 4], [3, 4]),
        # 0.08 s; eGeMAPS frames are not averaged if they pair with no other store
        (["ssl", "coarse", "egemaps", "functionals"], 4, [4, 2, 8, 1], [4, 2, 8, 1]),
        # number of frames that start within the first 0.1 s
        (["ssl", "coarse"], 5, [5, 3], [5, 3]),
        (["coarse", "ssl"], 1, [1, 2], [1, 2]),
        (["egemaps", "coarse"], 1, [1, 1], [1, 1]),
        (["ssl", "own-steps"], 4, [4, 7], [4, 5]),
        (["text", "functionals"], 2, [6, 1], [3, 1]),
    ],
)
def test_what_does_not_pair_is_cut_after_the_same_time_and_tokens_never(stores, names, max_frames, of_a, of_b):
    features = features_of(stores(*names), layers="all", max_frames=max_frames, pooling=None)
    assert [frames_in_use(features, i) for i in "ab"] == [of_a, of_b]
    sizes = [len(one.layers) * 2 for one in features]
    assert values_in_use(features, "a") == sum(np.multiply(of_a, sizes))


@given(
    most=st.integers(1, 1000),
    shift=st.sampled_from([0.01, 0.0125, 0.02, 0.03, 0.04]),
    other=st.sampled_from([0.01, 0.0125, 0.02, 0.03, 0.04]),
)
def test_frames_that_begin_before_the_cut_count_in_every_store(most, shift, other):
    from fractions import Fraction

    from featcache.training.store_features import _cuts

    class Store:
        def __init__(self, frame_shift):
            self.frame_shift = frame_shift

    exact, step = most * Fraction(str(shift)), Fraction(str(other))
    expected = sum(1 for frame in range(4 * most + 1) if frame * step < exact)
    assert _cuts([Store(float("nan")), Store(shift), Store(other)], most) == [None, most, expected]


@pytest.mark.parametrize(("name", "expected"), [("text", [[6], [3]]), ("own-steps", [[2], [2]]), ("ssl", [[2], [2]])])
@pytest.mark.parametrize("paired", [True, False])
def test_a_store_alone_is_cut_unless_its_frames_are_tokens(stores, name, expected, paired):
    features = features_of(stores(name), layers="all", max_frames=2, pooling=None, paired=paired)
    assert [frames_in_use(features, i) for i in "ab"] == expected


def test_egemaps_are_halved_only_to_pair(stores):
    [_, paired] = features_of(stores("ssl", "egemaps"), layers="all", max_frames=None, pooling=None)
    [_, apart] = features_of(stores("text", "egemaps"), layers="all", max_frames=None, pooling=None)
    assert [(one.averaged, one.frame_shift, one.num_frames("a")) for one in (paired, apart)] == [
        (2, 0.02, 9),
        (1, 0.01, 16),
    ]
