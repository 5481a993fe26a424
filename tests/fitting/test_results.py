"""Notes at the end of a fit, and figures that are drawn."""

import os
import threading
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featcache.fitting.convergence import Ending, convergence_notes, num_not_converged, training_notes
from featcache.fitting.fit import fit, sweep
from featcache.report import figures
from featcache.runs.parse import read_table
from featcache.runs.writer import UnfinishedRun
from featcache.training.solvers import SVCTraining

NAN = float("nan")
losses = st.lists(st.sampled_from([0.5, 0.6, 0.7, NAN, float("inf")]), min_size=1, max_size=5)


def history_of(trainings):
    rows = [
        (seed, 1, epoch, NAN, loss)
        for seed, of_training in enumerate(trainings)
        for epoch, loss in enumerate(of_training, start=1)
    ]
    return pd.DataFrame(rows, columns=["seed", "fold", "epoch", "train_loss", "validation_loss"])


@given(trainings=st.lists(losses, min_size=1, max_size=4), max_epochs=st.integers(1, 5), patience=st.integers(1, 3))
def test_trainings_that_max_epochs_ended_within_the_patience_are_counted(trainings, max_epochs, patience):
    ended, expected = [], 0
    for of_training in trainings:
        best, best_epoch = float("inf"), 0  # as a training selects its best weights, and stops early
        for epoch, loss in enumerate(of_training[:max_epochs], start=1):
            if loss < best:
                best, best_epoch = loss, epoch
            if epoch == max_epochs or epoch - best_epoch >= patience:
                break
        ended.append(of_training[:epoch])
        expected += epoch == max_epochs and best_epoch > 0 and epoch - best_epoch < patience
    ending = Ending(max_epochs=max_epochs, patience=patience)
    assert num_not_converged(history_of(ended), ending) == expected


def test_the_end_by_the_number_of_steps_counts_like_that_by_epochs():
    history = history_of([[0.5, 0.4, 0.3], [0.3, 0.4, 0.5]])  # the second one ends by early stopping
    config = {"training": {"max_epochs": 99, "patience": 2}, "max_steps": 30}
    assert num_not_converged(history, Ending.of(config)) == 1
    [note] = training_notes(1, 2, config)
    assert "--max-epochs 99 or --max-steps 30 ended them less than 2 epochs after" in note
    assert note.endswith("raise --max-epochs and --max-steps or --learning-rate")
    assert training_notes(1, 2, {**config, "from_layer": [1], "blocks_learning_rate": 0}) == [note]
    for default_or_not in ({}, {"blocks_learning_rate": 1e-3}):
        [of_blocks] = training_notes(1, 2, {**config, "from_layer": [1], **default_or_not})
        assert of_blocks.endswith("raise --max-epochs and --max-steps, --blocks-learning-rate or --learning-rate")


@pytest.fixture
def short(make_cache, quick_reports):
    make_cache()
    return {"seeds": (1, 2), "max_epochs": 1}


def test_the_end_of_a_fit_tells_it_and_so_does_the_report(short, caplog):
    caplog.set_level("INFO", "featcache")
    run = fit(**short)
    [note] = convergence_notes(run)
    assert note == (
        "8 of 8 trainings have not converged: --max-epochs 1 ended them less than 4 epochs after their lowest "
        "validation loss; raise --max-epochs or --learning-rate"
    )
    assert run.metrics["not_converged"] == 8
    assert caplog.messages[-1] == note
    assert note in (run.path / "report.html").read_text(encoding="utf-8")
    caplog.clear()
    assert fit(**short).path == run.path
    assert caplog.messages[-1] == note  # also for a run that exists already


def test_in_a_sweep_each_run_has_its_own_line(short, caplog):
    caplog.set_level("INFO", "featcache")
    runs = sweep(norms=["speaker", "none"], **short)
    assert caplog.messages[-2:] == [f"{run.name}: {note}" for run in runs for note in convergence_notes(run)]


def test_trainings_that_stopped_by_themselves_are_not_told(short, caplog):
    caplog.set_level("INFO", "featcache")
    run = fit(seeds=(1,), max_epochs=200, patience=1, learning_rate=0.1)
    assert convergence_notes(run) == []
    assert "--max-epochs" not in caplog.text
    assert caplog.messages[-1] == "all 4 trainings converged"
    assert run.metrics["not_converged"] == 0


def test_a_support_vector_machine_has_no_losses_to_draw(short, caplog):
    caplog.set_level("INFO", "featcache")
    run = fit(head="svm", layers="last")
    assert not list(run.path.glob("training_curves*"))
    assert "Losses and validation score of all folds" not in (run.path / "report.html").read_text(encoding="utf-8")
    assert "--max-epochs" not in caplog.text
    assert len(read_table(run.path / "history.csv")) == 4


@pytest.mark.parametrize("options", [{"head": "ffn", "layers": "last"}, {"head": "linear"}, {"head": "dense"}])
def test_every_head_that_has_losses_shows_them(short, options):
    run = fit(**short, **options)
    assert (run.path / "training_curves.png").exists()
    assert "Losses and validation score of all folds" in (run.path / "report.html").read_text(encoding="utf-8")


def test_a_fit_records_what_it_costs(short):
    run = fit(**short)
    with_records = sum(parameter.numel() for parameter in run.head(seed=1, fold=1).parameters())
    assert run.metrics["head_parameters"] == with_records
    [store] = (Path(os.environ["FEATCACHE_HOME"]) / "cache" / "toy").glob("ssl")
    assert run.metrics["store_bytes"] == sum(path.stat().st_size for path in store.glob("*.h5"))
    assert "model_parameters" not in run.metrics  # the store does not record it
    assert run.metrics["seconds"] == pytest.approx(8 * run.metrics["seconds_per_training"])
    assert run.metrics["seconds"] > 0
    report = (run.path / "report.html").read_text(encoding="utf-8")
    assert f"{run.metrics['head_parameters']:,}" in report


def test_parameters_of_models_are_those_of_all_stores_with_a_model(make_cache, quick_reports):
    stores = {
        "one": {"provenance": {"num_blocks": 2, "num_parameters": 1000}},
        "two": {"provenance": {"num_blocks": 2, "num_parameters": 234}},
        "egemaps": {"kind": "egemaps"},
    }
    make_cache(stores=stores)
    run = fit(head="fusion", features=list(stores), seeds=1, max_epochs=1, protocol="random-80-20")
    assert run.metrics["model_parameters"] == 1234


def test_costs_of_a_resumed_run_include_the_trainings_from_before(short, monkeypatch):
    keep, left = UnfinishedRun.keep, threading.Semaphore(3)

    def slow(run, seed, fold, record, head, models):
        if not left.acquire(blocking=False):
            raise KeyboardInterrupt
        keep(run, seed, fold, {**record, "seconds": 1000.0}, head, models)

    with monkeypatch.context() as patch:
        patch.setattr(UnfinishedRun, "keep", slow)
        with pytest.raises(KeyboardInterrupt):
            fit(name="mine", **short)
    metrics = fit(name="mine", resume=True, **short).metrics
    assert 3000 < metrics["seconds"] < 3900


def test_without_the_times_of_an_earlier_release_there_is_no_sum(short, monkeypatch):
    keep = UnfinishedRun.keep

    def untimed(run, seed, fold, record, head, models):
        kept = {name: v for name, v in record.items() if name != "seconds" or seed == 1}
        keep(run, seed, fold, kept, head, models)

    monkeypatch.setattr(UnfinishedRun, "keep", untimed)
    run = fit(**short)
    assert not {"seconds", "seconds_per_training"} & set(run.metrics)
    assert "Time of all trainings" not in (run.path / "report.html").read_text(encoding="utf-8")


def test_a_solver_that_does_not_converge_is_counted_and_told(short, caplog, monkeypatch):
    caplog.set_level("INFO", "featcache")
    monkeypatch.setattr(SVCTraining, "unconverged", property(lambda one: one.fold.name != "01"))
    run = fit(head="svm", layers="last")
    assert run.metrics["not_converged"] == 3
    [note] = convergence_notes(run)
    assert note.startswith("3 of 4 heads have not converged: the solver stopped")
    assert caplog.messages[-1] == note


def test_a_history_of_one_epoch_shows_both_losses():
    history = pd.DataFrame([(1, 1, 1, 0.7, 0.6)], columns=["seed", "fold", "epoch", "train_loss", "validation_loss"])
    [axes] = figures.training_curves(history).axes
    shown = {float(line.get_ydata()[0]) for line in axes.lines if line.get_marker() not in ("", "None")}
    assert np.allclose(sorted(shown), [0.6, 0.7])
