"""Ctrl-C in every command and at any time: one line, exit code 130, and finished work is kept."""

import contextlib
import logging
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest
import soundfile

import featcache
from featcache.cli import app as cli
from featcache.terminal import interrupts
from featcache.terminal.interrupts import INTERRUPTED_LINE, Pool, held_back
from featcache.workspace import Workspace

ON_POSIX = pytest.mark.skipif(sys.platform == "win32", reason="needs signals")


def interrupt(*_, **__):
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    "command",
    [
        ["extract"],
        ["transcribe"],
        ["info"],
        ["fit"],
        ["run", "layerwise"],
        ["layers"],
        ["probe"],
        ["relevance"],
        ["compare", "a", "b"],
        ["ensemble", "a", "b"],
        ["corpora"],
        ["verify", "store"],
        ["merge", "into", "part"],
        ["models"],
        ["fetch", "wavlm-large"],
        ["demo"],
        ["score", "predictions.csv"],
    ],
)
def test_every_command_says_that_it_was_interrupted(monkeypatch, capsys, command, tmp_path):
    places = {
        "verify": "featcache.cli.listing.print_verification",
        "merge": "featcache.cli.listing.print_merge",
        "models": "featcache.cli.model_list.print_models",
        "fetch": "featcache.fetching.fetch_models.read_contents",
        "demo": "featcache.cli.demo.run_demo",
        "score": "featcache.cli.scores.print_score",
    }
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(places.get(command[0], "featcache.workspace.Workspace.at"), interrupt)
    monkeypatch.setattr(sys, "argv", ["featcache", *command])
    with pytest.raises(SystemExit) as exited:
        cli.main()
    out, err = capsys.readouterr()
    assert exited.value.code == 130
    assert out == ""
    assert err.splitlines()[-1] == INTERRUPTED_LINE


def test_transcribing_says_so_while_the_model_is_loaded(monkeypatch, capsys, tmp_path):
    corpus(tmp_path / "corpus")
    monkeypatch.setattr("featcache.transcription.transcribe_corpus.Transcriber", interrupt)
    monkeypatch.setattr(sys, "argv", ["featcache", "transcribe", "--data", str(tmp_path / "corpus")])
    with pytest.raises(SystemExit) as exited:
        cli.main()
    assert exited.value.code == 130
    assert capsys.readouterr().err == f"loading whisper-tiny\n{INTERRUPTED_LINE}\n"


@ON_POSIX
def test_a_step_that_must_not_end_halfway_is_finished_first(caplog):
    steps = []

    def write():
        with held_back("a file is written first"):
            for step in ("written", "flushed"):
                signal.raise_signal(signal.SIGINT)
                steps.append(step)

    with pytest.raises(KeyboardInterrupt):
        write()
    assert steps == ["written", "flushed"]
    assert caplog.messages == ["stopping: a file is written first"]
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)  # unchanged afterwards


def test_an_error_in_such_a_step_is_not_hidden():
    with pytest.raises(ZeroDivisionError), held_back("a file is written first"):
        raise ZeroDivisionError


def test_other_threads_hold_nothing_back():
    done = []

    def work():
        with held_back("nothing"):
            done.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == [True]


def test_the_first_ctrl_c_lets_what_has_begun_end(caplog):
    begun, go = threading.Event(), threading.Event()

    def work():
        begun.set()
        go.wait()
        return "done"

    with Pool(1, "test") as pool:
        futures = [pool.submit(work), pool.submit(work)]
        begun.wait()
        threading.Timer(0.05, go.set).start()
        assert [future.result() for future in pool.finish(futures, "things")] == ["done"]
    assert futures[1].cancelled()
    assert caplog.messages == ["stopping: running things are finished first; press Ctrl-C again to abandon them"]


def test_the_second_ctrl_c_waits_for_nothing_and_keeps_what_has_ended(monkeypatch, caplog):
    begun, go = threading.Event(), threading.Event()

    def stuck():
        begun.set()
        go.wait()

    with Pool(1, "test") as pool:
        ended = pool.submit(lambda: "done")
        running, waiting = pool.submit(stuck), pool.submit(stuck)
        begun.wait()
        monkeypatch.setattr(interrupts, "wait", interrupt)
        assert pool.finish([ended, running, waiting], "things") == [ended]
    monkeypatch.undo()
    assert not go.is_set()  # the block has ended nevertheless
    assert waiting.cancelled()
    assert caplog.messages[-1] == "stopping now: running things are abandoned, finished ones are kept"
    monkeypatch.setattr(interrupts, "GRACE_SECONDS", 0.0)
    assert interrupts.threads_are_left()
    go.set()
    running.result()
    assert not interrupts.threads_are_left()


def test_ctrl_c_leaves_a_block_of_threads_at_once():
    begun, go = threading.Event(), threading.Event()

    def stuck():
        begun.set()
        go.wait()

    futures = []

    def block():
        with Pool(1, "test") as pool:
            futures.append(pool.submit(stuck))
            begun.wait()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        block()
    assert not go.is_set()
    go.set()
    futures[0].result()


def corpus(folder):
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name in "abcd":
        soundfile.write(folder / f"{name}.wav", rng.uniform(-0.1, 0.1, 3200), 16000)
    rows = "".join(f"{name}.wav,{name},joy\n" for name in "abcd")
    (folder / "manifest.csv").write_text(f"path,speaker_id,emotion\n{rows}")
    return folder


@pytest.mark.parametrize("twice", [False, True])
def test_an_extraction_keeps_what_was_finished_however_often_ctrl_c_is_pressed(monkeypatch, caplog, tmp_path, twice):
    data = corpus(tmp_path / "corpus")

    @contextlib.contextmanager
    def interrupted(*_, **__):
        yield interrupt

    with monkeypatch.context() as patch:
        patch.setattr("featcache.extraction.run.progress", interrupted)
        if twice:
            patch.setattr(interrupts, "wait", interrupt)
        with caplog.at_level(logging.WARNING):
            report = featcache.extract(model="egemaps", data=data, workers=1)
    assert report.interrupted
    assert any("stopping now" in message for message in caplog.messages) == twice
    store = featcache.open(Workspace.at().cache("corpus"))["egemaps"]
    assert 1 <= len(store) == report.num_extracted
    assert not featcache.extract(model="egemaps", data=data).interrupted
    assert len(featcache.open(Workspace.at().cache("corpus"))["egemaps"]) == 4


@ON_POSIX
def test_ctrl_c_while_a_library_is_imported_ends_the_process(tmp_path):
    (tmp_path / "library.py").write_text(
        "import os, signal\n"
        "try:\n    os.kill(os.getpid(), signal.SIGINT)\n    [None for _ in range(10**6)]\n"
        "except KeyboardInterrupt:\n    os.abort()  # as torch's C++ code does\n"
    )
    code = "from featcache.terminal.interrupts import leaving_imports\nwith leaving_imports(130): import library"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", f"{INTERRUPTED_LINE}\n")


def test_a_thread_that_was_given_up_does_not_keep_the_process():
    code = """
import threading
from featcache import __main__
from featcache.cli import app as cli
from featcache.terminal.interrupts import Pool

def stuck():
    try:
        with Pool(1, "stuck") as pool:
            pool.submit(threading.Event().wait)
            raise KeyboardInterrupt
    except KeyboardInterrupt:
        return 130

cli._exit_code = stuck
__main__.main()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stderr) == (130, "")
