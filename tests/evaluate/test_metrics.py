"""Scores against scikit-learn, and the aggregation over seeds and folds."""

import json
import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats
from sklearn import metrics as sklearn_metrics

from featcache.errors import PredictionsError
from featcache.evaluate.metrics import macro_f1, recall_per_class, summarise, uar, wa

CLASSES = ("anger", "joy", "neutral", "sadness")
ROUNDING = 1e-9  # percent; rounding of sums of few numbers in different order

labels = st.sampled_from(CLASSES)
pairs = st.lists(st.tuples(labels, labels), min_size=1, max_size=30).map(lambda rows: tuple(zip(*rows, strict=True)))


def table(*rows, seed=0):
    """Make predictions from rows (fold, utterance, speaker, target, prediction)."""
    columns = ["fold", "utterance_id", "speaker_id", "target", "prediction"]
    return pd.DataFrame(rows, columns=columns).assign(seed=seed)


@pytest.fixture
def predictions():
    rng = np.random.default_rng(1)
    num_utterances = 60
    target = rng.choice(CLASSES, num_utterances)
    speaker = rng.integers(0, 5, num_utterances)
    seeds = []
    for seed in (123, 7, 45):
        right = rng.random(num_utterances) < 0.6
        prediction = np.where(right, target, rng.choice(CLASSES, num_utterances))
        ids = [f"u{i:02}" for i in range(num_utterances)]
        speakers = [f"s{i}" for i in speaker]
        seeds.append(table(*zip(speaker // 2, ids, speakers, target, prediction, strict=True), seed=seed))
    return pd.concat(seeds, ignore_index=True)


@given(pairs)
def test_scores_equal_scikit_learn(pair):
    target, prediction = pair
    present = sorted(set(target))
    recalls = sklearn_metrics.recall_score(target, prediction, labels=present, average=None)
    assert uar(target, prediction) == pytest.approx(recalls.mean())
    assert wa(target, prediction) == pytest.approx(sklearn_metrics.accuracy_score(target, prediction))
    assert macro_f1(target, prediction) == pytest.approx(sklearn_metrics.f1_score(target, prediction, average="macro"))
    assert recall_per_class(target, prediction) == pytest.approx(dict(zip(present, recalls, strict=True)))


@given(pairs)
def test_uar_is_balanced_accuracy(pair):
    with warnings.catch_warnings(action="ignore"):  # scikit-learn warns of predicted classes that are never true
        expected = sklearn_metrics.balanced_accuracy_score(*pair)
    assert uar(*pair) == pytest.approx(expected)


@settings(max_examples=10, deadline=None)
@given(pairs)
def test_summary_equals_the_scores_of_the_labels(pair):
    rows = [(0, f"u{i}", f"s{i % 3}", *labels) for i, labels in enumerate(zip(*pair, strict=True))]
    summary = summarise(table(*rows), CLASSES)
    for name, score in {"uar": uar, "wa": wa, "macro_f1": macro_f1}.items():
        assert summary[name]["mean"] == pytest.approx(100 * score(*pair))
        assert summary[name]["mean_over_folds"] == pytest.approx(100 * score(*pair))
    recalls = recall_per_class(*pair)
    for label in CLASSES:
        expected = 100 * recalls[label] if label in recalls else None
        assert summary["recall"][label]["mean"] == (None if expected is None else pytest.approx(expected))


def test_seeds_are_scored_one_by_one_in_their_order(predictions):
    summary = summarise(predictions, CLASSES)
    of_seed = {seed: 100 * uar(rows["target"], rows["prediction"]) for seed, rows in predictions.groupby("seed")}
    expected = [of_seed[7], of_seed[45], of_seed[123]]
    assert summary["uar"]["per_seed"] == pytest.approx(expected)
    assert summary["uar"]["mean"] == pytest.approx(np.mean(expected))
    assert summary["uar"]["std"] == pytest.approx(np.std(expected, ddof=1))


def test_one_seed_has_no_standard_deviation(predictions):
    summary = summarise(predictions[predictions["seed"] == 7], CLASSES)
    assert summary["uar"]["std"] is None
    assert summary["recall"]["joy"]["std"] is None


def test_concatenated_folds_and_mean_over_folds_differ():
    # Recalls in fold 0: joy 1, sadness 0. Recalls in fold 1: joy 1/3, sadness 1.
    rows = [
        (0, "a", "s0", "joy", "joy"),
        (0, "b", "s0", "sadness", "joy"),
        (1, "c", "s1", "joy", "joy"),
        (1, "d", "s1", "joy", "sadness"),
        (1, "e", "s1", "joy", "sadness"),
        (1, "f", "s1", "sadness", "sadness"),
    ]
    summary = summarise(table(*rows), ("joy", "sadness"))
    assert summary["uar"]["mean"] == pytest.approx(100 * (2 / 4 + 1 / 2) / 2)
    assert summary["uar"]["mean_over_folds"] == pytest.approx(100 * ((1 + 0) / 2 + (1 / 3 + 1) / 2) / 2)


def test_mean_over_folds_equals_a_plain_loop(predictions):
    of_seeds = [
        np.mean([100 * macro_f1(fold["target"], fold["prediction"]) for _, fold in rows.groupby("fold")])
        for _, rows in predictions.groupby("seed")
    ]
    summary = summarise(predictions, CLASSES)
    assert summary["macro_f1"]["mean_over_folds"] == pytest.approx(np.mean(of_seeds))


def test_confusion_is_the_mean_over_seeds(predictions):
    order = list(reversed(CLASSES))
    expected = np.mean(
        [
            sklearn_metrics.confusion_matrix(rows["target"], rows["prediction"], labels=order)
            for _, rows in predictions.groupby("seed")
        ],
        axis=0,
    )
    confusion = summarise(predictions, order)["confusion"]
    assert confusion["classes"] == order
    np.testing.assert_allclose(confusion["counts"], expected)


def test_counts_and_chance(predictions):
    summary = summarise(predictions, (*CLASSES, "surprise"))
    assert summary["num_seeds"] == 3
    assert summary["num_folds"] == predictions["fold"].nunique()
    assert summary["num_utterances"] == 60
    assert summary["num_speakers"] == 5
    assert summary["chance_uar"] == 25  # surprise is never the target
    assert summary["recall"]["surprise"] == {"mean": None, "std": None, "per_seed": [None] * 3}


@pytest.mark.parametrize("unknown", ["", None, np.nan])
def test_unknown_speakers(predictions, unknown):
    summary = summarise(predictions.assign(speaker_id=unknown), CLASSES)
    assert summary["num_speakers"] == 0
    assert summary["bootstrap"] == {"unit": "utterances", "count": 60}


def test_guessing_one_class_scores_chance(predictions):
    summary = summarise(predictions.assign(prediction="joy"), CLASSES)
    assert summary["uar"]["mean"] == pytest.approx(summary["chance_uar"])


def test_summary_survives_json(predictions):
    summary = summarise(predictions, (*CLASSES, "surprise"))
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary


def test_order_of_rows_does_not_matter_and_input_stays(predictions):
    before = predictions.copy()
    shuffled = predictions.sample(frac=1, random_state=3)
    first, second = summarise(predictions, CLASSES), summarise(shuffled, CLASSES)
    for name in ("uar", "wa", "macro_f1"):
        assert first[name]["mean"] == pytest.approx(second[name]["mean"], abs=ROUNDING)
        assert first[name]["ci95"] == pytest.approx(second[name]["ci95"], abs=ROUNDING)
    pd.testing.assert_frame_equal(predictions, before)


def test_labels_and_ids_may_be_numbers(predictions):
    numbers = {label: i for i, label in enumerate(CLASSES)}
    as_numbers = predictions.assign(
        target=predictions["target"].map(numbers),
        prediction=predictions["prediction"].map(numbers),
        speaker_id=predictions["speaker_id"].str[1:].astype(int),
    )
    assert summarise(as_numbers, ["0", "1", "2", "3"])["uar"] == summarise(predictions, CLASSES)["uar"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.drop(columns=["fold", "target"]), r"no column 'fold', 'target'; there are: utterance_id, speaker"),
        (lambda t: t.iloc[:0], "no predictions to score"),
        (lambda t: t.replace({"target": {"joy": "happy"}}), "unknown target 'happy', expected one of: anger, joy"),
        (lambda t: t.replace({"prediction": {"joy": None}}), "prediction is 'None', expected a value"),
        (lambda t: pd.concat([t, t.iloc[[3]]]), "utterance 'u03' occurs twice in seed 123 and fold"),
        (lambda t: t.drop(index=0), "seed 123 tested 59 of 60 utterances"),
    ],
)
def test_faulty_predictions_are_told(predictions, change, message):
    with pytest.raises(PredictionsError, match=message):
        summarise(change(predictions), CLASSES)


def test_an_interval_is_nearly_that_of_the_jackknife(predictions):
    one = predictions[predictions["seed"] == predictions["seed"].min()]
    found = summarise(one, CLASSES)
    speakers = sorted(one["speaker_id"].unique())
    whole = uar(one["target"], one["prediction"])
    without = [one[one["speaker_id"] != speaker] for speaker in speakers]
    left = np.array([uar(rows["target"], rows["prediction"]) for rows in without])
    number = len(speakers)
    error = np.sqrt((number - 1) / number * ((left - left.mean()) ** 2).sum())
    steps = stats.t(number - 1).ppf([0.025, 0.975]) * error / (whole * (1 - whole))
    expected = 100 * special.expit(special.logit(whole) + steps)
    # The jackknife leaves out units instead of changing weights. The results differ by the order of 1 / 5 (5 units).
    np.testing.assert_allclose(found["uar"]["ci95"], expected, atol=0.2 * np.ptp(expected))
    assert found["bootstrap"] == {"unit": "speakers", "count": number}


def test_intervals_over_utterances_stand_beside(predictions):
    summary = summarise(predictions, CLASSES)
    alone = summarise(predictions.assign(speaker_id=""), CLASSES)
    for name in ("uar", "wa", "macro_f1"):
        assert summary[name]["ci95_utterances"] == pytest.approx(alone[name]["ci95"])
        assert alone[name]["ci95_utterances"] == alone[name]["ci95"]
        low, high = summary[name]["ci95_utterances"]
        assert low < summary[name]["mean"] < high


def test_a_class_of_one_speaker_alone_stays_in_the_interval():
    # With resampling of speakers, samples without speaker b have no joy, and their UAR is the recall of anger alone.
    rows = [(0, "1", "a", "anger", "anger"), (0, "2", "a", "anger", "anger"), (0, "5", "c", "anger", "joy")]
    rows += [(0, "3", "b", "joy", "anger"), (0, "4", "b", "joy", "anger")]
    found = summarise(table(*rows), ["anger", "joy"])["uar"]
    low, high = found["ci95"]
    assert low < found["mean"] < high
    assert found["mean"] == pytest.approx(100 / 3)


def test_the_classes_of_f1_are_those_of_all_seeds():
    # Only the first seed predicts a class that is never true, but the mean is over three classes in both seeds.
    right = [("1", "a", "anger"), ("2", "b", "anger"), ("3", "c", "joy"), ("4", "d", "joy")]
    first = table(*[(0, *row, "fear" if row[0] == "1" else row[2]) for row in right], seed=0)
    second = table(*[(0, *row, row[2]) for row in right], seed=1)
    both = pd.concat([first, second])
    found = summarise(both, ["anger", "fear", "joy"])["macro_f1"]
    expected = [
        100
        * sklearn_metrics.f1_score(
            rows["target"], rows["prediction"], labels=["anger", "fear", "joy"], average="macro", zero_division=0
        )
        for rows in (first, second)
    ]
    assert found["per_seed"] == pytest.approx(expected)
    assert summarise(both, ["anger", "fear", "joy", "unused"])["macro_f1"]["per_seed"] == pytest.approx(expected)
    assert found["mean_over_folds"] == pytest.approx(found["mean"])
