"""Linear probes of each layer agree with scikit-learn and use only allowed data; the command."""

import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import Ridge, RidgeClassifier
from sklearn.metrics import recall_score
from sklearn.preprocessing import StandardScaler

import featcache
from featcache.cache.reader import FeatureStore
from featcache.cli import app as cli
from featcache.cli.layers import print_layer_scores
from featcache.errors import ManifestError, ProtocolError, StoreError
from featcache.fitting.probe import PENALTIES, probe_layers
from featcache.manifest import Manifest, Utterance
from featcache.protocols import make_folds
from featcache.targets.targets import make_target

# Tolerance of probes in float32, compared with references in float64.
ROUNDING = 1e-4
NUM_LAYERS = 3
OPTIONS = {"corpus": None, "protocol": None, "task": None, "select": {}, "out": None}


@pytest.fixture(autouse=True)
def _wide_terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "250")


@pytest.fixture
def manifest(rng):
    """Make a manifest of six speakers with all emotions, and random arousal and valence."""
    return Manifest(
        [
            Utterance(
                utterance_id=f"{speaker}-{emotion}-{number}",
                path="x.wav",
                speaker_id=speaker,
                labels={
                    "emotion": emotion,
                    "arousal": f"{rng.uniform(1, 7):.3f}",
                    "valence": f"{rng.uniform(1, 7):.3f}",
                    "words": "none",
                },
            )
            for speaker in "abcdef"
            for emotion in ("anger", "joy", "fear")
            for number in range(4)
        ]
    )


@pytest.fixture
def cache(make_cache, manifest):
    return featcache.open(make_cache(manifest=manifest, stores={"ssl": {}}, num_layers=NUM_LAYERS, hidden_size=6))


@pytest.fixture
def store(write_store, tmp_path, manifest):
    """Make layers with less and less information on emotion and arousal; the last speaker has huge values."""
    return write_features(write_store, tmp_path / "store", manifest, seed=1)


def write_features(write_store, folder, manifest, *, seed, altered=(), **options):
    rng, other = np.random.default_rng(seed), np.random.default_rng(seed + 1)
    features = {}
    for utterance in manifest:
        values = rng.normal(size=(NUM_LAYERS, 5, 6))
        values[..., 0] += float(utterance.labels["arousal"]) / np.arange(1, NUM_LAYERS + 1)[:, None]
        values[..., 1] += ("anger", "joy", "fear").index(utterance.labels["emotion"])
        values *= 100 if utterance.speaker_id == "f" else 1
        if utterance.utterance_id in altered:
            values = 1e3 * other.normal(size=values.shape)
        features[utterance.utterance_id] = values.astype(np.float32)
    write_store(folder, features, **options)
    return FeatureStore(folder)


def parts_of(store, fold, layer):
    """Return the float64 means over frames of training, validation and test part, standardised."""
    means = [
        np.array([store[i][layer].astype(float).mean(axis=0) for i in part])
        for part in (fold.train, fold.validation, fold.test)
    ]
    scaler = StandardScaler().fit(means[0])
    return [scaler.transform(part) for part in means]


def plain_ccc(x, y):
    return 2 * np.cov(x, y, bias=True)[0, 1] / (x.var() + y.var() + (x.mean() - y.mean()) ** 2)


def test_classes_are_told_apart_as_by_scikit_learns_ridge_classifier(store, manifest):
    targets = [make_target(manifest, name, None) for name in ("emotion", "emotion=joy")]
    folds = make_folds("group-kfold", manifest, "emotion")
    found = probe_layers(store, targets, manifest, folds).set_index(["target", "layer", "fold"])
    assert len(found) == 2 * NUM_LAYERS * len(folds)
    for (name, layer, number), row in found.iterrows():
        fold = folds[number - 1]
        train, validation, test = parts_of(store, fold, int(layer))
        label = (lambda i: manifest[i].labels["emotion"]) if name == "emotion" else (lambda i: i[2:5] == "joy")
        scores = {}
        for penalty in PENALTIES:
            model = RidgeClassifier(alpha=penalty).fit(train, [label(i) for i in fold.train])
            scores[penalty] = [
                100 * recall_score([label(i) for i in ids], model.predict(part), average="macro")
                for ids, part in ((fold.validation, validation), (fold.test, test))
            ]
        best = max(PENALTIES, key=lambda penalty: scores[penalty][0])
        assert (row["penalty"], row["score"]) == (best, pytest.approx(scores[best][1]))


def test_numbers_are_predicted_as_by_scikit_learns_ridge_each_with_its_own_penalty(store, manifest):
    targets = make_target(manifest, "arousal,valence", None, label_range=(1, 7)).parts()
    folds = make_folds("group-kfold", manifest, "arousal")
    found = probe_layers(store, targets, manifest, folds).set_index(["target", "layer", "fold"])
    assert len(found) == 2 * NUM_LAYERS * len(folds)
    for (name, layer, number), row in found.iterrows():
        fold = folds[number - 1]
        train, validation, test = parts_of(store, fold, int(layer))
        known, unseen, tested = (
            np.array([float(manifest[i].labels[name]) for i in part])
            for part in (fold.train, fold.validation, fold.test)
        )
        scores = {}
        for penalty in PENALTIES:
            model = Ridge(alpha=penalty).fit(train, known)
            scores[penalty] = plain_ccc(model.predict(validation), unseen), plain_ccc(model.predict(test), tested)
        best = max(PENALTIES, key=lambda penalty: scores[penalty][0])
        assert (row["penalty"], row["score"]) == (best, pytest.approx(scores[best][1], abs=ROUNDING))
    assert found.groupby("target")["penalty"].apply(tuple).nunique() == 2


def test_targets_that_are_probed_together_are_what_they_are_alone(store, manifest):
    targets = [make_target(manifest, "emotion", None), *make_target(manifest, "emotion", None).parts()]
    targets += make_target(manifest, "arousal,valence", None).parts()
    folds = make_folds("group-kfold", manifest, "emotion")
    together = probe_layers(store, targets, manifest, folds)
    alone = [probe_layers(store, [target], manifest, folds) for target in targets]
    # the order of a sum depends on the number of columns of a product
    pd.testing.assert_frame_equal(together, pd.concat(alone, ignore_index=True), rtol=ROUNDING)


def test_what_is_tested_enters_neither_the_scaler_nor_the_choice_of_the_penalty(
    store, write_store, tmp_path, manifest, monkeypatch
):
    fold = make_folds("loso", manifest, "emotion")[0]
    changed = Manifest(
        [
            replace(u, labels=u.labels | {"emotion": "joy", "arousal": "1"}) if u.utterance_id in fold.test else u
            for u in manifest
        ]
    )
    other = write_features(write_store, tmp_path / "other", manifest, seed=1, altered=fold.test)
    seen = []
    for kind in (StandardScaler, Ridge):
        fit = kind.fit
        monkeypatch.setattr(
            kind, "fit", lambda self, *given, fit=fit: seen.append([one.copy() for one in given]) or fit(self, *given)
        )
    found = []
    for features, labelled in ((store, manifest), (other, changed)):
        arousal = make_target(labelled, "arousal", None, task="regression", label_range=(1, 7))
        targets = [make_target(labelled, "emotion", None), arousal]
        found.append(probe_layers(features, targets, labelled, [fold]))
    assert len(seen) == 2 * 2 * NUM_LAYERS

    def ordered(fits):
        """Sort the recorded arrays, because the order of threads is arbitrary."""
        return sorted([one.tobytes() for one in given] for given in fits)

    assert ordered(seen[: len(seen) // 2]) == ordered(seen[len(seen) // 2 :])
    assert found[0]["penalty"].tolist() == found[1]["penalty"].tolist()
    assert found[0]["score"].tolist() != found[1]["score"].tolist()


def test_no_frame_is_read(store, manifest, monkeypatch):
    monkeypatch.setattr(FeatureStore, "view", lambda *_: pytest.fail("a frame was read"))
    folds = make_folds("group-kfold", manifest, "emotion")
    targets = [make_target(manifest, name, None) for name in ("emotion", "arousal,valence")]
    assert np.isfinite(probe_layers(store, targets, manifest, folds)["score"]).all()


def test_a_test_part_of_one_class_is_scored_by_its_recall(store, manifest):
    [fold, *_] = make_folds("loso", manifest, "emotion")
    only = replace(fold, test=tuple(i for i in fold.test if "joy" in i))
    found = probe_layers(store, [make_target(manifest, "emotion", None)], manifest, [only]).set_index("layer")
    for layer, row in found.iterrows():
        train, _, test = parts_of(store, only, int(layer))
        model = RidgeClassifier(alpha=row["penalty"]).fit(train, [manifest[i].labels["emotion"] for i in only.train])
        assert row["score"] == pytest.approx(100 * np.mean(model.predict(test) == "joy"))


def test_numbers_of_several_dimensions_get_a_line_each(cache, capsys, tmp_path):
    print_layer_scores([], target="arousal,valence", **OPTIONS | {"task": "regression", "out": tmp_path / "probe"})
    out = capsys.readouterr().out
    assert re.search("^Layer +ssl arousal CCC +ssl valence CCC", out, re.MULTILINE)
    table = pd.read_csv(tmp_path / "probe.csv", dtype={"layer": str})
    assert list(table.columns) == ["store", "target", "layer", "mean", "std", "num_folds"]
    assert table["target"].tolist() == ["arousal"] * NUM_LAYERS + ["valence"] * NUM_LAYERS
    folds = make_folds("loso", cache.manifest, "arousal")
    parts = make_target(cache.manifest, "arousal,valence", None).parts()
    scores = probe_layers(cache["ssl"], parts, cache.manifest, folds).groupby(["target", "layer"])["score"]
    for row in table.itertuples():
        assert row.mean == pytest.approx(scores.mean()[row.target, row.layer])
        assert row.std == pytest.approx(scores.std(ddof=1)[row.target, row.layer])
        assert row.num_folds == len(folds)
        assert f"{row.mean:.3f} ± {row.std:.3f}" in out
    assert (tmp_path / "probe.png").read_bytes().startswith(b"\x89PNG")


def test_classes_are_one_line_and_a_selection_counts(cache, capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", f"x probe --target emotion --out {tmp_path / 'p'}".split())
    with pytest.raises(SystemExit) as exited:
        cli.main()
    assert exited.value.code == 0
    assert re.search(r"^Layer +ssl UAR \(%\)\s*$", capsys.readouterr().out, re.MULTILINE)
    few = OPTIONS | {"select": {"emotion": ["joy", "fear"]}, "out": tmp_path / "few"}
    print_layer_scores(["ssl"], target="emotion", **few)
    whole, part = (pd.read_csv(tmp_path / f"{name}.csv") for name in ("p", "few"))
    assert len(whole) == len(part) == NUM_LAYERS
    assert whole["mean"].tolist() != part["mean"].tolist()


@pytest.mark.parametrize(
    ("options", "error", "told"),
    [
        ({"target": "emotoin"}, ManifestError, r"no utterance has a label 'emotoin'; .* are: emotion, arousal"),
        ({"target": "emotion=angst"}, ManifestError, "no class of emotion 'angst'; did you mean 'anger'"),
        (
            {"target": "arousal"},
            ManifestError,
            "has 72 different numbers .*, too many for classes; use --task regression",
        ),
        ({"target": "arousal,emotion"}, ManifestError, "label 'emotion' .* is 'anger', expected a number"),
        ({"target": "words"}, ManifestError, "label 'words' has one class only, 'none'; a classifier needs two"),
        ({"target": None}, ManifestError, "which label to predict.* --target: emotion, arousal"),
        ({"target": "emotion", "protocol": "los"}, ProtocolError, "no protocol 'los'; did you mean 'loso'"),
    ],
)
def test_targets_that_cannot_be_probed_are_told_in_one_line(cache, options, error, told):
    with pytest.raises(error, match=told) as raised:
        print_layer_scores([], **OPTIONS | options)
    assert "\n" not in str(raised.value)


def test_a_fold_that_trains_on_one_class_is_refused(make_cache):
    parts = [("train", "joy"), ("train", "joy"), ("validation", "anger"), ("test", "anger")]
    utterances = [
        Utterance(utterance_id=f"u{i}", path="x.wav", speaker_id=str(i), labels={"emotion": label, "split": part})
        for i, (part, label) in enumerate(parts)
    ]
    make_cache(manifest=Manifest(utterances))
    with pytest.raises(ProtocolError, match="fold '1' trains on one class of 'emotion' only, 'joy'; use another"):
        print_layer_scores([], target="emotion", **OPTIONS | {"protocol": "split"})


def test_a_store_without_layers_is_refused(make_cache):
    make_cache(stores={"egemaps": {"kind": "egemaps"}})
    with pytest.raises(StoreError, match="egemaps has no numbered layers; name a store that contains the layers of a"):
        print_layer_scores(["egemaps"], target="emotion", **OPTIONS)
