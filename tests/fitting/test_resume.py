"""A killed or interrupted fit continues to the same files, and trains only the missing heads."""

import os
import random
import re
import shutil
import signal
import threading
import time

import pytest

from featcache.errors import StoreError
from featcache.fitting import job
from featcache.fitting.fit import fit
from featcache.runs.writer import UnfinishedRun
from featcache.training.train import Training
from tests.forked import POSSIBLE, Forked, command, without_pictures
from tests.untimed import bytes_without_times

KILLS = 5

SETTINGS = {"name": "mine", "seeds": (1, 2, 3), "max_epochs": 3, "patience": 3}


def fit_and_count(folder, resume=False):
    """Fit and write the number of kept trainings; figures are empty, because they take longer than training."""
    without_pictures()
    kept, keep = [], UnfinishedRun.keep
    UnfinishedRun.keep = lambda *arguments: (keep(*arguments), kept.append(1))
    fit(home=folder, resume=resume, **SETTINGS)
    print(len(kept))


@pytest.fixture
def whole_fit(make_cache, tmp_path):
    """Return ``whole_fit(folder)``, which starts the fit in another process, in a new folder unless it resumes."""
    cache = make_cache()

    def start(folder, resume=False):
        if not resume:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            (folder / "cache").symlink_to(cache.parent)
        return Forked(fit_and_count, folder, resume, out=tmp_path / "fit")

    return start


def num_kept(child):
    code, out, err = child.wait()
    assert code == 0, err
    return int(out)


def files(folder):
    found = folder / "runs" / "toy" / "mine"
    return {path.relative_to(found): bytes_without_times(path) for path in found.rglob("*") if path.is_file()}


def num_finished(folder):
    return len(list(folder.glob("runs/toy/.mine.unfinished/finished/*.json")))


@pytest.mark.skipif(not POSSIBLE, reason="needs fork")
def test_kill_9_at_random_moments(whole_fit, tmp_path):
    assert num_kept(whole_fit(tmp_path / "whole")) == 12
    assert num_kept(whole_fit(tmp_path / "again")) == 12
    whole = files(tmp_path / "whole")
    assert files(tmp_path / "again") == whole
    chance, folder, hits, partly = random.Random(0), tmp_path / "killed", 0, 0
    # If all kills came too early or too late, the test would prove nothing.
    while hits < KILLS or not partly:
        child = whole_fit(folder)
        # kill after a number of trainings is kept, independent of their duration
        wanted = 12 * (hits % KILLS) // KILLS
        while num_finished(folder) < wanted and not child.ended:
            time.sleep(0.001)
        time.sleep(0.05 * chance.random())
        child.send_signal(signal.SIGKILL)
        child.process.join()
        if (folder / "runs" / "toy" / "mine").exists():
            assert files(folder) == whole
            continue
        hits += 1
        there = num_finished(folder)
        partly += 0 < there < 12
        trained = num_kept(whole_fit(folder, resume=True))
        assert trained == 12 - there
        found = files(folder)
        assert found == whole, [path for path in {*found, *whole} if found.get(path) != whole.get(path)]
        assert os.listdir(folder / "runs" / "toy") == ["mine"]


SHORT = {"seeds": (1, 2), "max_epochs": 2, "name": "mine"}


@pytest.fixture
def interrupted(make_cache, quick_reports, monkeypatch):
    """Make a cache whose fit was interrupted after three of eight trainings."""
    make_cache()
    keep, left = UnfinishedRun.keep, threading.Semaphore(3)

    def stopped(*arguments):
        if not left.acquire(blocking=False):
            raise KeyboardInterrupt
        keep(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(UnfinishedRun, "keep", stopped)
        with pytest.raises(KeyboardInterrupt):
            fit(**SHORT)


def count_trainings(monkeypatch):
    kept, keep = [], UnfinishedRun.keep
    monkeypatch.setattr(UnfinishedRun, "keep", lambda run, *given: kept.append(given[:2]) or keep(run, *given))
    return kept


@pytest.mark.parametrize("jobs", [1, 2])
def test_only_what_is_missing_is_trained(interrupted, monkeypatch, jobs):
    kept = count_trainings(monkeypatch)
    resumed = fit(resume=True, jobs=jobs, **SHORT)
    assert len(kept) == (5 if jobs == 1 else 0)  # other processes count separately
    assert sorted(zip(resumed.predictions["seed"], resumed.predictions["utterance_id"], strict=True)) == sorted(
        {(seed, i) for seed in (1, 2) for i in resumed.predictions["utterance_id"]}
    )
    before = {path.name: bytes_without_times(path) for path in resumed.path.rglob("*") if path.is_file()}
    whole = fit(overwrite=True, **SHORT)
    assert {path.name: bytes_without_times(path) for path in whole.path.rglob("*") if path.is_file()} == before


def test_what_was_interrupted_is_gone_on_with_only_when_asked(interrupted, monkeypatch):
    with pytest.raises(
        StoreError,
        match=r"mine was interrupted after 3 trainings; continue with --resume, or start again with --overwrite$",
    ):
        fit(**SHORT)
    with pytest.raises(StoreError, match=r"mine was interrupted with other settings \(norm, norm_by differ\)"):
        fit(norm="none", resume=True, **SHORT)
    with pytest.raises(StoreError, match=r"mine was interrupted with other settings \(working_dtype differ\)"):
        fit(memory="int8", resume=True, **SHORT)
    kept = count_trainings(monkeypatch)
    fit(overwrite=True, **SHORT)
    assert len(kept) == 8


def test_an_interruption_while_a_training_is_kept_ends_all_threads(make_cache, quick_reports, monkeypatch):
    make_cache()
    monkeypatch.setattr(job, "available_cores", lambda: 3)

    def stopped(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(UnfinishedRun, "keep", stopped)
    learn = Training.learn
    monkeypatch.setattr(
        Training, "learn", lambda one, window: time.sleep(0 if one.seed == 1 else 0.05) or learn(one, window)
    )
    with pytest.raises(KeyboardInterrupt) as told:
        fit(seeds=(1, 2, 3), max_epochs=60, patience=60, name="mine")
    assert told.traceback  # the exception keeps its frames alive, and with them objects that are not closed
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("fit")]


def wait_for(condition, child):
    end = time.monotonic() + 300
    while not condition():
        assert not child.ended, child.told()
        assert time.monotonic() < end
        time.sleep(0.01)


def held(*arguments):
    """Make a fit wait after three trainings until it is interrupted."""
    keep, kept = UnfinishedRun.keep, []

    def keep_three(*given):
        keep(*given)
        kept.append(1)
        while len(kept) == 3:
            time.sleep(0.01)

    UnfinishedRun.keep = keep_three
    command(*arguments)


@pytest.mark.skipif(not POSSIBLE, reason="needs fork and signals")
def test_ctrl_c_keeps_what_is_finished_and_a_second_fit_waits_its_turn(make_cache, monkeypatch, tmp_path):
    make_cache()
    monkeypatch.setenv("COLUMNS", "250")
    runs = tmp_path / "data" / "runs" / "toy"
    arguments = ["fit", "--seeds", "5", "--max-epochs", "2", "--name", "mine"]
    first = Forked(held, *arguments, out=tmp_path / "first")
    wait_for(lambda: len(list(runs.glob(".mine.unfinished/finished/*.json"))) == 3, first)
    code, out, err = Forked(command, *arguments, out=tmp_path / "second").wait()
    first.send_signal(signal.SIGINT)
    assert (code, out) == (1, "")
    assert re.search(r"^error: .*mine is being fitted by another process; wait for it to end$", err, re.MULTILINE)
    code, _, err = first.wait()
    assert code == 130, err
    told = "interrupted; 3 of 20 trainings are finished and kept; continue with the same command with --resume"
    assert err.splitlines()[-1] == told
    assert "Traceback" not in err
    assert len(list(runs.glob(".mine.unfinished/finished/*.json"))) == 3
    assert os.listdir(runs) == [".mine.unfinished"]
    code, out, err = Forked(command, *arguments, "--resume", out=tmp_path / "resumed").wait()
    assert code == 0, err
    assert out.endswith(f"{runs / 'mine'}\n")
    assert os.listdir(runs) == ["mine"]
