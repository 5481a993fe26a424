"""Everything that reads runs shows a run of several labels, or refuses it in one line."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import featcache
from featcache.cli.app import app
from featcache.errors import FeatcacheError, PredictionsError, StoreError
from featcache.evaluate.compare import compare
from featcache.evaluate.predictions import read_predictions
from featcache.evaluate.scoring import score
from featcache.files.checksums import CHECKSUMS
from featcache.fitting.ensemble import ensemble
from featcache.fitting.fit import fit
from featcache.fitting.probe import probe_stores
from featcache.fitting.relevance import layer_relevance
from featcache.runs.file_names import METRICS
from featcache.runs.reader import RunFolder, load_predictions
from tests.targets.test_multilabel import OPTIONS, corpus

CHECKED = {"name": "labels", **OPTIONS}


@pytest.fixture
def home(make_cache, quick_reports, tmp_path, tmp_path_factory):
    """Return a workspace with the cache and a run, which is trained once."""
    kept = tmp_path_factory.getbasetemp() / "multilabel-run"
    make_cache(manifest=corpus())
    if not kept.exists():
        shutil.copytree(fit(**CHECKED).path, kept)
    else:
        shutil.copytree(kept, tmp_path / "data/runs/toy/labels")
    return tmp_path / "data"


@pytest.fixture
def run(home):
    return RunFolder(home / "runs/toy/labels")


def said(*words):
    found = CliRunner().invoke(app, words)
    assert found.exit_code == 0, found.output
    return found.output


def test_the_report_has_a_table_of_labels_and_no_confusion_matrix(run):
    page = (run.path / "report.html").read_text()
    assert "Scores per label" in page
    assert "Threshold" in page
    assert "Recall per class" not in page
    assert not list(run.path.glob("confusion*"))
    assert (run.path / "label_scores.png").exists()


def test_a_table_is_scored_as_the_run(run, tmp_path):
    path = run.path / "predictions.csv"
    found = score(read_predictions(path))
    assert {name: found[name] for name in ("uar", "macro_f1", "micro_f1", "per_label")} == {
        name: run.metrics[name] for name in ("uar", "macro_f1", "micro_f1", "per_label")
    }
    without = tmp_path / "own.csv"
    table = run.predictions.drop(columns=[column for column in run.predictions if column.startswith("p_")])
    table.to_csv(without, index=False)
    assert read_predictions(without).dimensions  # without probabilities, 0 and 1 may be values
    assert score(read_predictions(without, task="multilabel"))["uar"] == run.metrics["uar"]
    assert "anger" in said("score", str(path))
    table.assign(prediction_joy=2).to_csv(without, index=False)
    with pytest.raises(PredictionsError, match="prediction_joy is '2', expected 0 or 1"):
        read_predictions(without, task="multilabel")
    (tmp_path / "classes.csv").write_text("utterance_id,target,prediction\na,x,y\n")
    with pytest.raises(PredictionsError, match="no columns target_LABEL and prediction_LABEL"):
        read_predictions(tmp_path / "classes.csv", task="multilabel")


def test_runs_are_listed_compared_and_tabled(run):
    other = fit(**{**CHECKED, "name": "other", "target": "anger,fear,joy"})
    found = compare({"a": load_predictions(run), "b": load_predictions(other)})
    assert [one.score for one in found] == ["uar", "macro_f1", "micro_f1"]
    assert found[0].difference == pytest.approx(0)  # the same labels in another form of the manifest
    classes = fit(target="gender", protocol="group-kfold", seeds=1, max_epochs=1)
    with pytest.raises(PredictionsError, match=r"^a predicts anger, fear, joy, but b predicts classes"):
        compare({"b": load_predictions(classes), "a": load_predictions(run)})
    assert "labels" in said("runs")
    assert "UAR" in said("table", "labels", "other")
    said("compare", "labels", "other")
    said("report")


def test_votes_and_support_vector_machines_are_refused(run, tmp_path):
    with pytest.raises(PredictionsError, match="predicts several labels; only runs that predict one class can vote"):
        ensemble(runs=["labels", str(run.path / "predictions.csv")])
    tables = [shutil.copy(run.path / "predictions.csv", tmp_path / f"{name}.csv") for name in "ab"]
    with pytest.raises(PredictionsError, match="predicts several labels; only predictions of one class can vote"):
        ensemble(runs=list(map(str, tables)))
    with pytest.raises(FeatcacheError, match=r"^head 'svm' cannot learn 'emotions', a multilabel") as error:
        fit(**{**OPTIONS, "head": "svm", "layers": "last"})
    assert "\n" not in str(error.value)


def test_probes_and_relevance_take_each_label(home):
    probes = probe_stores(["ssl"], target="emotions", task="multilabel")
    assert [target.short_name for target in probes.targets] == ["anger", "fear", "joy"]
    [(_, scores)] = probes.scores
    assert set(scores["target"]) == {"emotions=anger", "emotions=fear", "emotions=joy"}
    assert scores["score"].between(0, 100).all()
    [relevance] = layer_relevance(["ssl"], target="anger,joy", task="multilabel", seeds=1, max_epochs=1)
    assert sorted(relevance.runs) == ["anger", "joy"]
    assert (relevance.score, relevance.chance) == ("uar", 50)
    again = relevance.runs["anger"]
    assert again.config["label_names"] == ["anger"]


def test_a_probe_of_a_label_is_that_of_two_classes(home):
    expected = probe_stores(["ssl"], target="anger", task="classification").scores[0][1]
    found = probe_stores(["ssl"], target="anger,joy", task="multilabel").scores[0][1].query("target == 'anger'")
    np.testing.assert_allclose(found["score"], expected["score"])


def test_a_run_is_made_again_from_its_configuration(run, home):
    again = featcache.fit(config=run.path, name="again")
    assert again.predictions.equals(run.predictions)
    final = fit(**{**CHECKED, "name": "final", "final": True})
    assert final.metrics["chance_uar"] == 50
    assert set(final.metrics["validation"]) == {"uar", "macro_f1", "micro_f1"}
    assert "labels" in said("runs")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"per_label": {"anger": {"f1": {}, "uar": {}, "support": 1}}}, "mean, std missing"),
        ({"per_label": {"anger": 5}}, "per_label.anger"),
        ({"thresholds": {"anger": {"mean": "x", "std": None, "per_training": []}}}, "mean"),
        ({"thresholds": {"anger": {"mean": 0.5, "std": None, "per_training": ["x"]}}}, "per_training"),
    ],
)
def test_damaged_scores_are_one_line(run, change, message):
    metrics = json.loads((run.path / METRICS).read_text())
    (run.path / METRICS).write_text(json.dumps({**metrics, **change}))
    Path(run.path / CHECKSUMS).unlink()
    with pytest.raises(StoreError, match=message) as error:
        RunFolder(run.path).metrics  # noqa: B018, reading it is the test
    assert "\n" not in str(error.value)
