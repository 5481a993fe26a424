"""The state of a fit while it runs, in this process and in others."""

from contextlib import contextmanager
from dataclasses import replace

import joblib
import pytest

from featcache.errors import FeatcacheError
from featcache.fitting import job, watch
from featcache.fitting.fit import fit, sweep
from featcache.fitting.watch import ProcessState, Recorder, state_file
from featcache.runs.writer import UnfinishedRun
from featcache.training.status import TrainingStatus

pytestmark = pytest.mark.usefixtures("quick_reports")

SHORT = {"seeds": (1, 2), "max_epochs": 3, "patience": 3}
STATUS = TrainingStatus(epochs=2.5, least=4, most=10, train_loss=0.5, validation_loss=None, seconds=1.25, ended=False)


@pytest.fixture
def looks(make_cache, monkeypatch):
    """Make a cache, and return the list of states of a fit: before each step, after each training, and at the end."""
    make_cache()
    found, now = [], []

    @contextmanager
    def watched(look):
        now[:] = [look]
        found.append(look())
        yield

    def looking(function):
        def call(*arguments):
            result = function(*arguments)
            found.extend(look() for look in now)
            return result

        return call

    monkeypatch.setattr(job, "watched", watched)
    monkeypatch.setattr(job, "fit_normalisers", looking(job.fit_normalisers))
    monkeypatch.setattr(job.FeatureWindows, "load", looking(job.FeatureWindows.load))
    monkeypatch.setattr(Recorder, "ends", looking(Recorder.ends))
    monkeypatch.setattr(job, "normalisers_of_runs", looking(job.normalisers_of_runs))
    monkeypatch.setattr(watch, "SHARE_SECONDS", 0.0)
    monkeypatch.setattr(job, "available_cores", lambda: 1)  # after the first training, others have not begun
    return found


def test_a_fit_shows_reading_then_epochs_losses_and_trainings(looks):
    fit(**SHORT)
    title = "Training 8 heads (4 folds × 2 seeds)"
    beginning, statistics, reading, *trainings, end = looks
    assert (beginning.title, beginning.done, beginning.detail) == (title, 0, "")
    assert statistics.detail == "computing the statistics of the normalisation"
    assert (reading.title, reading.done, reading.detail) == ("Reading features", 1, "16 of 16 utterances")
    assert {state.title for state in trainings} == {title}
    assert [state.detail.split("; ")[-1] for state in trainings] == [f"{n} of 8 trained" for n in range(1, 9)]
    assert all(" of 3; " in state.detail for state in trainings)
    assert any("loss " in state.detail for state in trainings)
    assert trainings[0].remaining.startswith("about ")
    assert end.done == 1
    assert end.detail.endswith("8 of 8 trained; writing the results")


def test_a_resumed_fit_counts_the_trainings_from_before(looks, monkeypatch):
    keep, kept = UnfinishedRun.keep, []

    def stopped(*arguments):
        if len(kept) == 3:
            raise KeyboardInterrupt
        kept.append(keep(*arguments))

    with monkeypatch.context() as patch:
        patch.setattr(UnfinishedRun, "keep", stopped)
        with pytest.raises(KeyboardInterrupt):
            fit(name="mine", **SHORT)
    looks.clear()
    fit(name="mine", resume=True, **SHORT)
    told = [state.detail for state in looks if "trained" in state.detail]
    assert [text.split("; ")[-1] for text in told[:5]] == [f"{number} of 8 trained" for number in range(4, 9)]
    assert looks[-1].done == 1


def test_a_fit_whose_trainings_are_all_finished_is_shown_as_done(looks, monkeypatch):
    def full(*_):
        raise OSError("no room")

    with monkeypatch.context() as patch:
        patch.setattr(job, "write_results", full)
        with pytest.raises((OSError, FeatcacheError)):
            fit(name="mine", **SHORT)
    looks.clear()
    fit(name="mine", resume=True, **SHORT)
    assert (looks[-1].done, looks[-1].remaining, looks[-1].detail) == (1, "", "writing the results")


def test_trainings_of_other_processes_are_shown(looks, tmp_path):
    with joblib.parallel_config(backend="threading"):
        fit(jobs=2, name="mine", **SHORT)
    assert looks[-1].done == 1
    assert looks[-1].detail.endswith("8 of 8 trained; writing the results")
    assert [path.name for path in (tmp_path / "data" / "runs" / "toy").iterdir()] == ["mine"]


def test_all_is_done_only_at_the_end(looks):
    """After the last epoch, predictions and models are written."""
    fit(**{**SHORT, "seeds": 1})
    assert all(state.done < 1 for state in looks if " 0 of 4 trained" in state.detail)
    assert looks[-1].done == 1


def test_support_vector_machines_count_trainings(looks):
    sweep(heads=["svm", "dense"], layers=["last"], **{**SHORT, "seeds": 1})
    assert looks[0].title == "Training 8 heads (2 runs)"
    assert looks[-1].done == 1
    looks.clear()
    fit(head="svm", layers="0", seeds=SHORT["seeds"])
    told = [state.detail for state in looks if "trained" in state.detail]
    assert told == [
        *(f"{number} of 4 trained" for number in range(1, 5)),
        "4 of 4 trained; writing the results",
    ]


def test_the_state_of_another_process_survives_its_file(tmp_path):
    diverged = replace(STATUS, train_loss=float("inf"), ended=True)
    trainings = {(0, 123, 1): STATUS, (0, 123, 2): diverged}
    state = ProcessState(step="waiting", num_read=3, num_wanted=4, trainings=trainings)
    assert ProcessState.parse(state.text().encode()) == state


STRANGE = [b"", b"[", b"[1]", b'["", 0, 0, [[1, 2, 3, {"epochs": 1}]]]', b"\xff", b'["", "3", 4, []]', b"[1, 0, 0, []]"]
STRANGE += [
    ProcessState(trainings={(0, 1, 1): replace(STATUS, **{name: value})}).text().encode()
    for name, value in [("epochs", "2"), ("seconds", float("nan")), ("most", float("inf")), ("train_loss", "low")]
]


@pytest.mark.parametrize("content", STRANGE)
def test_what_is_no_state_is_refused(content):
    with pytest.raises((ValueError, TypeError)):
        ProcessState.parse(content)


@pytest.mark.parametrize("content", STRANGE[-4:-3])
def test_a_file_that_is_no_state_is_not_read(looks, tmp_path, content, monkeypatch):
    folder = UnfinishedRun.folder_of_states

    def damaged(run):
        made = folder(run)
        state_file(made, 99).write_bytes(content)
        return made

    monkeypatch.setattr(UnfinishedRun, "folder_of_states", damaged)
    with joblib.parallel_config(backend="threading"):
        fit(jobs=2, **{**SHORT, "seeds": 1})
    assert looks[-1].done == 1


def test_a_state_that_cannot_be_written_stops_no_training(tmp_path):
    with Recorder().shared(tmp_path / "missing" / "fold-1.json"):
        pass
    assert list(tmp_path.iterdir()) == []
