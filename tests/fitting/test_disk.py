"""A full or read-only disk gives one line, finished trainings are kept, and --resume trains the rest."""

import errno
import os
import re
import threading

import joblib
import pytest

from featcache.errors import FeatcacheError, StoreError
from featcache.files.disk import disk_errors
from featcache.fitting import ensemble as ensembles
from featcache.fitting import job, results
from featcache.fitting.ensemble import ensemble
from featcache.fitting.fit import fit
from featcache.report import figures
from featcache.runs import records, saved_statistics, writer
from featcache.runs.writer import UnfinishedRun
from featcache.workspace import Workspace
from tests.forked import POSSIBLE, Forked, command

SHORT = {"seeds": (1, 2), "max_epochs": 2}
FULL = [name for name in ("ENOSPC", "EDQUOT", "EFBIG", "EROFS", "EACCES", "EIO") if hasattr(errno, name)]

pytestmark = pytest.mark.usefixtures("quick_reports")


def failing_after(function, times, code):
    """Return a function that fails after a number of calls, as on a full disk, which names no file."""
    left = threading.Semaphore(times)

    def call(*arguments, **options):
        if not left.acquire(blocking=False):
            raise OSError(code, os.strerror(code))
        return function(*arguments, **options)

    return call


@pytest.mark.parametrize("name", FULL)
def test_errors_of_the_disk_are_one_line_with_a_remedy(tmp_path, name):
    code = getattr(errno, name)
    for error in (OSError(code, os.strerror(code)), OSError(code, os.strerror(code), str(tmp_path / "x"))):
        with pytest.raises(StoreError) as told, disk_errors(tmp_path):
            raise error
        assert str(told.value).startswith(str(error.filename or tmp_path))
        assert os.strerror(code) in str(told.value)
        assert re.search(r"could not be written \(.*\); \w+", str(told.value))
        assert "\n" not in str(told.value)


@pytest.mark.parametrize("error", [OSError("no number"), FileNotFoundError(errno.ENOENT, "gone"), ValueError("bug")])
def test_other_errors_keep_their_tracebacks(tmp_path, error):
    with pytest.raises(type(error)), disk_errors(tmp_path):
        raise error


def test_our_own_errors_pass(tmp_path):
    error = StoreError("mine")
    with pytest.raises(FeatcacheError) as told, disk_errors(tmp_path):
        raise error
    assert told.value is error


@pytest.mark.parametrize("jobs", [1, 2])
def test_trainings_that_were_finished_before_the_disk_was_full_are_kept(make_cache, monkeypatch, caplog, jobs):
    make_cache()
    whole = fit(name="whole", **SHORT)
    with monkeypatch.context() as patch, joblib.parallel_config(backend="threading"):
        # Each training writes two files.
        patch.setattr(records, "replace_file", failing_after(records.replace_file, 2 * 3, errno.ENOSPC))
        with pytest.raises(StoreError, match=r"No space left on device\); free disk space"):
            fit(name="mine", jobs=jobs, **SHORT)
    told = re.search(
        r"(\d) of 8 trainings are finished and kept; continue with the same command with --resume", caplog.text
    )
    # A training that another thread was writing may be kept too.
    kept = len(list(Workspace.at().runs("toy").glob(".mine.unfinished/finished/*.json")))
    assert 1 <= int(told[1]) <= kept <= 3
    run = fit(name="mine", resume=True, **SHORT)
    assert (run.path / "predictions.csv").read_bytes() == (whole.path / "predictions.csv").read_bytes()


@pytest.mark.parametrize(
    ("owner", "when"),
    [
        (saved_statistics, "replace_file"),
        (results, "write_rows"),
        (figures, "save"),
        (writer, "record_checksums"),
    ],
)
def test_a_disk_that_fills_while_results_are_written_costs_no_training(make_cache, monkeypatch, caplog, owner, when):
    make_cache()
    with monkeypatch.context() as patch:
        patch.setattr(owner, when, failing_after(getattr(owner, when), 0, errno.EDQUOT))
        with pytest.raises(StoreError, match=r"\); free disk space"):
            fit(name="mine", **SHORT)
    assert "8 of 8 trainings are finished and kept; continue with the same command with --resume" in caplog.text
    monkeypatch.setattr(job.FitJob, "train", lambda *_: (_ for _ in ()))  # everything is trained
    run = fit(name="mine", resume=True, **SHORT)
    assert run.metrics["num_seeds"] == 2
    assert not (run.path.parent / ".mine.unfinished").exists()


def test_a_folder_that_may_not_be_written_to_is_told(make_cache, monkeypatch):
    make_cache()
    monkeypatch.setattr(UnfinishedRun, "begin", failing_after(UnfinishedRun.begin, 0, errno.EROFS))
    with pytest.raises(StoreError, match=r"runs.toy could not be written \(Read-only file system\); allow writing"):
        fit(**SHORT)


def test_whoever_resumed_is_not_told_to_resume(make_cache, monkeypatch, caplog):
    make_cache()
    keep = UnfinishedRun.keep
    for resume, advice in (
        (False, "continue with the same command with --resume"),
        (True, "continue with the same command"),
    ):
        monkeypatch.setattr(UnfinishedRun, "keep", failing_after(keep, 2, errno.ENOSPC))
        with pytest.raises(StoreError):
            fit(name="mine", resume=resume, **SHORT)
        assert caplog.messages[-1].endswith(f" of 8 trainings are finished and kept; {advice}")


def test_an_ensemble_on_a_full_disk_leaves_nothing(make_cache, monkeypatch):
    make_cache()
    runs = [fit(norm=norm, **SHORT) for norm in ("speaker", "none")]
    monkeypatch.setattr(ensembles, "write_json", failing_after(ensembles.write_json, 0, errno.ENOSPC))
    with pytest.raises(StoreError, match=r"No space left on device\); free disk space"):
        ensemble(runs=[run.name for run in runs], name="vote")
    assert sorted(path.name for path in runs[0].path.parent.iterdir()) == sorted(run.name for run in runs)


def command_within(size, *arguments):
    """Run a command with a limit on the size of files in bytes, as after ``ulimit -f``."""
    import resource

    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    command(*arguments)


@pytest.mark.skipif(not POSSIBLE, reason="needs fork and limits")
def test_files_that_are_too_large_in_other_processes_are_one_line(make_cache, tmp_path):
    make_cache(hidden_size=32)  # each head has 80 kB
    arguments = ["fit", "--seeds", "1", "--max-epochs", "1", "--jobs", "2"]
    code, _, told = Forked(command_within, 2**15, *arguments, out=tmp_path / "fit").wait()
    assert code == 1, told
    assert "Traceback" not in told
    [error] = [line for line in told.splitlines() if line.startswith("error: ")]
    assert "File too large); raise the limit on the size of files ('ulimit -f unlimited')" in error
    assert not list((tmp_path / "data" / "runs" / "toy").glob("[!.]*"))
