"""Targets: classes, one class against the rest, dimensional labels, refused targets, and fits of regressions."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

import featcache
from featcache.corpora import CORPORA
from featcache.errors import FeatcacheError, ManifestError, ProtocolError
from featcache.evaluate.compare import compare
from featcache.evaluate.predictions import read_predictions
from featcache.evaluate.scoring import score
from featcache.fitting.common_options import options_for
from featcache.fitting.ensemble import ensemble
from featcache.fitting.fit import fit, sweep
from featcache.manifest import Manifest, Utterance
from featcache.runs.reader import load_predictions
from featcache.targets.targets import REST, Classes, Dimensions, labelled, make_target

# predictions.csv contains seven digits; the labels are at most 7.
DIGITS = 1e-5
SPEAKERS, VALUES = ("01", "02", "03", "04"), (1.0, 2.5, 4.0, 5.5)
SHORT = {"max_epochs": 3, "learning_rate": 0.01}
CORPUS = replace(CORPORA["emodb"], classes=("joy", "anger"), dimensions={"arousal": (1.0, 7.0), "valence": (1.0, 7.0)})


def manifest_of(labels):
    return Manifest(
        [
            Utterance(utterance_id=f"u{number}", path="x.wav", speaker_id=str(number % 3), labels=one)
            for number, one in enumerate(labels)
        ]
    )


@pytest.fixture
def cache(make_cache, quick_reports):
    """Make a cache of noise in which the first dimension grows with arousal, and valence falls with it."""
    rows = [(speaker, value, number) for speaker in SPEAKERS for value in VALUES for number in (1, 2)]
    manifest = Manifest(
        [
            Utterance(
                utterance_id=f"{speaker}-{value}-{number}",
                path="x.wav",
                speaker_id=speaker,
                labels={"arousal": str(value), "valence": f"{7 - value:g}", "emotion": "high" if value > 3 else "low"},
            )
            for speaker, value, number in rows
        ]
    )
    stores = {"ssl": {}, "more": {}}
    return featcache.open(make_cache(manifest=manifest, stores=stores))


def test_several_labels_are_a_regression_and_known_numbers_are_one_too():
    manifest = manifest_of([{"arousal": "2", "valence": "7", "emotion": "joy"}, {"arousal": "5", "valence": "1"}])
    several = make_target(labelled(manifest, "valence, arousal"), "valence, arousal", CORPUS)
    assert several == Dimensions(name="valence,arousal", ranges={"valence": (1.0, 7.0), "arousal": (1.0, 7.0)})
    assert several.value(manifest["u0"]) == pytest.approx([1, 1 / 6])
    alone = make_target(manifest, "arousal", CORPUS)
    assert alone.settings() == {"task": "regression", "target": "arousal", "label_ranges": {"arousal": [1.0, 7.0]}}
    assert isinstance(make_target(manifest, "arousal", None), Classes)
    assert isinstance(make_target(manifest, "arousal", CORPUS, task="classification"), Classes)
    assert make_target(manifest, "arousal", CORPUS, label_range=(0, 10)).ranges == {"arousal": (0.0, 10.0)}


def test_numbers_of_no_known_range_are_scaled_by_their_own_and_it_is_told():
    target = make_target(
        manifest_of([{"rate": "30"}, {"rate": "-10"}, {"rate": "10"}]), "rate", None, task="regression"
    )
    assert target.ranges == {"rate": (-10.0, 30.0)}
    assert target.notes == (
        "Labels were scaled to [0, 1] by their lowest and highest value, test part included: rate -10 to 30.",
    )


@given(
    values=st.lists(st.floats(1, 7), min_size=2, max_size=9, unique=True),
    low=st.floats(-10, 1),
    high=st.floats(7, 90),
)
def test_values_are_scaled_to_0_and_1_and_back(values, low, high):
    manifest = manifest_of([{"v": repr(value)} for value in values])
    target = make_target(manifest, "v", None, task="regression", label_range=(low, high))
    for utterance, value in zip(manifest, values, strict=True):
        [scaled] = target.value(utterance)
        assert 0 <= scaled <= 1
        told, back = target.cells(utterance, [scaled])
        assert float(told) == value
        assert float(back) == pytest.approx(value, rel=1e-6, abs=1e-6 * max(abs(low), high))


def test_one_class_against_the_rest():
    manifest = manifest_of([{"emotion": name} for name in ("anger", "joy", "fear")])
    target = make_target(manifest, "emotion=joy", CORPUS)
    assert target.classes == (REST, "joy")
    assert [target.value(utterance) for utterance in manifest] == [0, 1, 0]
    assert target.cells(manifest["u2"], [0.2, 0.8]) == [REST, "joy", "0.2", "0.8"]
    assert [part.name for part in make_target(manifest, "emotion", CORPUS).parts()] == [
        "emotion=joy",
        "emotion=anger",
        "emotion=fear",
    ]


def test_a_label_that_is_called_like_several_is_itself():
    manifest = manifest_of([{"a,b": "x", "c=d": "1"}, {"a,b": "y", "c=d": "2"}])
    assert make_target(manifest, "a,b", None).classes == ("x", "y")
    assert make_target(manifest, "c=d", None, task="regression").ranges == {"c=d": (1.0, 2.0)}


NUMBERS = [{"arousal": "2", "emotion": "joy", "same": "3"}, {"arousal": "5", "emotion": "anger", "same": "3"}]


@pytest.mark.parametrize(
    ("labels", "name", "options", "told"),
    [
        (
            NUMBERS,
            "arousal",
            {"task": "ranking"},
            "no task 'ranking'; available: classification, multilabel, regression",
        ),
        (NUMBERS, "emotion,arousal", {}, r"label 'emotion' of utterance 'u0' is 'joy', expected a number"),
        (NUMBERS, "emotion,", {}, r"target 'emotion,': expected a label, LABEL=CLASS, or different labels"),
        (NUMBERS, "arousal,arousal", {}, "different labels separated by commas"),
        (NUMBERS, "emotion=hapy", {}, "target 'emotion=hapy': no class of emotion 'hapy'; available: anger, joy"),
        (NUMBERS, "emotion,arousal=2", {}, "a class belongs to one label; expected LABEL=CLASS"),
        (NUMBERS, "emotion=joy", {"task": "regression"}, "is a class, so it cannot be a regression"),
        (NUMBERS, "arousal,same", {"task": "classification"}, "a classification has one label; use --task regres"),
        (NUMBERS, "emotion", {"label_range": (1, 7)}, "--label-range is for regression, but 'emotion' is a classi"),
        (NUMBERS, "arousal", {"task": "regression", "label_range": (7, 1)}, "--label-range 7,1: expected the lowest"),
        (NUMBERS, "same", {"task": "regression"}, "label 'same' is 3 in every utterance; expected at least two"),
        (
            [{"arousal": "7.2"}, {"arousal": "2"}],
            "arousal",
            {},
            r"label 'arousal' of utterance 'u0' is 7.2, expected 1 to 7; correct the label, or give the possible range",
        ),
        ([{"arousal": "nan"}, {"arousal": "2"}], "arousal", {}, "utterance 'u0' is 'nan', expected a number"),
        (
            [{"x": str(i)} for i in range(30)],
            "x",
            {},
            "has 30 different numbers such as '0', too many for classes; use --task regression",
        ),
    ],
)
def test_what_cannot_be_predicted_is_told_in_one_line(labels, name, options, told):
    with pytest.raises(ManifestError, match=told) as caught:
        make_target(manifest_of(labels), name, CORPUS, **options)
    assert "\n" not in str(caught.value)


def test_a_dimension_that_does_not_exist_lists_those_that_do(cache):
    with pytest.raises(ManifestError, match=r"no utterance has a label 'arusal'; .* are: arousal, valence, emotion"):
        fit(features="ssl", target="arusal,valence", **SHORT)


def test_a_fold_that_trains_on_one_value_only_is_refused(make_cache):
    rows = [("train", "2"), ("train", "2"), ("validation", "3"), ("validation", "4"), ("test", "5"), ("test", "1")]
    make_cache(manifest=manifest_of([{"split": part, "arousal": value} for part, value in rows]))
    with pytest.raises(ProtocolError, match=r"trains on one value of 'arousal' only, 2\.0; use another protocol"):
        fit(target="arousal", task="regression", norm="none")


@pytest.mark.parametrize("head", ["dense", "lstm", "fusion", "linear", "svm"])
@pytest.mark.parametrize("norm", ["speaker", "global", "none"])
def test_every_head_and_normalisation_predicts_numbers(cache, head, norm):
    features = ["ssl", "more"] if head == "fusion" else ["ssl"]
    layers = "last" if head == "svm" else "all"
    run = fit(
        head=head,
        norm=norm,
        layers=layers,
        features=features,
        target="arousal,valence",
        task="regression",
        label_range=(1, 7),
        seeds=[1, 2],
        **options_for(head, SHORT),
    )
    table = run.predictions
    assert list(table.columns) == [
        "seed",
        "fold",
        "utterance_id",
        "speaker_id",
        "target_arousal",
        "prediction_arousal",
        "target_valence",
        "prediction_valence",
    ]
    seeds = [1] if head == "svm" else [1, 2]
    assert len(table) == len(seeds) * len(cache.manifest)
    for name in ("arousal", "valence"):
        expected = {i: float(label) for i, label in cache.manifest.labels(name).items()}
        assert (table[f"target_{name}"] == table["utterance_id"].map(expected)).all()
        per_seed = [plain_ccc(table[table["seed"] == seed], name) for seed in seeds]
        assert run.metrics[f"ccc_{name}"]["per_seed"] == pytest.approx(per_seed, abs=DIGITS)
        errors = [rmse(table[table["seed"] == seed], name) for seed in seeds]
        assert run.metrics[f"rmse_{name}"]["per_seed"] == pytest.approx(errors)
        assert run.metrics[f"scaled_rmse_{name}"]["per_seed"] == pytest.approx(np.divide(errors, 6))
    history = pd.read_csv(run.path / "history.csv")
    assert "validation_ccc" in history
    assert run.metrics["label_ranges"] == {"arousal": [1.0, 7.0], "valence": [1.0, 7.0]}
    assert score(load_predictions(run))["ccc"] == run.metrics["ccc"]
    assert score(read_predictions(run.path / "predictions.csv"))["ccc_valence"] == run.metrics["ccc_valence"]


def plain_ccc(table, name):
    x, y = table[f"target_{name}"].to_numpy(), table[f"prediction_{name}"].to_numpy()
    covariance = np.cov(x, y, bias=True)
    return 2 * covariance[0, 1] / (covariance[0, 0] + covariance[1, 1] + (x.mean() - y.mean()) ** 2)


def rmse(table, name):
    return np.sqrt(np.mean((table[f"target_{name}"] - table[f"prediction_{name}"]) ** 2))


def test_what_can_be_learned_is_learned(cache):
    training = {"learning_rate": 0.01, "patience": 50}
    run = fit(features="ssl", target="arousal,valence", norm="none", seeds=[1], **training)
    assert run.metrics["ccc_arousal"]["mean"] > 0.7
    assert run.metrics["ccc_valence"]["mean"] > 0.7


def test_seeds_and_targets_that_train_together_are_what_they_are_alone(cache):
    shared = {"features": "ssl", "task": "regression", "label_range": (1, 7), **SHORT}
    together = fit(**shared, target="arousal", seeds=[1, 2, 3], name="together")
    for seed in (1, 2, 3):
        alone = fit(**shared, target="arousal", seeds=[seed], name=f"alone-{seed}")
        of_seed = together.predictions.query("seed == @seed").reset_index(drop=True)
        pd.testing.assert_frame_equal(of_seed, alone.predictions, check_exact=True)


def test_a_scale_changes_no_ccc_but_its_unit_is_told(cache):
    wide = fit(features="ssl", target="arousal", task="regression", label_range=(1, 7), seeds=[1], **SHORT)
    own = fit(features="ssl", target="arousal", task="regression", seeds=[1], **SHORT)
    assert own.config["label_ranges"] == {"arousal": [1.0, 5.5]}
    assert "lowest and highest" in (own.path / "report.html").read_text()
    assert "lowest and highest" not in (wide.path / "report.html").read_text()
    assert "RMSE, labels scaled to [0, 1]" in (wide.path / "report.html").read_text()


def test_a_logistic_regression_of_numbers_is_refused_in_one_line(cache):
    told = "^head 'logistic' cannot learn 'arousal', a regression, but only a classification; use --head linear$"
    with pytest.raises(FeatcacheError, match=told):
        fit(head="logistic", features="ssl", layers="last", target="arousal", task="regression")


def test_runs_of_numbers_compare_in_every_dimension(cache):
    runs = sweep(norms=["speaker", "none"], features="ssl", target="arousal,valence", seeds=[1], **SHORT)
    found = compare({run.config["norm"]: load_predictions(run) for run in runs})
    assert [row.score for row in found] == ["ccc", "ccc_arousal", "ccc_valence"]
    for row in found:
        first, second = (run.metrics[row.score]["mean"] for run in runs)
        assert row.difference == pytest.approx(first - second)
        assert row.gain == (pytest.approx(100 * (first - second) / second) if second > 0 else None)


def test_votes_are_refused_for_numbers(cache):
    runs = sweep(norms=["speaker", "none"], features="ssl", target="arousal,valence", seeds=[1], **SHORT)
    with pytest.raises(FeatcacheError, match="is a regression; only runs that predict classes can vote"):
        ensemble(runs=[str(run.path) for run in runs], sizes=[2])


def test_trainings_on_one_number_and_batches_of_one_stay_finite(cache):
    run = fit(features="ssl", target="arousal,valence", seeds=[1], **{**SHORT, "batch_size": 1})
    assert np.isfinite(pd.read_csv(run.path / "history.csv")[["train_loss", "validation_loss"]]).all(axis=None)
    heads = list((run.path / "heads").glob("*.safetensors"))
    assert heads
    assert all(values.isfinite().all() for head in heads for values in load_file(head).values())
