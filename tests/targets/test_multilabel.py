"""Several labels: targets, thresholds, scores, fits, and everything that reads such runs."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score, f1_score

import featcache
from featcache.errors import ManifestError, ProtocolError
from featcache.evaluate.label_sets import summarise_labels
from featcache.evaluate.scoring import score
from featcache.fitting.fit import fit
from featcache.manifest import Manifest, Utterance
from featcache.protocols import Fold
from featcache.runs.reader import load_predictions
from featcache.targets.multilabel import MULTILABEL_OBJECTIVE, read_list
from featcache.targets.targets import make_target
from featcache.targets.thresholds import DEFAULT, best_threshold

# predictions.csv has six digits of each probability.
DIGITS = 1e-5
# float32 operations in another order.
ROUNDING = 1e-6
SPEAKERS = ("01", "02", "03", "04")
SETS = ("none", "anger", "joy", "anger;joy", "fear", "joy; fear")
OPTIONS = {"task": "multilabel", "target": "emotions", "seeds": 2, "max_epochs": 2, "learning_rate": 0.01}


def manifest_of(labels):
    return Manifest(
        [
            Utterance(utterance_id=f"u{number}", path="x.wav", speaker_id=str(number % 3), labels=one)
            for number, one in enumerate(labels)
        ]
    )


def corpus():
    rows = [(speaker, names, number) for speaker in SPEAKERS for names in SETS for number in (1, 2)]
    return Manifest(
        [
            Utterance(
                utterance_id=f"{speaker}-{SETS.index(names)}-{number}",
                path="x.wav",
                speaker_id=speaker,
                labels={
                    "emotions": names,
                    **{name: str(int(name in names)) for name in ("anger", "joy", "fear")},
                    "gender": "f" if int(speaker) % 2 else "m",
                },
            )
            for speaker, names, number in rows
        ]
    )


@pytest.fixture
def cache(make_cache, quick_reports):
    return featcache.open(make_cache(manifest=corpus()))


@pytest.fixture
def run(cache):
    return fit(**OPTIONS)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("anger", {"anger"}),
        ("a; b;a", {"a", "b"}),
        ("a;", {"a"}),
        ("none", set()),
        ("None", set()),
        ("nones", {"nones"}),
    ],
)
def test_a_list_of_labels(text, expected):
    assert read_list(text) == expected


def test_both_forms_of_the_manifest_are_the_same_target():
    manifest = corpus()
    listed = make_target(manifest, "emotions", None, task="multilabel")
    columns = make_target(manifest, "anger,fear,joy", None, task="multilabel")
    assert listed.names == columns.names == ("anger", "fear", "joy")
    assert [listed.value(one) for one in manifest] == [columns.value(one) for one in manifest]
    assert listed.settings() == {"task": "multilabel", "target": "emotions", "label_names": ["anger", "fear", "joy"]}
    for target, names in ((listed, ["emotions=anger", "emotions=fear", "emotions=joy"]), (columns, listed.names)):
        parts = target.parts()
        assert [part.name for part in parts] == list(names)
        for i, part in enumerate(parts):
            again = make_target(manifest, part.name, None, task="multilabel")
            assert again == part
            assert part.parts() == [part]
            assert [part.value(one) for one in manifest] == [[target.value(one)[i]] for one in manifest]


@pytest.mark.parametrize(
    ("labels", "name", "message"),
    [
        ([{"a": "1", "b": "2"}, {"a": "0", "b": "1"}], "a,b", "label 'b' of utterance 'u0' is '2', expected 0 or 1"),
        ([{"a": "none;x"}, {"a": "x"}], "a", "label 'a' of utterance 'u0' is 'none;x', expected labels such as"),
        ([{"a": ";"}, {"a": "x"}], "a", "label 'a' of utterance 'u0' is ';', expected labels such as"),
        ([{"a": "x;y"}, {"a": "x;y"}], "a", "all utterances have the same labels"),
        ([{"a": "none"}, {"a": "none"}], "a", "all utterances have the same labels"),
        ([{"a": "x"}, {"a": "y"}], "a=z", "no label in a 'z'; available: x, y"),
        ([{"a": "1"}, {"a": "0"}], "a=1", "contains 0 and 1, not names"),
        ([{"a": "1", "b": "0"}, {"a": "0", "b": "1"}], "a,b=1", "a class belongs to one label"),
    ],
)
def test_refused_labels_are_one_line(labels, name, message):
    with pytest.raises(ManifestError, match=message) as caught:
        make_target(manifest_of(labels), name, None, task="multilabel")
    assert "\n" not in str(caught.value)


def test_a_training_part_needs_two_values_and_unseen_labels_are_told():
    manifest = manifest_of([{"a": "x"}, {"a": "x"}, {"a": "none"}, {"a": "y"}])
    target = make_target(manifest, "a", None, task="multilabel")
    fold = Fold(name="f", train=("u0", "u2"), validation=("u1",), test=("u3",))
    assert target.check_folds([fold], manifest) == ["fold 'f' tests labels that are not in its training part: 'y'"]
    with pytest.raises(ProtocolError, match="fold 'f' trains on one value of 'x', 'y' only"):
        target.check_folds([replace(fold, train=("u0", "u1"))], manifest)


@settings(max_examples=30)
@given(
    rows=st.lists(st.tuples(st.sampled_from([0.1, 0.3, 0.49, 0.5, 0.51, 0.7, 0.9]), st.booleans()), min_size=1),
)
def test_the_threshold_is_the_best_one_of_all(rows):
    probabilities = np.array([one for one, _ in rows], dtype=np.float32)
    targets = np.array([one for _, one in rows], dtype=int)
    threshold = best_threshold(probabilities, targets)
    assert threshold == np.float32(threshold)
    if not targets.any():
        assert threshold == DEFAULT
        return
    f1 = {one: f1_score(targets, probabilities >= one) for one in (0.0, 0.2, 0.4, 0.495, 0.5, 0.505, 0.6, 0.8)}
    assert f1_score(targets, probabilities >= threshold) == max(f1.values())
    if f1[0.5] == max(f1.values()):
        assert threshold == DEFAULT


def test_a_threshold_that_nothing_determines_is_a_half():
    assert best_threshold([0.9, 0.2], [0, 0]) == DEFAULT
    assert best_threshold([np.nan, 0.2], [1, 0]) == DEFAULT
    neighbours = np.float32([0.7, np.nextafter(np.float32(0.7), np.float32(1))])
    assert (neighbours >= best_threshold(neighbours, [0, 1])).tolist() == [False, True]


def test_loss_and_score_are_those_of_torch_and_scikit_learn():
    generator = torch.Generator().manual_seed(1)
    outputs = torch.randn(20, 3, generator=generator)
    targets = torch.randint(2, (20, 3), generator=generator).float()
    expected = torch.nn.BCEWithLogitsLoss()(outputs, targets)
    assert float(MULTILABEL_OBJECTIVE.loss(outputs, targets)) == pytest.approx(float(expected), rel=ROUNDING)
    uars = [balanced_accuracy_score(targets[:, i], outputs[:, i].sigmoid() >= 0.5) for i in range(3)]
    assert MULTILABEL_OBJECTIVE.score(outputs, targets) == pytest.approx(np.mean(uars))
    assert torch.equal(MULTILABEL_OBJECTIVE.predictions(outputs), outputs.sigmoid())


def test_scores_are_those_of_scikit_learn(rng):
    names = ["a", "b", "c"]
    target, rows = rng.integers(0, 2, (30, 3)), []
    for seed in (1, 2):
        predicted = rng.integers(0, 2, (30, 3))
        rows += [
            {"seed": seed, "fold": 1 + i % 2, "utterance_id": f"u{i}", "speaker_id": str(i % 5)}
            | {f"target_{name}": target[i, j] for j, name in enumerate(names)}
            | {f"prediction_{name}": predicted[i, j] for j, name in enumerate(names)}
            for i in range(30)
        ]
    table = pd.DataFrame(rows)
    found = summarise_labels(table, names)
    for place, (_, of_seed) in enumerate(table.groupby("seed")):
        true, predicted = (
            of_seed[[f"{kind}_{name}" for name in names]].to_numpy() for kind in ("target", "prediction")
        )
        for average in ("macro", "micro"):
            expected = 100 * f1_score(true, predicted, average=average)
            assert found[f"{average}_f1"]["per_seed"][place] == pytest.approx(expected)
        uars = [100 * balanced_accuracy_score(true[:, i], predicted[:, i]) for i in range(3)]
        assert found["uar"]["per_seed"][place] == pytest.approx(np.mean(uars))
        for i, name in enumerate(names):
            assert found["per_label"][name]["uar"]["per_seed"][place] == pytest.approx(uars[i])
            expected = 100 * f1_score(true[:, i], predicted[:, i])
            assert found["per_label"][name]["f1"]["per_seed"][place] == pytest.approx(expected)
    assert [found["per_label"][name]["support"] for name in names] == target.sum(axis=0).tolist()
    assert found["macro_f1"]["ci95"][0] < found["macro_f1"]["mean"] < found["macro_f1"]["ci95"][1]
    assert found["per_label"]["a"]["f1"]["ci95"]


def test_a_label_that_never_occurs_counts_only_if_it_is_predicted():
    table = pd.DataFrame(
        {"seed": 1, "fold": 1, "utterance_id": ["u", "v"], "speaker_id": "", "target_a": [1, 0], "prediction_a": [1, 0]}
        | {"target_b": 0, "prediction_b": 0, "target_c": 0, "prediction_c": [0, 1]}
    )
    found = summarise_labels(table, ["a", "b", "c"])
    assert found["macro_f1"]["mean"] == pytest.approx(50)
    assert found["per_label"]["b"]["f1"]["mean"] is None
    assert found["per_label"]["c"]["f1"]["mean"] == 0


def test_a_fit_of_several_labels(run, cache):
    names = ["anger", "fear", "joy"]
    assert list(run.predictions.columns[4:7]) == ["target_anger", "prediction_anger", "p_anger"]
    recomputed = score(load_predictions(run))
    for name in ("uar", "macro_f1", "micro_f1", "per_label"):
        assert recomputed[name] == run.metrics[name]
    assert set(run.metrics["validation"]) == {"uar", "macro_f1", "micro_f1"}
    assert run.metrics["chance_uar"] == 50
    trainings = run.predictions.groupby(["fold", "seed"], sort=True)
    known = run.validation_predictions.groupby(["fold", "seed"])
    for place, (key, rows) in enumerate(trainings):
        fold, seed = key
        head, validation = run.head(seed=seed, fold=fold), known.get_group(key)
        for i, name in enumerate(names):
            threshold = run.metrics["thresholds"][name]["per_training"][place]
            assert float(head.thresholds[i]) == threshold
            clear = (rows[f"p_{name}"] - threshold).abs() > DIGITS
            assert ((rows[f"p_{name}"] >= threshold) == rows[f"prediction_{name}"])[clear].all()
            at_half = f1_score(validation[f"target_{name}"], validation[f"p_{name}"] >= 0.5, zero_division=0)
            chosen = f1_score(validation[f"target_{name}"], validation[f"prediction_{name}"], zero_division=0)
            assert chosen >= at_half
    seed, fold = run.config["seeds"][0], 1
    rows = run.predictions.query("seed == @seed and fold == @fold")
    store = cache["ssl"]
    manifest = cache.manifest
    logits = run.head(seed=seed, fold=fold)(
        [[store[i] for i in rows["utterance_id"]]], groups=[manifest[i].speaker_id for i in rows["utterance_id"]]
    )
    np.testing.assert_allclose(logits.detach().sigmoid(), rows[[f"p_{name}" for name in names]], atol=DIGITS)


def test_labels_of_the_test_part_change_no_threshold(run, cache):
    from featcache.fitting.resolve import resolve
    from featcache.fitting.results import decided_target
    from featcache.settings.checked import configured
    from featcache.settings.fits import FitSettings

    setup = resolve(cache, configured(FitSettings, OPTIONS))
    fold = setup.folds[0]
    shuffled = [
        replace(u, labels=u.labels | {"emotions": "anger"}) if u.utterance_id in fold.test else u
        for u in setup.manifest
    ]
    predictions = {
        u: list(row)
        for u, row in zip(fold.validation, np.random.default_rng(0).random((len(fold.validation), 3)), strict=True)
    }
    chosen = decided_target(setup, 1, predictions)
    assert chosen.thresholds != (0.5, 0.5, 0.5)
    assert decided_target(replace(setup, manifest=Manifest(shuffled)), 1, predictions).thresholds == chosen.thresholds
