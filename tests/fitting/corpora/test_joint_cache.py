"""A joint cache has the features of its corpora, and a fit on it is a fit on a copied cache, bit for bit."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import featcache
from featcache.cache.joint import JointStore, joint_utterances
from featcache.cache.reader import FeatureStore
from featcache.errors import StoreError
from featcache.fitting.common_options import options_for
from featcache.manifest import Manifest
from featcache.runs.saved_statistics import read_statistics
from tests.fitting.corpora.conftest import LABELS, QUICK, make_corpus, manifest_of, recordings_of

COMMON = {"anger": "anger", "angry": "anger", "joy": "happiness", "happy": "happiness"}


@pytest.fixture
def merged(corpora, write_store):
    """Return the folder of a cache on the disk with the utterances of acted and played that have common labels."""
    utterances, features, recordings = [], {}, {}
    for name in ("acted", "played"):
        manifest = manifest_of(LABELS[name])
        store = FeatureStore(corpora[name] / "ssl")
        for u in joint_utterances(name, manifest):
            own = u.utterance_id.removeprefix(f"{name}/")
            if u.labels["emotion"] in COMMON:
                split = "test" if name == "played" else "train"
                labels = {**u.labels, "emotion": COMMON[u.labels["emotion"]], "split": split}
                utterances.append(replace(u, labels=labels))
                features[u.utterance_id] = store[own]
                recordings[u.utterance_id] = recordings_of(name, manifest)[own]
    folder = Path(os.environ["FEATCACHE_HOME"]) / "cache" / "merged"
    Manifest(utterances).write(folder / "manifest.csv")
    write_store(folder / "ssl", features, recordings=recordings)
    return folder


@pytest.mark.parametrize(
    "options",
    [
        {"norm": "speaker"},
        {"norm": "global", "head": "linear"},
        {"norm": "speaker", "norm_by": "corpus", "head": "svm", "layers": "last"},
    ],
)
def test_a_fit_on_several_corpora_is_a_fit_on_a_copy_of_them(merged, options):
    options = {**options_for(options.get("head", ""), QUICK), **options}
    joint = featcache.fit(train="acted", test="played", **options)
    copied = featcache.fit(corpus="merged", protocol="cross-corpus", target="emotion", **options)
    assert joint.predictions.equals(copied.predictions)
    assert joint.validation_predictions.equals(copied.validation_predictions)
    assert joint.config["labels_sha256"] == copied.config["labels_sha256"]
    # Everything that identifies a run but its corpora is the same.
    assert {key for key in joint.config if joint.config[key] != copied.config.get(key)} <= {
        *("corpus", "train", "test", "label_map", "training", "computed_with", "environment")
    }
    assert joint.config.get("training") == copied.config.get("training")


def test_the_features_are_those_of_the_corpora(corpora):
    parts = {name: FeatureStore(folder / "ssl") for name, folder in corpora.items()}
    store = JointStore(Path("nowhere") / "ssl", parts)
    ids = [f"{name}/{i}" for name in ("real", "acted") for i in parts[name].utterance_ids[:3]]
    assert len(store) == sum(map(len, parts.values()))
    assert set(ids) < set(store.utterance_ids)
    frames = np.concatenate([parts["real"][i] for i in parts["real"].utterance_ids[:3]], axis=1)
    frames = np.concatenate([frames, *(parts["acted"][i] for i in parts["acted"].utterance_ids[:3])], axis=1)
    mean, std = store.mean_and_std(ids)
    # Statistics are stored as float32.
    np.testing.assert_allclose(mean, frames.mean(axis=1), atol=1e-6)
    np.testing.assert_allclose(std, frames.std(axis=1), atol=1e-6)
    store.prefetch(ids, range(3), store.num_frames(ids))
    for i in ids:
        name, _, own = i.partition("/")
        np.testing.assert_array_equal(store.view(i), parts[name].view(own))
        assert store.recordings([i]) == parts[name].recordings([own])
        assert store.num_frames([i]) == parts[name].num_frames([own])
        np.testing.assert_array_equal(store.pooled("max", [i]), parts[name].pooled("max", [own]))
    store.drop_pages()
    for unknown in ("real/nobody", "nowhere/01-happiness-1", "01-happiness-1"):
        with pytest.raises(KeyError, match="no utterance"):
            store.view(unknown)


def test_speakers_with_the_same_name_have_their_own_statistics(corpora):
    run = featcache.fit(train="acted", test="played,real", **QUICK)
    inputs = run.head(seed=7, fold=1).inputs
    saved = read_statistics(run.path, inputs)
    assert set(saved.groups) == {f"{name}/{speaker}" for name in LABELS for speaker in ("01", "02", "03", "04", "05")}
    store = FeatureStore(corpora["real"] / "ssl")
    mean, _ = store.mean_and_std([i for i in store if i.startswith("03-")])
    np.testing.assert_array_equal(saved.pairs[0][0][saved.groups.index("real/03")], mean.astype(np.float32))


def test_a_corpus_can_be_normalised_as_one(corpora):
    run = featcache.fit(train="acted", test="real", norm_by="corpus", **QUICK)
    saved = read_statistics(run.path, run.head(seed=7, fold=1).inputs)
    assert set(saved.groups) == {"acted", "real"}
    store = FeatureStore(corpora["acted"] / "ssl")
    mean, _ = store.mean_and_std([i for i in store if "calm" not in i])  # calm is left out
    np.testing.assert_array_equal(saved.pairs[0][0][saved.groups.index("acted")], mean.astype(np.float32))


def test_stores_with_other_settings_are_refused_and_the_settings_named(corpora, make_cache, caplog):
    manifest = manifest_of(("anger", "joy"))
    make_corpus(make_cache, "other", manifest, settings={"extractor": "ssl", "weights": "pretrained", "chunk": 5})
    with pytest.raises(StoreError, match=r"'ssl' were made with different settings: chunk is None in acted and 5 in"):
        featcache.fit(train="acted", test="other")
    make_corpus(make_cache, "untrained", manifest, weights="random")
    with pytest.raises(StoreError, match=r"weights is pretrained in acted and random in untrained; extract them with"):
        featcache.fit(train="acted,played", test="untrained")
    make_cache("further", manifest=manifest, stores={"hubert": {}})
    with pytest.raises(StoreError, match="further: no store 'ssl'"):
        featcache.fit(train="acted", test="further", features="ssl")
    make_corpus(make_cache, "partial", manifest, complete=False)
    with pytest.raises(StoreError, match=r"cache/partial/ssl is not finished"):
        featcache.fit(train="acted", test="partial")
    with caplog.at_level("INFO", logger="featcache"):
        featcache.fit(train="acted", test="real", **QUICK)
    assert "The features 'ssl' of acted and real have the same settings: extractor ssl, format_version 1" in caplog.text


def test_imported_features_are_joined_though_their_content_differs(corpora, make_cache):
    for name in ("one", "two"):
        settings = {"extractor": "imported", "model_id": "unknown", "content_sha256": name}
        make_corpus(make_cache, name, manifest_of(("anger", "joy")), settings=settings)
    one, other = (featcache.fit(train=train, test=test, **QUICK) for train, test in (("one", "two"), ("two", "one")))
    assert one.config["features"] == other.config["features"]
    settings = {**settings, "content_sha256": "three"}
    make_corpus(make_cache, "three", manifest_of(("anger", "joy")), settings=settings)
    assert featcache.fit(train="one", test="three", **QUICK).config["features"] != one.config["features"]
