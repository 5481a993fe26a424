"""Consoles that cannot print all characters, closed pipes, and warnings of libraries."""

import io
import logging
import os
import subprocess
import sys
import warnings
from contextlib import suppress
from pathlib import Path

import pytest

from featcache.cli import app as cli
from featcache.manifest import Manifest, Utterance
from featcache.terminal.streams import lasting_streams, log_to_terminal

SHORT = ["--seeds", "2", "--max-epochs", "1"]


@pytest.fixture
def run_on(monkeypatch):
    """Run a command on a console with an encoding; return exit code, stdout and stderr."""

    def run(encoding, *arguments):
        streams = [io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="strict") for _ in range(2)]
        with monkeypatch.context() as patch:
            patch.setattr(sys, "argv", ["featcache", *map(str, arguments)])
            patch.setattr(sys, "stdout", streams[0])
            patch.setattr(sys, "stderr", streams[1])
            with pytest.raises(SystemExit) as exited:
                cli.main()
        for stream in streams:
            stream.flush()
        return exited.value.code, *(stream.buffer.getvalue().decode(encoding) for stream in streams)

    return run


@pytest.fixture
def cache_in_chinese(make_cache):
    """Make a cache with Chinese classes and a corpus name outside ASCII."""
    manifest = Manifest(
        [
            Utterance(
                utterance_id=f"{speaker}-{label}-{i}", path="a.wav", speaker_id=speaker, labels={"emotion": label}
            )
            for speaker in ("01", "02", "03", "04")
            for label in ("怒", "喜")
            for i in range(2)
        ]
    )
    return make_cache("émotion", manifest=manifest)


def test_a_fit_is_saved_and_printed_on_any_console(run_on, cache_in_chinese, quick_reports, tmp_path):
    encoding = "ascii"
    code, out, err = run_on(encoding, "fit", *SHORT)
    assert code == 0, err
    assert " +/- " in out
    [run] = (tmp_path / "data" / "runs" / "émotion").iterdir()
    for command in (["info", run], ["info"], ["layers", run.name], ["score", run / "predictions.csv"]):
        code, out, err = run_on(encoding, *command)
        assert code == 0, err
        assert out
    assert r"\u6012" in out  # the recall of each class
    code, out, err = run_on(encoding, "info", "nöthing")
    assert code == 1
    assert err.startswith("error: no cache, store, run or transcripts")


@pytest.mark.parametrize("command", ["corpora", "models", "run"])
def test_lists_are_printed_on_any_console(run_on, command):
    code, out, err = run_on("ascii", command)
    assert (code, err) == (0, "")
    assert len(out.splitlines()) > 5


@pytest.mark.skipif(sys.platform == "win32", reason="needs file descriptors")
@pytest.mark.parametrize("closed", ["stdout", "stderr"])
def test_a_closed_pipe_ends_no_command(closed):
    reader, writer = os.pipe()
    os.close(reader)
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, closed: writer}
    done = subprocess.run([sys.executable, "-m", "featcache", "corpora"], **streams, check=False, timeout=120)
    os.close(writer)
    assert done.returncode == 0
    assert not done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_behind_stdout_is_told_in_one_line():
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "featcache", "corpora"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False, timeout=120)
    assert done.returncode == 1
    assert done.stderr == (
        "error: standard output could not be written (No space left on device); files are complete\n"
    )


def test_a_warning_of_a_library_is_one_line_that_says_where_it_comes_from(capsys):
    with warnings.catch_warnings(), lasting_streams():
        warnings.simplefilter("always")
        log_to_terminal(logging.WARNING)
        warnings.warn("first line\nand \x1b[31msecond", RuntimeWarning, stacklevel=1)
        logging.getLogger("somebody").warning("a record\nof a library")
        logging.getLogger("somebody").info("nothing of interest")
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 2
    assert told[0].startswith("warning: ")
    assert "tests/terminal/test_streams.py, line " in told[0]
    assert told[0].endswith(r"RuntimeWarning: first line and \x1b[31msecond")
    assert told[1] == "warning: a record of a library"


def test_streams_and_handlers_are_left_as_they_were():
    before = sys.stdout, sys.stderr, warnings.showwarning, list(logging.getLogger().handlers), sys.stdout.errors
    with suppress(ZeroDivisionError), lasting_streams():
        assert sys.stdout is not before[0]
        raise ZeroDivisionError
    assert before == (
        sys.stdout,
        sys.stderr,
        warnings.showwarning,
        list(logging.getLogger().handlers),
        sys.stdout.errors,
    )
