"""A fit that is killed or interrupted goes on to the same files, and trains only what was missing."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from featcache.errors import StoreError
from featcache.fitting import job
from featcache.fitting.fit import fit
from featcache.runs.writer import UnfinishedRun
from featcache.training.train import Training

ROOT = Path(__file__).parents[2]
KILLS = 5

# Forks, so that torch is imported once; each child is a real fit. The parent never fits: threads do not survive a fork,
# and what they held may crash a child. Pictures take longer than training, and are empty.
DRIVER = """
import os, random, shutil, signal, sys, threading, time
from pathlib import Path

import safetensors.torch, scipy.sparse, scipy.stats, sklearn.metrics

from featcache.report import classification, figures, html, layers
from featcache.runs import writer
from featcache.fitting.fit import fit

for module in (figures, layers):
    module.save = lambda figure, path: path.with_name(path.name + ".png").touch()
    module.layer_weights = figures.confusion_matrix = figures.training_curves = lambda *_: None
cache, home, kills = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])


def run(folder, resume=False):
    kept = []
    keep = writer.UnfinishedRun.keep
    def counted(*arguments):
        keep(*arguments)
        kept.append(1)
    writer.UnfinishedRun.keep = counted
    fit(home=folder, name="mine", seeds=(1, 2, 3), training={"max_epochs": 40, "patience": 40}, resume=resume)
    writer.UnfinishedRun.keep = keep
    return len(kept)


def run_child(folder, resume=False):
    pid = os.fork()
    if pid == 0:
        number = run(folder, resume)
        os._exit(number)
    return pid


def prepare(name):
    folder = home / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "cache").symlink_to(cache)
    return folder


def files(folder):
    found = folder / "runs" / "toy" / "mine"
    return {path.relative_to(found): path.read_bytes() for path in found.rglob("*") if path.is_file()}


def ended(pid):
    # without reaping it, so that its number is not given to another process
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def wait(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


assert threading.active_count() == 1
assert wait(run_child(prepare("whole"))) == 12
assert wait(run_child(prepare("again"))) == 12
whole = files(home / "whole")
assert files(home / "again") == whole
chance, partly = random.Random(0), 0
for number in range(kills):
    folder = prepare("killed")
    # some time after so many trainings are kept, however long they take
    wanted, pid = 12 * number // kills, run_child(folder)
    while len(list(folder.glob("runs/toy/.mine.unfinished/finished/*.json"))) < wanted and not ended(pid):
        time.sleep(0.001)
    time.sleep(0.05 * chance.random())
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    if (folder / "runs" / "toy" / "mine").exists():
        assert files(folder) == whole
        continue
    there = len(list(folder.glob("runs/toy/.mine.unfinished/finished/*.json")))
    partly += 0 < there < 12
    trained = wait(run_child(folder, resume=True))
    assert trained == 12 - there, (trained, there)
    found = files(folder)
    assert found == whole, [path for path in {*found, *whole} if found.get(path) != whole.get(path)]
    assert os.listdir(folder / "runs" / "toy") == ["mine"], os.listdir(folder / "runs" / "toy")
print(partly)
"""


@pytest.mark.skipif(not hasattr(os, "waitid"), reason="needs fork and waitid")
def test_kill_9_at_random_moments(make_cache, tmp_path):
    cache = make_cache()
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", DRIVER, str(cache.parent), str(tmp_path / "homes"), str(KILLS)],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
    )
    assert result.returncode == 0, result.stderr
    # a test whose kills all came too early or too late would show nothing
    assert int(result.stdout.split()[-1]) >= 1


SHORT = {"seeds": (1, 2), "training": {"max_epochs": 2}, "name": "mine"}


@pytest.fixture
def interrupted(make_cache, quick_reports, monkeypatch):
    """A cache whose fit was interrupted after three of eight trainings."""
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
    assert len(kept) == (5 if jobs == 1 else 0)  # other processes count for themselves
    assert sorted(zip(resumed.predictions["seed"], resumed.predictions["utterance_id"], strict=True)) == sorted(
        {(seed, i) for seed in (1, 2) for i in resumed.predictions["utterance_id"]}
    )
    before = {path.name: path.read_bytes() for path in resumed.path.rglob("*") if path.is_file()}
    whole = fit(overwrite=True, **SHORT)
    assert {path.name: path.read_bytes() for path in whole.path.rglob("*") if path.is_file()} == before


def test_what_was_interrupted_is_gone_on_with_only_when_asked(interrupted, monkeypatch):
    with pytest.raises(
        StoreError,
        match=r"mine was interrupted after 3 trainings; go on with --resume, or start anew with --overwrite$",
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
        fit(seeds=(1, 2, 3), training={"max_epochs": 60, "patience": 60}, name="mine")
    assert told.traceback  # what is raised keeps its frames alive, and with them whatever is not closed
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("fit")]


def featcache(*arguments, program=("-m", "featcache")):
    """A command in a process of its own, in English and without colours."""
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", *program, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "COLUMNS": "250"},
    )


def wait_for(condition, process):
    end = time.monotonic() + 300
    while not condition():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < end
        time.sleep(0.01)


# A fit that does nothing more when three trainings are kept, until it is interrupted.
HELD = """
import time

from featcache.cli.app import main
from featcache.runs.writer import UnfinishedRun

keep, kept = UnfinishedRun.keep, []


def held(*arguments):
    keep(*arguments)
    kept.append(1)
    while len(kept) == 3:
        time.sleep(0.01)


UnfinishedRun.keep = held
main()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs signals")
def test_ctrl_c_keeps_what_is_finished_and_a_second_fit_waits_its_turn(make_cache, tmp_path):
    make_cache()
    runs = tmp_path / "data" / "runs" / "toy"
    command = ["fit", "--seeds", "5", "--max-epochs", "2", "--name", "mine"]
    first = featcache(*command, program=("-c", HELD))
    wait_for(lambda: len(list(runs.glob(".mine.unfinished/finished/*.json"))) == 3, first)
    second = featcache(*command)
    out, err = second.communicate(timeout=300)
    first.send_signal(signal.SIGINT)
    assert (second.returncode, out) == (1, "")
    assert re.search(r"^error: .*mine is being fitted by another process; wait for it to end$", err, re.MULTILINE)
    out, err = first.communicate(timeout=300)
    assert first.returncode == 130, err
    assert "3 of 20 trainings are finished and kept; the same with --resume goes on" in err
    assert "Traceback" not in err
    assert len(list(runs.glob(".mine.unfinished/finished/*.json"))) == 3
    assert os.listdir(runs) == [".mine.unfinished"]
    resumed = featcache(*command, "--resume")
    out, err = resumed.communicate(timeout=300)
    assert resumed.returncode == 0, err
    assert out.endswith(f"{runs / 'mine'}\n")
    assert os.listdir(runs) == ["mine"]
