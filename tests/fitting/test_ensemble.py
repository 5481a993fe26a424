"""Ensembles as run folders: their content, the commands that accept them, and runs that may not vote."""

import json

import numpy as np
import pandas as pd
import pytest
import yaml

from featcache.cli.listing import print_runs
from featcache.cli.scores import print_ensemble
from featcache.errors import PredictionsError, StoreError
from featcache.evaluate.compare import compare
from featcache.evaluate.metrics import summarise
from featcache.fitting.ensemble import ensemble
from featcache.runs.reader import RunFolder, finished_runs, load_predictions
from featcache.workspace import Workspace

CLASSES = ["anger", "joy"]

pytestmark = pytest.mark.usefixtures("quick_reports")


def rows(rng, skill, *, folds, prefix=""):
    """Make predictions of two seeds for eight utterances of four speakers; probabilities favour the target slightly."""
    table = []
    for seed in (1, 2):
        for i in range(32):
            logits = rng.normal(size=2) + skill * np.eye(2)[i % 2]
            p = np.exp(logits) / np.exp(logits).sum()
            label = CLASSES[int(p.argmax())]
            table.append([seed, folds[i % 4], f"{prefix}u{i:02}", f"0{i % 4}", CLASSES[i % 2], label, *p])
    columns = ["seed", "fold", "utterance_id", "speaker_id", "target", "prediction", "p_anger", "p_joy"]
    return pd.DataFrame(table, columns=columns)


@pytest.fixture
def make_run(rng, tmp_path):
    """Return ``make_run(name, skill, config changes)``; the validation part is the test part of the other fold."""

    def make(name, skill=1.0, *, cross_validation=True, **changes):
        folder = Workspace.at().runs(changes.get("corpus", "toy")) / name
        folder.mkdir(parents=True)
        test = rows(rng, skill, folds=(1, 1, 2, 2))
        test.to_csv(folder / "predictions.csv", index=False)
        prefix = "" if cross_validation else "v"
        rows(rng, skill, folds=(2, 2, 1, 1), prefix=prefix).to_csv(folder / "validation_predictions.csv", index=False)
        config = {
            "corpus": "toy",
            "features": {name: "1234"},
            "untrained": [],
            "layers": "all",
            "head": "dense",
            "norm": "speaker",
            "protocol": "loso",
            "target": "emotion",
            "select": {},
            "classes": CLASSES,
            "seeds": [1, 2],
        }
        (folder / "config.yaml").write_text(yaml.safe_dump({**config, **changes}))
        (folder / "metrics.json").write_text(json.dumps(summarise(test, CLASSES)))
        return folder

    return make


@pytest.fixture
def four(make_run):
    return [make_run(name, skill).name for name, skill in (("a", 0.4), ("b", 0.8), ("c", 1.2), ("d[red]", 1.6))]


def test_an_ensemble_is_a_run(four, capsys):
    run = ensemble(runs=four, name="vote")
    assert run.path == Workspace.at().runs("toy") / "vote"
    present = {path.name for path in run.path.iterdir()}
    assert present >= {
        "config.yaml",
        "metrics.json",
        "predictions.csv",
        "validation_predictions.csv",
        "layer_weights.csv",
        "combinations.csv",
        "classification_report.txt",
        "classification_report.csv",
        "confusion_matrix.csv",
        "confusion_matrix_normalised.csv",
        "confusion_matrix.png",
        "confusion_matrix.svg",
        "report.html",
    }
    further = {"uar_chosen_by_fold", "validation"}
    assert {name: value for name, value in run.metrics.items() if name not in further} == summarise(
        run.predictions, CLASSES
    )
    first = pd.read_csv(run.path / "combinations.csv").iloc[0]
    assert run.metrics["validation"]["uar"]["mean"] == pytest.approx(first["validation_uar"])
    assert run.layer_weights.empty
    assert [found.name for found in finished_runs(Workspace.at(), "toy")][-1] == "vote"
    print_runs([run])
    assert f"{run.config['vote']} vote" in capsys.readouterr().out
    member = RunFolder(Workspace.at().runs("toy") / "a")
    [found, _] = compare({"vote": load_predictions(run), "a": load_predictions(member)})
    assert found.first_mean == pytest.approx(run.metrics["uar"]["mean"])


def test_the_config_says_who_votes_and_how(four):
    run = ensemble(runs=four, sizes=[3], votes=["hard"])
    config = run.config
    assert set(config["members"]) < set(four)
    assert len(config["members"]) == 3
    assert (config["vote"], config["head"]) == ("hard", "hard vote of 3")
    assert set(config["features"]) == set(config["members"])
    assert (config["norm"], config["layers"], config["protocol"]) == ("speaker", "all", "loso")
    best = pd.read_csv(run.path / "combinations.csv").iloc[0]
    assert best["members"] == " + ".join(config["members"])
    assert best["test_uar"] == pytest.approx(run.metrics["uar"]["mean"])
    assert run.name.startswith("ensemble_loso_")


def test_what_members_do_not_share_is_mixed(make_run):
    names = [make_run(name, norm=norm, untrained=[name]).name for name, norm in (("a", "speaker"), ("b", "none"))]
    run = ensemble(runs=names)
    assert (run.config["norm"], run.config["untrained"]) == ("mixed", ["a", "b"])
    assert run.config["members"] == ["a", "b"]  # two runs vote, although the defaults are three and five


def test_the_page_warns_and_escapes(four):
    text = (ensemble(runs=four).path / "report.html").read_text(encoding="utf-8")
    assert "Only 4 speakers: the intervals are rough." in text
    assert "the members were chosen on utterances that other folds test" in text
    assert "speaker normalisation of members is transductive" in text


def test_one_split_has_no_choice_by_fold(make_run):
    runs = [make_run(name, cross_validation=False).name for name in "ab"]
    run = ensemble(runs=runs)
    assert "uar_chosen_by_fold" not in run.metrics
    assert "other folds test" not in (run.path / "report.html").read_text(encoding="utf-8")


def test_an_ensemble_there_is_kept_unless_told(four):
    first = ensemble(runs=four, name="vote", votes=["soft"])
    told = r"vote exists already, with other candidates or votes \(votes differ\); use another --name, or replace it"
    with pytest.raises(StoreError, match=told):
        ensemble(runs=four, name="vote")
    (first.path / "extra").touch()
    again = ensemble(runs=four, name="vote", votes=["hard"], overwrite=True)
    assert again.config["vote"] == "hard"
    assert not (again.path / "extra").exists()
    assert {path.name for path in again.path.parent.iterdir()} == {*four, "vote"}


@pytest.mark.parametrize("name", [None, "vote"])
def test_the_same_ensemble_is_given_back_and_not_made_twice(four, monkeypatch, name):
    first = ensemble(runs=four, name=name)
    monkeypatch.setattr("featcache.fitting.ensemble.choose", None)
    again = ensemble(runs=four, name=name)
    assert (again.path, again.config, again.metrics) == (first.path, first.config, first.metrics)
    with pytest.raises(TypeError):  # an ensemble votes
        ensemble(runs=four, name=name, overwrite=True)


@pytest.mark.parametrize("table", ["predictions.csv", "validation_predictions.csv"])
def test_members_that_were_trained_again_are_another_ensemble(four, table):
    first = ensemble(runs=four)
    named = ensemble(runs=four, name="vote")
    path = Workspace.at().runs("toy") / "b" / table
    rows = pd.read_csv(path)
    rows["p_anger"], rows["p_joy"] = rows["p_joy"], rows["p_anger"]
    rows["prediction"] = np.where(rows["p_anger"] > rows["p_joy"], *CLASSES)
    rows.to_csv(path, index=False)
    second = ensemble(runs=four)
    assert second.path != first.path
    assert second.config["candidates_sha256"]["b"] != first.config["candidates_sha256"]["b"]
    with pytest.raises(StoreError, match=r"vote exists already, .* \(candidates_sha256 differ\)"):
        ensemble(runs=four, name="vote")
    assert ensemble(runs=four, name="vote", overwrite=True).metrics == second.metrics
    assert named.config["candidates"] == list(four)


def test_a_folder_that_is_no_ensemble_is_not_replaced_unasked(four):
    folder = Workspace.at().runs("toy") / "notes"
    folder.mkdir()
    with pytest.raises(StoreError, match=r"notes is not a finished run: .*; use another --name, or replace"):
        ensemble(runs=four, name="notes")
    with pytest.raises(StoreError, match=r"a exists already, with other candidates or votes"):
        ensemble(runs=["b", "c"], name="a")


def test_a_changed_digit_in_an_ensemble_is_not_reported_as_its_result(four):
    run = ensemble(runs=four, name="vote")
    reading = {
        "metrics.json": RunFolder,
        "predictions.csv": lambda path: RunFolder(path).predictions,
        "combinations.csv": lambda path: print_ensemble(RunFolder(path)),
    }
    for name, read in reading.items():
        path = run.path / name
        content = path.read_bytes()
        path.write_bytes(content.replace(b"1", b"2", 1))
        with pytest.raises(StoreError, match=f"{name} has changed since it was written: its checksum differs"):
            read(run.path)
        path.write_bytes(content)
    print_ensemble(RunFolder(run.path))


def test_no_label_of_the_test_part_has_a_say_in_the_choice(four, rng):
    choices = []
    for _ in range(3):
        run = ensemble(runs=four, name=f"vote-{len(choices)}")
        combinations = pd.read_csv(run.path / "combinations.csv")
        columns = ["members", "vote", "validation_uar", "validation_wa"]
        choices.append((run.config["members"], run.config["vote"], combinations[columns].values.tolist()))
        of_target = {f"u{i:02}": CLASSES[value] for i, value in enumerate(rng.permutation(32) % 2)}
        for name in four:
            path = Workspace.at().runs("toy") / name / "predictions.csv"
            rows = pd.read_csv(path, dtype=str, keep_default_na=False)
            rows.assign(target=rows["utterance_id"].map(of_target)).to_csv(path, index=False)
    assert choices[0] == choices[1] == choices[2]


def test_a_failure_leaves_nothing(four, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError

    monkeypatch.setattr("featcache.fitting.ensemble.write_report", fail)
    with pytest.raises(RuntimeError):
        ensemble(runs=four)
    assert {path.name for path in Workspace.at().runs("toy").iterdir()} == set(four)


def test_runs_of_one_name_are_told_apart_by_their_folders(make_run, tmp_path):
    one = make_run("same")
    moved = one.rename(tmp_path / "same")
    two = make_run("same")
    run = ensemble(runs=[str(moved), str(two)])
    assert run.config["members"] == [str(moved), str(two)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"runs": ["a"]}, "one run cannot vote; expected two or more"),
        ({"runs": ["a", "a"]}, "a run is given twice; each run has one vote"),
        ({"runs": ["a", "b"], "sizes": [3]}, "--size 3: only 2 runs given, --size can only be 2$"),
        ({"runs": ["a", "b"], "sizes": [1]}, "--size 1: only 2 runs given, --size can only be 2$"),
        ({"runs": ["a", "b"], "votes": ["sofft"]}, "no vote 'sofft'; did you mean 'soft'"),
        ({"runs": ["a", "x"]}, "no run 'x'"),
        ({"runs": ["a", "b"], "name": "../b"}, r"run name '../b': it begins with a dot"),
    ],
)
def test_mistakes_are_told(make_run, options, message):
    for name in "ab":
        make_run(name)
    with pytest.raises((PredictionsError, StoreError), match=message):
        ensemble(**options)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"protocol": "group-kfold"}, "b and .*a differ in protocol: group-kfold and loso; runs that vote may differ"),
        ({"target": "mood"}, "differ in target: mood and emotion"),
        ({"classes": ["joy", "anger"]}, "differ in classes: .*'joy', 'anger'.* and "),
        ({"seeds": [1]}, r"differ in seeds: \[1\] and \[1, 2\]"),
        ({"corpus": "other"}, "differ in corpus: other and toy"),
        ({"select": {"vocal_channel": ["speech"]}}, "differ in select: "),
        ({"test_view": "noise0-1"}, "differ in test_view: noise0-1 and None"),
    ],
)
def test_runs_of_another_task_may_not_vote(make_run, changes, message):
    make_run("a")
    make_run("b", **changes)
    with pytest.raises(PredictionsError, match=message) as told:
        ensemble(runs=["a", "b"])
    assert "\n" not in str(told.value)


def test_runs_on_the_same_augmented_speech_vote_and_say_so(make_run):
    for name in ("a", "b"):
        make_run(name, test_view="noise0-1")
    assert ensemble(runs=["a", "b"]).config["test_view"] == "noise0-1"


def test_runs_without_validation_predictions_may_not_vote(make_run):
    make_run("a")
    (make_run("b") / "validation_predictions.csv").unlink()
    with pytest.raises(StoreError, match=r"b has no validation_predictions.csv, .*; fit it again with --overwrite"):
        ensemble(runs=["a", "b"])


def test_regressions_may_not_vote(make_run):
    make_run("a")
    (make_run("b") / "metrics.json").write_text('{"ccc": {}}')
    with pytest.raises(PredictionsError, match="b is a regression; only runs that predict classes can vote"):
        ensemble(runs=["a", "b"])
