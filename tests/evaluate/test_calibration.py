"""Calibration against a slow plain loop, and what it refuses to compute."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import brier_score_loss

from featcache.evaluate.calibration import NUM_BINS, calibration_of, mark_pseudo, without_probabilities
from featcache.evaluate.metrics import summarise
from featcache.evaluate.predictions import checked

CLASSES = ["anger", "joy", "sadness"]
# The loop and the code add the same numbers in another order.
ROUNDING = 1e-9


def table(probabilities, target, seed=1):
    predicted = np.array(CLASSES)[probabilities.argmax(axis=1)]
    rows = pd.DataFrame(
        {
            "seed": seed,
            "fold": 1,
            "utterance_id": [f"u{i:03}" for i in range(len(target))],
            "speaker_id": [f"s{i % 4}" for i in range(len(target))],
            "target": np.array(CLASSES)[target],
            "prediction": predicted,
        }
    )
    return rows.assign(**{f"p_{label}": probabilities[:, i] for i, label in enumerate(CLASSES)})


@pytest.fixture
def predictions(rng):
    target = rng.integers(3, size=120)
    # Whole thousandths give confidences that are equal to an edge of a bin, such as 0.4 and 0.6.
    tables = []
    for seed in (1, 2):
        counts = rng.multinomial(5, rng.dirichlet([0.4, 0.4, 0.4]), size=120)
        tables.append(table(counts / 5, target, seed))
    return pd.concat(tables)


def plain_ece(rows):
    """Return the ECE as Guo et al. 2017 define it: bins (m − 1, m] / 15 of the confidence."""
    total = 0.0
    for m in range(1, NUM_BINS + 1):
        inside = []
        for row in rows.to_dict("records"):
            confidence = row[f"p_{row['prediction']}"]
            if (m - 1) / NUM_BINS < confidence <= m / NUM_BINS:
                inside.append((confidence, row["target"] == row["prediction"]))
        if inside:
            accuracy = sum(right for _, right in inside) / len(inside)
            mean = sum(confidence for confidence, _ in inside) / len(inside)
            total += len(inside) / len(rows) * abs(accuracy - mean)
    return 100 * total


def test_ece_is_that_of_a_plain_loop_and_brier_that_of_scikit_learn(predictions):
    found = calibration_of(checked(predictions, classes=CLASSES))
    of_seeds = [rows for _, rows in predictions.groupby("seed")]
    expected = [plain_ece(rows) for rows in of_seeds]
    assert found["ece"]["per_seed"] == pytest.approx(expected, abs=ROUNDING)
    assert found["ece"]["mean"] == pytest.approx(np.mean(expected))
    assert found["ece"]["std"] == pytest.approx(np.std(expected, ddof=1))
    for rows, brier in zip(of_seeds, found["brier"]["per_seed"], strict=True):
        of_classes = [brier_score_loss(rows["target"] == label, rows[f"p_{label}"]) for label in CLASSES]
        assert brier == pytest.approx(sum(of_classes), abs=ROUNDING)


def test_bins_hold_the_predictions_of_all_seeds(predictions):
    bins = calibration_of(checked(predictions, classes=CLASSES))["bins"]
    assert sum(bins["count"]) == len(predictions)
    confidence = predictions[[f"p_{label}" for label in CLASSES]].max(axis=1)
    right = predictions["target"] == predictions["prediction"]
    inside = (confidence > 8 / 15) & (confidence <= 9 / 15)  # 0.6 is the upper edge of the ninth bin
    assert bins["count"][8] == inside.sum() > 0
    assert bins["accuracy"][8] == pytest.approx(100 * right[inside].mean())
    assert bins["confidence"][8] == pytest.approx(60)
    empty = [position for position, count in enumerate(bins["count"]) if not count]
    assert empty
    assert all(bins[name][position] is None for name in ("accuracy", "confidence") for position in empty)


def test_right_and_sure_is_calibrated_and_wrong_and_sure_is_not():
    sure = np.eye(3)[[0, 1, 2, 0]]
    right, wrong = (checked(table(sure, target), classes=CLASSES) for target in ([0, 1, 2, 0], [1, 2, 0, 1]))
    assert calibration_of(right)["ece"] == {"mean": 0, "std": None, "per_seed": [0]}
    assert (calibration_of(wrong)["ece"]["mean"], calibration_of(wrong)["brier"]["mean"]) == (100, 2)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda rows: rows.drop(columns=["p_joy"]), "there is no column 'p_joy'"),
        (lambda rows: rows.assign(p_joy="high"), "a probability is not a number from 0 to 1"),
        (lambda rows: rows.assign(p_joy=1.5), "a probability is not a number from 0 to 1"),
        (lambda rows: rows.assign(p_joy=0.9, p_anger=0.9), "the probabilities of an utterance do not add up to 1"),
    ],
)
def test_other_columns_give_no_calibration(predictions, change, reason):
    changed = checked(change(predictions), classes=CLASSES)
    assert calibration_of(changed) is None
    assert reason.replace("'", "") in without_probabilities(changed).replace("'", "")
    assert "calibration" not in summarise(change(predictions), CLASSES)


def test_pseudo_probabilities_are_marked(predictions):
    for config, marked in (({"head": "svm"}, True), ({"head": "x", "vote": "hard"}, True), ({"head": "dense"}, None)):
        metrics = summarise(predictions, CLASSES)
        mark_pseudo(metrics, config)
        assert metrics["calibration"].get("pseudo_probabilities") is marked
    mark_pseudo({}, {"head": "svm"})
