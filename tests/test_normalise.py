"""Normalised features equal those of scikit-learn's StandardScaler, and statistics use only the allowed utterances."""

import numpy as np
import pytest
from sklearn.preprocessing import StandardScaler

from featcache.cache.reader import FeatureStore
from featcache.cache.statistics import of_frames
from featcache.cache.writer import Record, StoreWriter, encode
from featcache.errors import ManifestError
from featcache.features import Description
from featcache.manifest import Manifest, Utterance
from featcache.normalise import SCOPES, Normaliser, fit_normaliser

# Mean and standard deviation come from the features before rounding to float16, whose relative error is up to 5e-4.
TOLERANCE = 1e-3
SPEAKERS = ["a", "b", "c"]
TRAIN = ["u0", "u3", "u1", "u4"]  # of speakers a and b


@pytest.fixture
def manifest():
    """Return nine utterances of three speakers, alternately."""
    return Manifest([Utterance(utterance_id=f"u{i}", path=f"u{i}.wav", speaker_id=SPEAKERS[i % 3]) for i in range(9)])


@pytest.fixture
def features(rng):
    """Return features whose offset and spread differ widely between speakers, layers and dimensions."""
    offset, spread = 5 * rng.standard_normal((3, 2, 1, 6)), 10 ** rng.uniform(-2, 2, (3, 2, 1, 6))
    return {
        f"u{i}": (spread[i % 3] * (rng.standard_normal((2, 20 + 7 * i, 6)) + offset[i % 3])).astype(np.float32)
        for i in range(9)
    }


@pytest.fixture
def write_store(tmp_path):
    def write(features, storage_dtype="float16", name="store"):
        some = next(iter(features.values()))
        names = tuple(str(number) for number in range(len(some)))
        description = Description(
            dataset="hidden_states",
            layer_names=names,
            hidden_size=some.shape[2],
            frame_shift=0.02,
            sampling_rate=16000,
            channel="mean",
            settings={},
        )
        writer = StoreWriter(tmp_path / name, description, storage_dtype)
        given = {"duration": 1.0, "audio_sha256": "", "start": None, "end": None}
        for key, values in features.items():
            stored = encode(values, storage_dtype, names)
            writer.write_shard([Record(utterance_id=key, features=stored, statistics=of_frames(values), **given)])
        writer.finish(list(features), failed=[])
        return FeatureStore(tmp_path / name)

    return write


def frames_of(store, utterance_ids, normaliser=None):
    """Return all frames of some utterances: (num_layers, num_frames, hidden_size)."""
    one_by_one = [normaliser.normalise_(key, store[key]) if normaliser else store[key] for key in utterance_ids]
    return np.concatenate(one_by_one, axis=1)


def scaled(frames, by):
    """Return frames scaled by a StandardScaler that was fitted on other frames, layer by layer, in float64."""
    pairs = zip(frames.astype(np.float64), by.astype(np.float64), strict=True)
    return np.stack([StandardScaler().fit(other).transform(layer) for layer, other in pairs])


@pytest.mark.parametrize("storage_dtype", ["float16", "float32"])
def test_each_speaker_has_mean_0_and_deviation_1(write_store, features, manifest, storage_dtype):
    store = write_store(features, storage_dtype)
    normaliser = fit_normaliser(store, "speaker", manifest, TRAIN)
    for number, speaker in enumerate(SPEAKERS):
        own = [f"u{i}" for i in range(number, 9, 3)]
        frames = frames_of(store, own, normaliser)
        assert frames.dtype == np.float32
        np.testing.assert_allclose(frames.mean(axis=1, dtype=np.float64), 0, atol=TOLERANCE)
        np.testing.assert_allclose(frames.std(axis=1, dtype=np.float64), 1, atol=TOLERANCE)
        raw = frames_of(store, own)
        np.testing.assert_allclose(frames, scaled(raw, by=raw), rtol=TOLERANCE, atol=TOLERANCE)
        assert set(normaliser.mean_) == set(normaliser.std_) == set(SPEAKERS)
        assert normaliser.mean_[speaker].shape == (2, 6)


@pytest.mark.parametrize("storage_dtype", ["float16", "float32"])
def test_global_is_the_scaler_of_the_training_frames(write_store, features, manifest, storage_dtype):
    store = write_store(features, storage_dtype)
    normaliser = fit_normaliser(store, "global", manifest, TRAIN)
    train = frames_of(store, TRAIN)
    for key in manifest.utterance_ids:  # These include test utterances.
        expected = scaled(store[key], by=train)
        np.testing.assert_allclose(normaliser.normalise_(key, store[key]), expected, rtol=TOLERANCE, atol=TOLERANCE)


def test_global_statistics_do_not_see_the_test_utterances(write_store, features, manifest):
    changed = {key: values if key in TRAIN else 1000 - 3 * values for key, values in features.items()}
    found = [
        fit_normaliser(write_store(some, "float32", name), "global", manifest, TRAIN)
        for some, name in ((features, "one"), (changed, "two"))
    ]
    for statistic in ("mean_", "std_"):
        one, two = (getattr(normaliser, statistic) for normaliser in found)
        assert one.keys() == two.keys()
        for group, values in one.items():
            np.testing.assert_array_equal(values, two[group])


def test_speaker_statistics_see_that_speakers_utterances_alone(write_store, features, manifest):
    changed = {key: 1000 - 3 * values if key == "u8" else values for key, values in features.items()}  # of c
    stores = [write_store(some, "float32", name) for some, name in ((features, "one"), (changed, "two"))]
    one, two = (fit_normaliser(store, "speaker", manifest, TRAIN) for store in stores)
    for speaker in SPEAKERS:
        assert np.array_equal(one.mean_[speaker], two.mean_[speaker]) == (speaker != "c")
    others_train = fit_normaliser(stores[0], "speaker", manifest, ["u8"])  # The training part does not matter.
    np.testing.assert_array_equal(others_train.mean_["c"], one.mean_["c"])


@pytest.mark.parametrize("scope", ["speaker", "global"])
@pytest.mark.parametrize("storage_dtype", ["float16", "float32"])
@pytest.mark.parametrize("value", [0.0, 0.1, -3.3, 1000.3])
def test_what_never_changes_becomes_0(write_store, features, manifest, scope, storage_dtype, value):
    for values in features.values():
        values[1, :, 2] = value
    store = write_store(features, storage_dtype)
    normaliser = fit_normaliser(store, scope, manifest, TRAIN)
    for key in manifest.utterance_ids:
        normalised = normaliser.normalise_(key, store[key])
        assert np.isfinite(normalised).all()
        assert not normalised[1, :, 2].any()
        assert normalised[1, :, 1].any()


def test_what_changes_by_less_than_float16_can_tell_becomes_0(write_store, features, manifest, rng):
    for values in features.values():
        values[0, :, 0] = 1000.2 + 0.01 * rng.standard_normal(values.shape[1])  # float16 has steps of 0.5 there.
    half, single = (write_store(features, dtype, dtype) for dtype in ("float16", "float32"))
    assert not fit_normaliser(half, "speaker", manifest, TRAIN).normalise_("u0", half["u0"])[0, :, 0].any()
    kept = frames_of(single, ["u0", "u3", "u6"], fit_normaliser(single, "speaker", manifest, TRAIN))[0, :, 0]
    assert kept.std() == pytest.approx(1, abs=0.01)  # float32 has steps of 6e-5 there.


@pytest.mark.parametrize("scope", SCOPES)
def test_features_are_normalised_where_they_are_and_the_store_stays_as_it_was(write_store, features, manifest, scope):
    store = write_store(features)
    before = store["u0"]
    given = before.copy()
    result = fit_normaliser(store, scope, manifest, TRAIN).normalise_("u0", given)
    assert result is given
    assert np.array_equal(given, before) == (scope == "none")
    np.testing.assert_array_equal(store["u0"], before)


def test_none_needs_no_statistics(write_store, features):
    nameless = Manifest([Utterance(utterance_id="u0", path="u0.wav")])
    assert fit_normaliser(write_store(features), "none", nameless, ["u0"]) == Normaliser(group_of={}, mean_={}, std_={})


def test_speakers_that_are_not_known(write_store, features):
    speakers = ["a"] * 4 + [""] * 5
    some = Manifest(
        [Utterance(utterance_id=f"u{i}", path=f"u{i}.wav", speaker_id=speaker) for i, speaker in enumerate(speakers)]
    )
    store = write_store(features)
    message = (
        r"5 utterances have no speaker_id \('u4', 'u5', 'u6' and 2 more\), which --norm speaker needs; .* --norm g"
    )
    with pytest.raises(ManifestError, match=message):
        fit_normaliser(store, "speaker", some, TRAIN)
    fit_normaliser(store, "global", some, TRAIN)


def test_a_scope_that_is_not_known(write_store, features, manifest):
    with pytest.raises(ManifestError, match="no normalisation 'speakers'; did you mean 'speaker'"):
        fit_normaliser(write_store(features), "speakers", manifest, TRAIN)


def test_a_label_may_stand_for_the_speaker(features, write_store):
    store = write_store(features, "float32")
    halves = {f"u{i}": "left" if i < 4 else "right" for i in range(9)}
    manifest = Manifest(
        [Utterance(utterance_id=i, path=i, speaker_id="one", labels={"half": half}) for i, half in halves.items()]
    )
    normaliser = fit_normaliser(store, "speaker", manifest, TRAIN, by="half")
    for half in ("left", "right"):
        ids = [i for i in halves if halves[i] == half]
        together = np.concatenate([features[i] for i in ids], axis=1)
        for layer, values in enumerate(together):
            expected = StandardScaler().fit(values)
            np.testing.assert_allclose(normaliser.mean_[half][layer], expected.mean_, rtol=TOLERANCE)
            np.testing.assert_allclose(normaliser.std_[half][layer], expected.scale_, rtol=TOLERANCE)


def test_a_label_that_some_lack_cannot_stand_for_the_speaker(features, write_store):
    labels = [{"half": "left"} if i else {} for i in range(9)]
    manifest = Manifest([Utterance(utterance_id=f"u{i}", path="a", labels=labels[i]) for i in range(9)])
    store = write_store(features)
    with pytest.raises(ManifestError, match=r"1 utterance has no half \('u0'\), which --norm speaker needs"):
        fit_normaliser(store, "speaker", manifest, TRAIN, by="half")
    with pytest.raises(
        ManifestError, match="no utterance has a label 'halves'; the manifest's label columns are: half"
    ):
        fit_normaliser(store, "speaker", manifest, TRAIN, by="halves")
    fit_normaliser(store, "global", manifest, TRAIN, by="halves")  # An unused option is not checked.
