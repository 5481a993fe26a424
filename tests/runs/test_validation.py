"""Validation scores: recorded, or computed for runs of earlier releases."""

from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, balanced_accuracy_score

from featcache.errors import PredictionsError, StoreError
from featcache.runs.reader import RunFolder
from featcache.runs.validation import validation_scores

EARLIER = Path(__file__).parents[1] / "data" / "home" / "runs" / "toy"
UAR = {"mean": 61.5, "std": None, "per_seed": [61.5]}
HEADER = "seed,fold,utterance_id,speaker_id,"


@pytest.mark.parametrize("name", ["dense", "linear", "vote"])
def test_scores_of_earlier_releases_are_computed(name):
    run = RunFolder(EARLIER / name)
    assert "validation" not in run.metrics
    found, by_seed = validation_scores(run), run.validation_predictions.groupby("seed")
    assert list(found) == ["uar", "wa", "macro_f1"]
    for score, function in (("uar", balanced_accuracy_score), ("wa", accuracy_score)):
        expected = [100 * function(rows["target"], rows["prediction"]) for _, rows in by_seed]
        assert found[score] == {
            "mean": pytest.approx(np.mean(expected)),
            "std": pytest.approx(np.std(expected, ddof=1)),
            "per_seed": pytest.approx(expected),
        }


def test_scores_of_a_regression_are_in_its_unit_and_scaled():
    run = RunFolder(EARLIER / "arousal")
    found, table = validation_scores(run), run.validation_predictions
    x, y = table["target_arousal"], table["prediction_arousal"]
    ccc = 2 * np.cov(x, y, ddof=0)[0, 1] / (x.var(ddof=0) + y.var(ddof=0) + (x.mean() - y.mean()) ** 2)
    assert found["ccc"] == found["ccc_arousal"]
    assert (found["ccc"]["mean"], found["ccc"]["std"]) == (pytest.approx(ccc), None)
    assert found["rmse"]["mean"] == pytest.approx(np.sqrt(((x - y) ** 2).mean()))
    assert found["scaled_rmse"]["mean"] == pytest.approx(found["rmse"]["mean"] / 4)  # arousal is 1 to 5
    assert set(found) == {name for name, score in run.metrics.items() if isinstance(score, dict) and "mean" in score}


def test_recorded_scores_are_read(make_run, tmp_path):
    assert validation_scores(RunFolder(make_run(tmp_path / "run", metrics={"validation": {"uar": UAR}}))) == {
        "uar": UAR
    }


def test_a_run_without_validation_predictions_has_no_scores(make_run, tmp_path):
    assert validation_scores(RunFolder(make_run(tmp_path / "run"))) == {}


@pytest.mark.parametrize(
    ("scores", "told"),
    [
        ([], "validation"),
        ({"uar": 60}, "validation.uar"),
        ({"uar": {"mean": "60"}}, "mean"),
        ({"uar": {"mean": 60, "per_seed": ["60"]}}, "validation.uar.per_seed: unexpected number or type of items"),
        ({"<b>uar": UAR}, "validation: no score is called '<b>uar'"),
    ],
)
def test_damaged_scores_are_told_in_one_line(make_run, tmp_path, scores, told):
    with pytest.raises(StoreError, match=r"metrics\.json") as error:
        RunFolder(make_run(tmp_path / "run", metrics={"validation": scores}))
    assert told in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_value_is_told(make_run, tmp_path):
    run = RunFolder(make_run(tmp_path / "run", metrics={"validation": {"uar": {"mean": 60}}}))
    with pytest.raises(StoreError, match="std missing"):
        validation_scores(run)["uar"]["std"]


def test_predictions_that_cannot_be_scored_name_their_file(make_run, tmp_path):
    folder = make_run(tmp_path / "run", config={"head": "dense", "classes": ["anger", "joy"]})
    (folder / "validation_predictions.csv").write_text(f"{HEADER}target,prediction\n1,1,u1,03,anger,rage\n")
    with pytest.raises(PredictionsError, match=r"validation_predictions.csv: unknown prediction 'rage'"):
        validation_scores(RunFolder(folder))
