"""Heads that a solver fits have no training steps: their options are refused, or left out where they are for others."""

import pytest
import yaml

from featcache.errors import ModelError, PipelineError
from featcache.files.checksums import CHECKSUMS
from featcache.fitting.fit import fit, sweep
from featcache.pipeline.read import read_pipeline
from featcache.runs.identity import TRAINING
from featcache.training.solvers import SolverTraining

pytestmark = pytest.mark.usefixtures("quick_reports")

LAST = {"layers": "last", "norm": "global"}
# The entry of an earlier release for a fit with --max-epochs 3 and --learning-rate 0.001.
BEFORE = {"learning_rate": 0.001, "batch_size": 32, "max_epochs": 3, "patience": 4, "clip_value": 1.0, "epsilon": 1e-7}
PIPELINE = """
title: one
stores:
  ssl: {{model: wav2vec2-base}}
defaults: {{norm: global, features: ssl, learning_rate: 0.01, mixup: 0.2, max_epochs: 2}}
runs:
  solved: {{title: solved, head: svm, layers: last{further}}}
  trained: {{title: trained, head: linear}}
"""


def as_before(run, **changes):
    """Write the training options of an earlier release into the configuration of a run."""
    path = run.path / "config.yaml"
    config = yaml.safe_load(path.read_text(encoding="utf-8"))
    path.write_text(yaml.safe_dump({**config, **changes}), encoding="utf-8")
    (run.path / CHECKSUMS).unlink()


def only_runs(path):
    return sorted(one.name for one in path.parent.iterdir() if one.is_dir())


def test_no_option_of_the_training_is_recorded(make_cache):
    make_cache()
    solved = fit(head="svm", **LAST)
    assert TRAINING not in solved.config
    assert fit(head="svm", **LAST, learning_rate=1e-4).path == solved.path  # the default of networks
    with pytest.raises(ModelError, match=r"^--max-epochs 3: head 'svm' is fitted by a solver, without training steps"):
        fit(head="svm", **LAST, max_epochs=3)
    assert only_runs(solved.path) == [solved.name]


def test_a_run_of_an_earlier_release_with_such_options_is_the_same_run(make_cache, monkeypatch):
    make_cache()
    solved = fit(head="svm", **LAST)
    before = solved.path.with_name(solved.name[:-6] + "0a1b2c")
    solved.path.rename(before)
    as_before(type(solved)(before), training=BEFORE)
    monkeypatch.setattr(SolverTraining, "end_epoch", lambda _: pytest.fail("it is fitted again"))
    assert fit(head="svm", **LAST).path == before
    assert fit(head="svm", **LAST, name=before.name).path == before
    assert fit(config=before).path == before
    assert only_runs(before) == [before.name]


def test_options_are_for_the_networks_among_several_heads(make_cache):
    make_cache()
    alone = fit(head="svm", **LAST)
    steps = {"max_epochs": 2, "learning_rate": 0.01, "mixup": 0.2}
    solved, trained = sweep(heads=["svm", "linear"], norms="global", layers="last", seeds=1, **steps)
    assert solved.path == alone.path
    assert trained.config[TRAINING]["max_epochs"] == 2
    assert trained.config["mixup"] == 0.2
    with pytest.raises(ModelError, match=r"^--mixup 0.2: head 'svm' is fitted"):
        sweep(heads=["svm", "logistic"], layers="last", mixup=0.2)


def test_the_options_of_a_file_are_those_of_its_network(make_cache):
    make_cache()
    trained = fit(head="linear", **LAST, seeds=1, max_epochs=2, batch_size=4, stop_on="uar")
    solved = fit(config=trained.path, head="svm")
    assert solved.path == fit(head="svm", **LAST).path
    assert fit(config=solved.path, head="linear", max_epochs=2, batch_size=4, stop_on="uar").path == trained.path
    with pytest.raises(ModelError, match=r"^--patience 2: head 'svm' is fitted"):
        fit(config=trained.path, head="svm", patience=2)


def test_a_search_tries_such_options_for_the_networks_only(make_cache):
    make_cache()
    heads = ["svm", "linear"]
    run = fit(**LAST, seeds=1, max_epochs=2, sweep={"head": heads, "learning_rate": [0.01, 0.02]})
    tried = [*zip(run.tried["head"], run.tried["learning_rate"], strict=True)]
    assert tried == [("svm", ""), ("linear", "0.01"), ("linear", "0.02")]
    assert run.config["sweep"]["settings"] == 3
    assert run.config["sweep"]["options"] == {"head": heads, "learning_rate": [0.01, 0.02]}
    with pytest.raises(ModelError, match=r"^--sweep learning_rate: head 'svm' is fitted by a solver"):
        fit(head="svm", **LAST, sweep={"learning_rate": [0.01, 0.02]})


def test_a_search_of_each_fold_works_with_a_solver(make_cache):
    make_cache()
    run = fit(head="svm", **LAST, choose="per-fold", sweep={"class_weights": ["none", "balanced"]})
    assert TRAINING not in run.config


def test_common_options_of_a_pipeline_are_for_its_networks(tmp_path):
    path = tmp_path / "one.yaml"
    path.write_text(PIPELINE.format(further=""))
    pipeline = read_pipeline(path)
    solved, trained = (pipeline.run(name).options for name in ("solved", "trained"))
    assert (solved.learning_rate, solved.max_epochs, solved.mixup) == (1e-4, 100, 0.0)
    assert (trained.learning_rate, trained.max_epochs, trained.mixup) == (0.01, 2, 0.2)
    assert solved.norm == "global"
    path.write_text(PIPELINE.format(further=", learning_rate: 0.01"))
    with pytest.raises(PipelineError, match=r"one\.yaml, line 7: 'learning_rate': head 'svm' is fitted by a solver"):
        read_pipeline(path)
