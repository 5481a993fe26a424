"""Scores of speakers and groups against scikit-learn, and outcomes of utterances against plain loops."""

import math
import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import balanced_accuracy_score

from featcache.evaluate.predictions import checked
from featcache.evaluate.regression import summarise_regression
from featcache.report.breakdown import group_scores, label_groupings, speaker_grouping, utterance_outcomes
from tests.report.saved_runs import CLASSES, make_manifest, predictions_of


@pytest.fixture(scope="module")
def table():
    return predictions_of(make_manifest(), right=0.6, seeds=3)


def test_scores_of_speakers_are_those_of_scikit_learn_for_their_rows(table):
    found = group_scores(checked(table, classes=CLASSES), {"speaker": speaker_grouping(checked(table))})["speaker"]
    assert [one.name for one in found] == ["01", "02", "03", "04"]
    for one in found:
        rows = table[table["speaker_id"] == one.name]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a class is predicted for this speaker but never true
            scores = [100 * balanced_accuracy_score(r["target"], r["prediction"]) for _, r in rows.groupby("seed")]
        assert one.score == pytest.approx(np.mean(scores))
        assert one.std == pytest.approx(np.std(scores, ddof=1))
        assert one.num_utterances == 6


def test_a_group_of_a_regression_has_the_score_of_its_rows(rng):
    rows = pd.DataFrame({"seed": 0, "fold": 1, "utterance_id": [f"u{i}" for i in range(30)], "speaker_id": "a"})
    rows["target_v"] = rng.normal(size=30)
    rows["prediction_v"] = rows["target_v"] + rng.normal(size=30)
    groups = {f"u{i}": "even" if i % 2 == 0 else "odd" for i in range(28)}
    found = group_scores(checked(rows, dimensions=["v"]), {"parity": groups})["parity"]
    expected = summarise_regression(rows[rows["utterance_id"].map(groups) == "even"], ["v"])["ccc"]["mean"]
    assert {one.name: one.num_utterances for one in found} == {"even": 14, "odd": 14}
    assert found[0].score == pytest.approx(expected)


def test_labels_that_follow_from_the_target_or_the_speaker_are_no_groups():
    manifest = make_manifest()
    for one in manifest:
        one.labels["valence"] = "low" if one.labels["emotion"] == "sadness" else "high"
        one.labels["actor"] = f"actor {one.speaker_id}"
        one.labels["file"] = one.utterance_id
    assert set(label_groupings(manifest, ["emotion"])) == {"gender"}
    assert set(label_groupings(manifest, ["other"])) == {"gender", "emotion", "valence"}


def test_outcomes_are_those_of_plain_loops(table):
    found = utterance_outcomes(checked(table, classes=CLASSES)).set_index("utterance_id")
    for utterance_id, rows in table.groupby("utterance_id"):
        one = found.loc[utterance_id]
        assert one["heads"] == len(rows)
        assert one["right"] == pytest.approx(100 * (rows["target"] == rows["prediction"]).mean())
        assert one["agreement"] == pytest.approx(100 * (rows["prediction"] == one["prediction"]).mean())
        assert one["confidence"] == pytest.approx(
            100 * np.mean([row[f"p_{row['target']}"] for _, row in rows.iterrows()])
        )
    assert found.iloc[0]["right"] == 0
    assert list(found["right"]) == sorted(found["right"])
    without = utterance_outcomes(checked(table.drop(columns="p_joy"), classes=CLASSES))
    assert without["confidence"].isna().all()


def test_outcomes_of_a_regression_are_those_of_plain_loops(rng):
    rows = pd.DataFrame({"seed": [0] * 5 + [1] * 5, "fold": 1, "utterance_id": [*"abcde"] * 2, "speaker_id": ""})
    rows["target_v"] = [1.0, 2.0, 3.0, 4.0, 5.0] * 2
    rows["prediction_v"] = rng.normal(3, 1, 10)
    found = utterance_outcomes(checked(rows, dimensions=["v"])).set_index("utterance_id")
    for utterance_id, own in rows.groupby("utterance_id"):
        values, one = own["prediction_v"].to_numpy(), found.loc[utterance_id]
        assert one["prediction_v"] == pytest.approx(values.mean())
        assert one["std_v"] == pytest.approx(math.sqrt(((values - values.mean()) ** 2).mean()))
        assert one["error_v"] == pytest.approx(abs(own["target_v"].iloc[0] - values.mean()))
    assert list(found["error_v"]) == sorted(found["error_v"], reverse=True)
