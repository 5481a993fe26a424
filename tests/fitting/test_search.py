"""A search trains each setting as if it were alone, chooses on validation parts only, and resumes."""

import json
import shutil
import sys
from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score
from typer.testing import CliRunner

import featcache
from featcache.cli.app import app
from featcache.errors import MissingPackageError, ModelError, StoreError
from featcache.fitting import job
from featcache.fitting.fit import fit
from featcache.fitting.fit_planned import fit_all
from featcache.fitting.plan import plan_runs
from featcache.fitting.search import proposals
from featcache.manifest import Manifest, Utterance
from featcache.runs.file_names import RESULTS
from featcache.runs.reader import RunFolder, finished_runs
from featcache.runs.writer import UnfinishedRun
from featcache.settings.fits import FitSettings
from featcache.training.batches import FeatureWindows
from featcache.workspace import Workspace
from tests.untimed import bytes_without_times

GRID = {"learning_rate": (0.001, 0.05), "set.hidden_units": (4, 8)}
SHORT = {"seeds": (1, 2), "max_epochs": 2, "sweep": GRID}

pytestmark = pytest.mark.usefixtures("quick_reports")


def trials_of(run):
    """Return the runs of the settings that a search tried, in order."""
    return [RunFolder(run.path.parents[1] / ".trials" / run.path.parent.name / name) for name in run.tried["run"]]


def results_of(run):
    found = {path for pattern in RESULTS for path in run.path.glob(pattern)}
    return {path.relative_to(run.path).as_posix(): bytes_without_times(path) for path in found}


def uar_of(rows):
    """Compute the UAR with scikit-learn, averaged over seeds."""
    scores = [balanced_accuracy_score(of.target, of.prediction) for _, of in rows.groupby("seed")]
    return 100 * np.mean(scores)


def test_a_grid_trains_every_setting_as_if_alone_and_keeps_the_best(make_cache, elsewhere, monkeypatch):
    cache = make_cache()
    loads, load = [], FeatureWindows.load
    monkeypatch.setattr(FeatureWindows, "load", lambda source, ids: loads.append(1) or load(source, ids))
    run = fit(**SHORT)
    assert len(loads) == 1
    tried, trials = run.tried, trials_of(run)
    assert list(zip(tried["learning_rate"], tried["set.hidden_units"], strict=True)) == [
        (rate, units) for rate in GRID["learning_rate"] for units in GRID["set.hidden_units"]
    ]
    scores = [uar_of(one.validation_predictions) for one in trials]
    assert np.allclose(tried["validation_uar"], scores)
    best = int(np.argmax(scores))  # the first one of equals
    assert [position for position, folds in enumerate(tried["chosen_for_folds"]) if folds] == [best]
    assert [position for position, score in enumerate(tried["test_uar"]) if score != ""] == [best]
    same = {key: value for key, value in results_of(run).items() if key not in ("config.yaml", "sweep.csv")}
    assert same == {key: value for key, value in results_of(trials[best]).items() if key != "config.yaml"}
    assert run.config["sweep"]["settings"] == 4
    assert "4 settings were tried: learning_rate 0.001, 0.05" in (run.path / "report.html").read_text()
    # only the result is listed, and the chosen setting can be fitted again under its own name
    assert [one.path for one in finished_runs(Workspace.at())] == [run.path]
    loads.clear()
    assert fit(**SHORT).path == run.path
    assert not loads
    again = fit(config=run.path)
    assert "sweep" not in again.config
    assert results_of(again) == results_of(trials[best])
    cache = elsewhere() / cache.name
    for one in trials:
        rate, options = one.config["training"]["learning_rate"], one.config["set"]
        [planned] = plan_runs([FitSettings(seeds=(1, 2), max_epochs=2, learning_rate=rate, set=options)], cache=cache)
        [alone] = fit_all([planned], cache=cache, reports=False)
        assert (alone.name, results_of(alone)) == (one.name, results_of(one))


def test_each_fold_may_take_the_setting_that_is_best_on_its_own_validation_part(make_cache):
    make_cache()
    run = fit(choose="per-fold", **{**SHORT, "sweep": {**GRID, "set.hidden_units": (8, 4)}})
    trials = trials_of(run)
    for fold in range(1, 5):
        scores = [uar_of(rows[rows["fold"] == fold]) for rows in (trial.validation_predictions for trial in trials)]
        best = trials[int(np.argmax(scores))]
        for table in ("predictions", "validation_predictions", "history", "layer_weights"):
            mine, other = (getattr(one, table) for one in (run, best))
            mine, other = (rows[rows["fold"] == fold].reset_index(drop=True) for rows in (mine, other))
            assert mine.equals(other)
        for seed in (1, 2):
            assert run.head(seed=seed, fold=fold).head.output.in_features == best.config["set"]["hidden_units"]
        assert run.config["set_by_fold"][fold - 1] == best.config["set"]
    assert run.config["training"]["learning_rate"] == "by fold"
    assert run.metrics["uar"]["mean"] == pytest.approx(uar_of(run.predictions))
    assert run.tried.get("test_uar").replace("", np.nan).isna().all()
    assert "test utterances of a fold had no part in its choice" in (run.path / "report.html").read_text()
    with pytest.raises(StoreError, match="its folds have different settings"):
        fit(config=run.path)


def with_test_labels(order):
    """Return a corpus with one fold, whose test labels are in another order."""
    parts = {"01": "train", "02": "train", "03": "validation", "04": "test"}
    rng = np.random.default_rng(order)
    rows = [(speaker, emotion, number) for speaker in parts for emotion in ("anger", "joy") for number in range(3)]
    shuffled = iter(rng.permutation([emotion for speaker, emotion, _ in rows if speaker == "04"]).tolist())
    return Manifest(
        [
            Utterance(
                utterance_id=f"{speaker}-{emotion}-{number}",
                path=f"{speaker}-{emotion}-{number}.wav",
                speaker_id=speaker,
                labels={"emotion": next(shuffled) if speaker == "04" and order else emotion, "split": parts[speaker]},
            )
            for speaker, emotion, number in rows
        ]
    )


TIED = {"patience": (3, 5), "learning_rate": (0.001, 0.05)}  # two epochs: settings that differ in patience are equal


@pytest.mark.parametrize(
    "asked",
    [
        {"sweep": GRID},
        {"sweep": GRID, "choose": "per-fold"},
        {"sweep": TIED},
        {"sweep": TIED, "choose": "per-fold"},
        {"sweep": {"learning_rate": "log:1e-4..1e-1", "set.hidden_units": (4, 8)}, "trials": 5},
        {"sweep": {"learning_rate": "log:1e-4..1e-1", "set.hidden_units": (4, 8)}, "trials": 3, "choose": "per-fold"},
    ],
)
def test_shuffled_test_labels_change_no_choice(make_cache, monkeypatch, asked):
    monkeypatch.setattr(proposals, "BATCH", 2)
    folder, found = make_cache(manifest=with_test_labels(0)), []
    for order in (0, 1):
        with_test_labels(order).write(folder / "manifest.csv")
        same = {"protocol": "split", "target": "emotion", "seeds": 1, "max_epochs": 2}
        found.append(fit(**same, **asked))
    first, second = found
    assert first.path != second.path
    assert (first.path / "validation_predictions.csv").read_bytes() == (
        second.path / "validation_predictions.csv"
    ).read_bytes()
    assert not first.predictions["target"].equals(second.predictions["target"])
    hidden = ["run", "test_uar"]
    assert first.tried.drop(columns=hidden).equals(second.tried.drop(columns=hidden))
    assert first.config["sweep"]["chosen"] == second.config["sweep"]["chosen"]


def test_labels_of_the_tested_speaker_change_no_choice_of_its_fold(make_cache):
    folder = make_cache()
    same = {"seeds": (1, 2), "max_epochs": 2, "choose": "per-fold", "sweep": GRID}
    whole = fit(**same)
    manifest = Manifest.read(folder / "manifest.csv")
    for number, speaker in enumerate(("01", "02", "03", "04")):
        # each fold tests one speaker; the labels of this speaker are exchanged
        other = {"anger": "joy", "joy": "anger"}
        changed = [
            replace(u, labels={"emotion": other[u.labels["emotion"]]}) if u.speaker_id == speaker else u
            for u in manifest
        ]
        Manifest(changed).write(folder / "manifest.csv")
        run = fit(**same)
        tested = whole.predictions.query("fold == @number + 1")
        assert set(tested["speaker_id"]) == {speaker}
        assert run.config["sweep"]["chosen"][number] == whole.config["sweep"]["chosen"][number]
        columns = [f"validation_uar_fold_{number + 1}"]
        assert run.tried[columns].equals(whole.tried[columns])
        assert not run.tried.filter(like="validation_uar_fold_").equals(whole.tried.filter(like="validation_uar_fold_"))


DRAWN = {
    "sweep": {"learning_rate": "log:1e-4..1e-1", "set.hidden_units": "int:2..9"},
    "trials": 5,
    "seeds": (1,),
    "max_epochs": 1,
}


def test_an_interrupted_search_draws_the_same_settings_and_trains_what_is_missing(make_cache, elsewhere, monkeypatch):
    monkeypatch.setattr(proposals, "BATCH", 2)
    make_cache()
    whole = fit(**DRAWN)
    rates = whole.tried["learning_rate"]
    assert len(whole.tried) == len(set(rates)) == 5
    assert rates.between(1e-4, 1e-1).all()
    assert whole.tried["set.hidden_units"].isin(range(2, 10)).all()
    elsewhere()
    kept, keep = [], UnfinishedRun.keep

    def stopped(run, *given):
        if len(kept) == 10:
            raise KeyboardInterrupt
        kept.append(1)
        keep(run, *given)

    with monkeypatch.context() as patch:
        patch.setattr(UnfinishedRun, "keep", stopped)
        with pytest.raises(KeyboardInterrupt):
            fit(**DRAWN)
    with pytest.raises(StoreError, match=r"was interrupted after \d trainings?; continue with --resume"):
        fit(**DRAWN)
    monkeypatch.setattr(UnfinishedRun, "keep", lambda run, *given: kept.append(1) or keep(run, *given))
    resumed = fit(resume=True, **DRAWN)
    assert len(kept) == 20  # four folds of five settings
    assert results_of(resumed) == results_of(whole)
    # more trials begin with the same settings
    kept.clear()
    more = fit(**{**DRAWN, "trials": 6})
    assert len(kept) == 4
    assert more.tried["run"].tolist()[:5] == whole.tried["run"].tolist()
    # a result that was removed is written again from the runs of its settings
    shutil.rmtree(resumed.path)
    kept.clear()
    assert results_of(fit(**DRAWN)) == results_of(whole)
    assert not kept


def test_equal_scores_keep_the_first_setting(make_cache):
    make_cache()
    run = fit(seeds=(1,), max_epochs=1, sweep={"patience": (3, 5)})  # one epoch: both settings train the same
    scores = run.tried["validation_uar"]
    assert scores[0] == scores[1]
    assert run.config["sweep"]["chosen"] == {"patience": 3}


def with_gender():
    speakers = {"01": "f", "02": "m", "03": "f", "04": "m"}
    rows = [(speaker, emotion, number) for speaker in speakers for emotion in ("anger", "joy") for number in (1, 2)]
    return Manifest(
        [
            Utterance(
                utterance_id="-".join(map(str, row)),
                path="x.wav",
                speaker_id=row[0],
                labels={"emotion": row[1], "gender": speakers[row[0]]},
            )
            for row in rows
        ]
    )


@pytest.mark.parametrize(
    "sweep", [["also=none,gender:0.5"], {"also": ["none", "gender:0.5"]}, {"also": [None, {"gender": 0.5}]}]
)
def test_a_search_compares_an_auxiliary_target_with_none(make_cache, sweep):
    make_cache(manifest=with_gender())
    same = {"target": "emotion", "seeds": (1,), "max_epochs": 2}
    run = fit(sweep=sweep, also="gender:0.1", **same)
    assert run.tried["also"].tolist() == ["none", "gender:0.5"]
    trials = trials_of(run)
    for trial, also in zip(trials, (None, {"gender": 0.5}), strict=True):
        alone = fit(also=also, **same)
        assert trial.name == alone.name
        assert trial.predictions.equals(alone.predictions)
    assert "also" not in trials[0].config
    assert run.config["sweep"]["chosen"]["also"] in ({}, {"gender": 0.5})
    assert "2 settings were tried: also none, gender:0.5." in (run.path / "report.html").read_text()


def test_workers_of_a_cluster_find_what_one_process_finds(make_cache):
    from tests.extraction.workers import cluster  # skips this test without Dask

    make_cache()
    with cluster() as address:
        shared = fit(**SHORT, scheduler=address)
    found = results_of(shared)
    shutil.rmtree(shared.path.parents[1])
    assert found == results_of(fit(**SHORT))


def test_a_search_compares_masks_with_none(make_cache):
    make_cache()
    run = fit(seeds=(1,), max_epochs=1, sweep=["mask_time=none,1x2", "train_views=none"])
    assert run.tried["mask_time"].tolist() == ["none", "1x2"]
    assert run.tried["train_views"].tolist() == ["none", "none"]


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (
            {"head": "svm", "layers": "last", "sweep": {"learning_rate": (1e-3, 1e-2)}},
            r"--sweep learning_rate: head 'svm'",
        ),
        (
            {"head": "logistic", "layers": "last", "sweep": {"batch_size": (None, 8)}},
            r"head 'logistic' is fitted by a so",
        ),
        ({"sweep": {"target": "emotion,arousal"}}, r"--sweep target: .*cannot be compared"),
        ({"sweep": {"seeds": (1, 2)}}, r"--sweep seeds: .*cannot be compared"),
        ({"sweep": {"learning_rat": 1}}, r"--sweep learning_rat: no option .*did you mean 'learning_rate'\?"),
        ({"sweep": {"jobs": 1}}, r"--sweep jobs: no option 'jobs'"),
        ({"sweep": {"learning_rate": "1e-3,-1"}}, r"--sweep learning_rate: --learning-rate takes a number above 0"),
        ({"sweep": {"set.hidden_unit": 4}}, r"no option 'hidden_unit'; did you mean 'hidden_units'\?"),
        ({"sweep": {"learning_rate": "1e-3..1e-2"}}, r"a range needs --trials"),
        ({"sweep": {"batch_size": "8..64"}, "trials": 2}, r"--batch-size takes one integer"),
        (
            {"sweep": {"layers": "all,last"}, "choose": "per-fold"},
            r"--choose per-fold needs the same features and head",
        ),
        ({"trials": 3}, r"--trials needs options to draw from"),
        ({"choose": "per-fold"}, r"--choose per-fold: there is no search to choose from"),
    ],
)
def test_what_cannot_be_searched_is_refused_before_training(make_cache, monkeypatch, asked, message):
    make_cache()
    monkeypatch.setattr(job.FitJob, "train", None)
    with pytest.raises(ModelError, match=message) as told:
        fit(**asked)
    assert "\n" not in str(told.value)


def test_without_optuna_drawing_is_refused_in_one_line(make_cache, monkeypatch):
    make_cache()
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(MissingPackageError, match=r"^--trials needs optuna.*pip install 'featcache\[search\]'$"):
        fit(**DRAWN)


def test_several_heads_and_layers_are_several_searches_that_share_a_read(make_cache, monkeypatch):
    make_cache()
    loads, load = [], FeatureWindows.load
    monkeypatch.setattr(FeatureWindows, "load", lambda source, ids: loads.append(1) or load(source, ids))
    same = {"seeds": (1,), "max_epochs": 1, "sweep": {"learning_rate": (0.001, 0.01)}}
    runs = featcache.sweep(heads=["dense", "lstm"], **same)
    assert [run.config["head"] for run in runs] == ["dense", "lstm"]
    assert len(loads) == 1
    assert all(run.config["sweep"]["settings"] == 2 for run in runs)
    # heads and layers can be values of one search, too
    one = fit(seeds=(1,), max_epochs=1, sweep={"head": "dense,lstm", "layers": "0,2|last"})
    assert len(one.tried) == 4
    assert "searched" in one.name
    assert json.loads((one.path / "metrics.json").read_text())["num_folds"] == 4


def test_a_fit_of_all_utterances_can_be_searched(make_cache):
    make_cache()
    run = fit(final=True, **SHORT)
    assert run.is_final
    assert run.tried["test_uar"].replace("", np.nan).isna().all()
    assert run.metrics["validation"]["uar"]["mean"] == max(run.tried["validation_uar"])


def test_the_command_shows_the_settings_and_one_test_score(make_cache):
    make_cache()
    asked = ["--sweep", "learning_rate=1e-3,1e-2", "--seeds", "1", "--max-epochs", "1", "--jobs", "2"]
    result = CliRunner().invoke(app, ["fit", *asked])
    assert result.exit_code == 0, result.output
    [run] = finished_runs(Workspace.at())
    assert "2 settings tried; chosen by validation UAR of all folds" in result.output
    rows = [line.split() for line in result.output.splitlines() if line.strip()[:1] in "12" and "0.0" in line]
    assert sorted(row[0] for row in rows) == ["1", "2"]
    assert sum(row[-1] == "-" for row in rows) == 1
    assert result.output.endswith(f"{run.path}\n")
    assert CliRunner().invoke(app, ["fit", "--sweep", "learning_rate"]).exit_code == 2
