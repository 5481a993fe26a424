"""Every number that a head is trained on, against plain loops over what was written."""

import math
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from featcache.cache.reader import FeatureStore
from featcache.errors import ModelError
from featcache.manifest import Manifest, Utterance
from featcache.normalise import SCOPES, fit_normaliser
from featcache.training.data import Features, batch, check_pairing, halve_frames, physical_memory

# z-scores in float32 of statistics that were stored in float32, against float64 throughout.
Z_SCORES = 1e-5

LENGTHS = {"a1": 5, "a2": 8, "b1": 3, "b2": 6}
TRAIN = ("a1", "b2")


@pytest.fixture
def manifest():
    return Manifest([Utterance(utterance_id=i, path=f"{i}.wav", speaker_id=i[0]) for i in LENGTHS])


@pytest.fixture
def frames(rng):
    """Utterance id → (num_layers, num_frames, hidden_size), no two dimensions alike."""
    return {i: (rng.normal(size=(3, n, 4)) * [1, 5, 0.2, 1] + [0, 3, -9, 1]).astype("f4") for i, n in LENGTHS.items()}


@pytest.fixture
def open_features(tmp_path, write_store):
    def open_store(frames, *, layers="all", max_frames=None, memory=math.inf, name="store", **options):
        write_store(tmp_path / name, frames, **options)
        return Features(FeatureStore(tmp_path / name), layers=layers, max_frames=max_frames, memory=memory)

    return open_store


def plain_statistics(frames, utterance_ids):
    together = np.concatenate([frames[i].astype("f8") for i in utterance_ids], axis=1)
    return together.mean(axis=1, keepdims=True), together.std(axis=1, keepdims=True)


def plain_z_scores(frames, scope, utterance_id):
    """Statistics over every frame of the store, whatever is cut or halved afterwards."""
    if scope == "none":
        return 0.0, 1.0
    return plain_statistics(frames, TRAIN if scope == "global" else [i for i in frames if i[0] == utterance_id[0]])


def plain_halves(features):
    """Pepino et al. 2021, section 2.2, one number at a time."""
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
    halved = halve_frames(features)
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
    features.normalise_with(fit_normaliser(features.store, scope, manifest, TRAIN))
    assert features.layer_names == tuple(map(str, positions))
    for utterance_id, values in frames.items():
        mean, std = plain_z_scores(frames, scope, utterance_id)
        given_out = features[utterance_id]
        assert given_out.dtype == torch.float32
        assert given_out.is_contiguous()
        np.testing.assert_allclose(given_out, ((values - mean) / std)[positions], rtol=Z_SCORES, atol=Z_SCORES)


@pytest.mark.parametrize("scope", SCOPES)
def test_only_the_first_frames_are_given_out_but_all_count_for_the_statistics(open_features, frames, manifest, scope):
    features = open_features(frames, max_frames=4)
    features.normalise_with(fit_normaliser(features.store, scope, manifest, TRAIN))
    for utterance_id, values in frames.items():
        mean, std = plain_z_scores(frames, scope, utterance_id)
        assert features.num_frames(utterance_id) == values.shape[1]
        np.testing.assert_allclose(features[utterance_id], ((values - mean) / std)[:, :4], rtol=Z_SCORES, atol=Z_SCORES)


@pytest.mark.parametrize("max_frames", [None, 1, 2, 3, 4, 5])
@pytest.mark.parametrize("scope", SCOPES)
def test_egemaps_are_halved_before_and_normalised_with_statistics_of_all_frames(
    open_features, frames, manifest, scope, max_frames
):
    frames = {utterance_id: values[:1] for utterance_id, values in frames.items()}
    features = open_features(frames, kind="egemaps", max_frames=max_frames)
    features.normalise_with(fit_normaliser(features.store, scope, manifest, TRAIN))
    assert features.frame_shift == pytest.approx(0.02)
    for utterance_id, values in frames.items():
        mean, std = plain_z_scores(frames, scope, utterance_id)
        expected = (plain_halves(values) - mean) / std
        assert features.num_frames(utterance_id) == expected.shape[1]
        np.testing.assert_allclose(features[utterance_id], expected[:, :max_frames], rtol=Z_SCORES, atol=Z_SCORES)


@pytest.mark.parametrize(("kind", "most_frames"), [("ssl", 2), ("egemaps", 4)])
def test_no_more_is_read_than_is_used(open_features, frames, monkeypatch, kind, most_frames):
    frames = {utterance_id: values[: 3 if kind == "ssl" else 1] for utterance_id, values in frames.items()}
    features = open_features(frames, kind=kind, max_frames=2, layers="1" if kind == "ssl" else "all")
    view = features.store.view
    read = []
    monkeypatch.setattr(features.store, "view", lambda *part: read.append(view(*part)) or read[-1])
    assert features["a2"].shape == (1, 2, 4)
    assert [part.shape for part in read] == [(1, most_frames, 4)]


@pytest.mark.parametrize(
    "options",
    [
        {"kind": "functionals"},
        {"kind": "egemaps", "settings": {"extractor": "spectrogram"}},
    ],
)
def test_nothing_but_egemaps_descriptors_is_halved(open_features, frames, options):
    frames = {utterance_id: values[:1] for utterance_id, values in frames.items()}
    features = open_features(frames, **options)
    assert not features.halved
    for utterance_id, values in frames.items():
        np.testing.assert_array_equal(features[utterance_id], values)
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


ONE_UTTERANCE = 3 * 5 * 4 * 4  # bytes of a1


@pytest.mark.parametrize("memory", [0, ONE_UTTERANCE - 1, ONE_UTTERANCE, 3 * ONE_UTTERANCE])
def test_numbers_do_not_depend_on_the_memory(open_features, frames, manifest, memory):
    bounded, free = open_features(frames, memory=memory), open_features(frames, name="free")
    for scope in ("speaker", "global"):
        for features in (bounded, free):
            features.normalise_with(fit_normaliser(features.store, scope, manifest, TRAIN))
        for utterance_id in 2 * tuple(frames):
            assert torch.equal(bounded[utterance_id], free[utterance_id])


def test_what_fits_is_kept_until_the_normalisation_changes(open_features, frames, manifest):
    features = open_features(frames, memory=ONE_UTTERANCE)
    features.normalise_with(fit_normaliser(features.store, "speaker", manifest, TRAIN))
    kept = features["a1"]
    assert features["a1"] is kept
    assert features["b1"] is not features["b1"]
    features.normalise_with(fit_normaliser(features.store, "global", manifest, TRAIN))
    assert not torch.equal(features["a1"], kept)
    assert features["a1"] is features["a1"]


def test_threads_that_load_the_same_utterance_count_it_once(open_features, frames, monkeypatch):
    features = open_features(frames, memory=sum(values.nbytes for values in frames.values()))
    load, together = features._load, threading.Barrier(4)

    def load_together(utterance_id):
        together.wait(timeout=30)
        return load(utterance_id)

    monkeypatch.setattr(features, "_load", load_together)
    with ThreadPoolExecutor(4) as pool:
        for results in pool.map(lambda _: [features[i] for i in frames], range(4)):
            for given_out, values in zip(results, frames.values(), strict=True):
                np.testing.assert_array_equal(given_out, values)
    monkeypatch.setattr(features, "_load", load)
    # the memory is just enough for all, so counting one twice would leave another out
    assert all(features[i] is features[i] for i in frames)


def test_fusion_pairs_frame_with_frame_and_cuts_to_the_shorter(open_features):
    def numbered(lengths):
        return {i: np.arange(n, dtype="f4").reshape(1, n, 1) for i, n in lengths.items()}

    ssl = open_features(numbered({"a": 4, "b": 7}), name="ssl")
    # pairs of 10 ms frames 2i and 2i + 1 have the mean 2i + 0.5
    egemaps = open_features(numbered({"a": 13, "b": 8}), name="egemaps", kind="egemaps")
    first, second = batch([ssl, egemaps], ["b", "a"])
    for of_ssl, of_egemaps, num_frames in zip(first, second, (5, 4), strict=True):
        assert of_ssl.shape == of_egemaps.shape == (1, num_frames, 1)
    paired = torch.stack([first[1], second[1]]).flatten(1)
    assert paired.tolist() == [[0, 1, 2, 3], [0.5, 2.5, 4.5, 6.5]]
    # eight frames of b make four pairs, and one of zeros
    assert second[0].flatten().tolist() == [0.5, 2.5, 4.5, 6.5, 0]
    assert [tensor.shape[1] for tensor in batch([ssl], ["b", "a"])[0]] == [7, 4]


def test_frames_of_different_moments_are_not_paired(open_features, frames):
    single = {utterance_id: values[:1] for utterance_id, values in frames.items()}
    ssl = open_features(frames, name="ssl")
    egemaps = open_features(single, name="egemaps", kind="egemaps")
    coarse = open_features(frames, name="coarse", frame_shift=0.04)
    functionals = open_features(single, name="functionals", kind="functionals")
    check_pairing([ssl, egemaps])
    check_pairing([functionals])
    with pytest.raises(ModelError, match=r"^fusion .* frame shifts differ: ssl 20 ms, coarse 40 ms$"):
        check_pairing([ssl, coarse])
    with pytest.raises(ModelError, match="frame shifts differ: ssl 20 ms, functionals nan ms"):
        check_pairing([ssl, functionals])


def test_memory_is_that_of_a_machine():
    assert 2**27 < physical_memory() < 2**50
