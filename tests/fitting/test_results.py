"""Notes at the end of a fit, and figures that are drawn."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featcache.fitting.fit import fit, sweep
from featcache.fitting.results import epochs_of, note_on_epochs
from featcache.report import figures
from featcache.runs.parse import read_table

NAN = float("nan")
losses = st.lists(st.sampled_from([0.5, 0.6, 0.7, NAN]), min_size=1, max_size=5)


def history_of(trainings):
    rows = [
        (seed, 1, epoch, NAN, loss)
        for seed, of_training in enumerate(trainings)
        for epoch, loss in enumerate(of_training, start=1)
    ]
    return pd.DataFrame(rows, columns=["seed", "fold", "epoch", "train_loss", "validation_loss"])


@given(trainings=st.lists(losses, min_size=1, max_size=4), max_epochs=st.integers(1, 5))
def test_trainings_whose_last_epoch_is_the_best_and_the_last_allowed_are_counted(trainings, max_epochs):
    trainings = [of_training[:max_epochs] for of_training in trainings]
    best_is_last = 0
    for of_training in trainings:
        best, best_epoch = float("inf"), 0  # as a training selects its best weights
        for epoch, loss in enumerate(of_training, start=1):
            if loss < best:
                best, best_epoch = loss, epoch
        best_is_last += best_epoch == max_epochs
    found = note_on_epochs(history_of(trainings), max_epochs)
    if not best_is_last:
        assert found == []
        return
    [note] = found
    assert note.startswith(f"{best_is_last} of {len(trainings)} trainings reached --max-epochs {max_epochs} while ")


@pytest.fixture
def short(make_cache, quick_reports):
    make_cache()
    return {"seeds": (1, 2), "max_epochs": 1}


def test_the_end_of_a_fit_tells_it_and_so_does_the_report(short, caplog):
    caplog.set_level("INFO", "featcache")
    run = fit(**short)
    [note] = epochs_of(run)
    assert note.startswith("8 of 8 trainings reached --max-epochs 1 while their validation loss was still decreasing; ")
    assert caplog.messages[-1] == note
    assert note in (run.path / "report.html").read_text(encoding="utf-8")
    caplog.clear()
    assert fit(**short).path == run.path
    assert caplog.messages[-1] == note  # also for a run that exists already


def test_in_a_sweep_each_run_has_its_own_line(short, caplog):
    caplog.set_level("INFO", "featcache")
    runs = sweep(norms=["speaker", "none"], **short)
    assert caplog.messages[-2:] == [f"{run.name}: {note}" for run in runs for note in epochs_of(run)]


def test_trainings_that_stopped_by_themselves_are_not_told(short, caplog):
    caplog.set_level("INFO", "featcache")
    run = fit(seeds=(1,), max_epochs=200, patience=1, learning_rate=0.1)
    assert epochs_of(run) == []
    assert "--max-epochs" not in caplog.text


def test_a_support_vector_machine_has_no_losses_to_draw(short, caplog):
    caplog.set_level("INFO", "featcache")
    run = fit(head="svm", layers="last", **short)
    assert not list(run.path.glob("training_curves*"))
    assert "Losses of all folds" not in (run.path / "report.html").read_text(encoding="utf-8")
    assert "--max-epochs" not in caplog.text
    assert len(read_table(run.path / "history.csv")) == 4


@pytest.mark.parametrize("options", [{"head": "ffn", "layers": "last"}, {"head": "linear"}, {"head": "dense"}])
def test_every_head_that_has_losses_shows_them(short, options):
    run = fit(**short, **options)
    assert (run.path / "training_curves.png").exists()
    assert "Losses of all folds" in (run.path / "report.html").read_text(encoding="utf-8")


def test_a_history_of_one_epoch_shows_both_losses():
    history = pd.DataFrame([(1, 1, 1, 0.7, 0.6)], columns=["seed", "fold", "epoch", "train_loss", "validation_loss"])
    [axes] = figures.training_curves(history).axes
    shown = {float(line.get_ydata()[0]) for line in axes.lines if line.get_marker() not in ("", "None")}
    assert np.allclose(sorted(shown), [0.6, 0.7])
