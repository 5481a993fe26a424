"""If the data folder is read-only or has no locks, reading commands work, and writing commands give one line.

Tests may run as root, who ignores permissions. Therefore the system calls are refused below the data folder.
"""

import errno
import io
import itertools
import os
import sys
from functools import partial

import numpy as np
import pytest
import soundfile

from featcache.cli import app as cli
from featcache.files.regular import replace_file
from featcache.report import layers
from featcache.report import relevance_figure as relevance
from featcache.workspace import Workspace

fcntl = pytest.importorskip("fcntl")
QUICK = ("--head", "linear", "--seeds", "1", "--max-epochs", "1", "--features", "ssl", "--corpus", "toy")
NO_LOCKS = [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS]
BROKEN = [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE, errno.EFBIG, errno.EMFILE]


@pytest.fixture
def invoke(monkeypatch, capsys):
    """Return a function that runs a command in this process, and returns its exit code, stdout and stderr."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["featcache", *map(str, arguments)])
        code = 0
        try:
            cli.main()
        except SystemExit as exited:
            code = exited.code
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def check_line(invoke):
    """Return a function that runs a command that must fail with one line, and returns this line."""

    def check(*arguments):
        code, _, err = invoke(*arguments)
        errors = [line for line in err.splitlines() if line.startswith("error: ")]
        assert (code, len(errors)) == (1, 1), err
        assert err.splitlines()[-1] == errors[0]
        return errors[0]

    return check


@pytest.fixture
def home(make_cache, quick_reports, tmp_path, invoke, monkeypatch):
    """Return a data folder: a cache with features and two runs, and a corpus with cached features."""
    for module in (layers, relevance):
        monkeypatch.setattr(module, "save", lambda _, path: replace_file(f"{path}.png", b""))
    make_cache()
    for norm in ("speaker", "none"):
        assert invoke("fit", *QUICK, "--norm", norm, "--name", norm)[0] == 0
    folder = tmp_path / "speech"
    folder.mkdir()
    for number in range(3):
        soundfile.write(folder / f"u{number}.wav", np.sin(np.arange(3200) / (2 + number)), 16000)
    (folder / "manifest.csv").write_text("path,speaker_id,emotion\n" + "".join(f"u{i}.wav,x,joy\n" for i in range(3)))
    assert invoke("extract", "--model", "spectrogram", "--data", folder)[0] == 0
    return Workspace.at().home


@pytest.fixture
def read_only(monkeypatch, home):
    """Refuse to write anything below the data folder."""

    def guard(module, name, writes):
        real = getattr(module, name)

        def call(*given, **options):
            below = any(str(path).startswith(str(home)) for path in given[:2] if isinstance(path, str | os.PathLike))
            if below and writes(*given[1:], **options):
                raise OSError(errno.EROFS, os.strerror(errno.EROFS), given[0])
            return real(*given, **options)

        monkeypatch.setattr(module, name, call)

    changes = os.O_CREAT | os.O_WRONLY | os.O_RDWR
    guard(os, "open", lambda flags, *_, **__: flags & changes)
    guard(io, "open", lambda mode="r", *_, **__: set(mode) & set("wax+"))
    monkeypatch.setattr("builtins.open", io.open)
    for name in ("replace", "rename", "unlink", "link", "rmdir"):
        guard(os, name, lambda *_, **__: True)
    made = os.mkdir

    def mkdir(path, *rest, **options):
        if str(path).startswith(str(home)) and not os.path.exists(path):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), path)
        return made(path, *rest, **options)

    monkeypatch.setattr(os, "mkdir", mkdir)


@pytest.fixture
def refuse_locks(monkeypatch, home):
    """Return a function that makes the file system refuse locks: ``refuse_locks(errno)``."""
    real = fcntl.flock

    def refuse(number):
        def flock(descriptor, operation):
            if operation & fcntl.LOCK_UN:
                return real(descriptor, operation)
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(fcntl, "flock", flock)

    return refuse


def reads(home, tmp_path):
    """Return the commands that write nothing, each with a text that it prints."""
    speech = tmp_path / "speech"
    return [
        (("extract", "--model", "spectrogram", "--data", speech), "nothing to do: all 3 utterances are cached"),
        (("extract", "--model", "spectrogram", "--data", speech, "--limit", 2), "all 2 utterances are cached"),
        (("extract", "--model", "spectrogram", "--data", speech, "--num-shards", 2), "nothing to do"),
        (("fit", *QUICK, "--norm", "none", "--name", "none"), "linear"),
        (("info", home / "cache" / "toy"), "ssl"),
        (("layers", "speaker"), "Layer"),
        (("probe", "--corpus", "toy"), "Layer"),
        (("verify", home / "cache" / "speech" / "spectrogram", "--data", speech), "all checksums are correct"),
        (("score", home / "runs" / "toy" / "none" / "predictions.csv"), "UAR"),
        (("compare", "speaker", "none"), "UAR"),
        (("layers", "speaker", "--out", tmp_path / "figure"), "Layer"),
    ]


def writes(home, tmp_path):
    """Return the commands that write something."""
    speech = tmp_path / "speech"
    return [
        ("extract", "--model", "spectrogram", "--data", speech, "--name", "new"),
        ("extract", "--model", "spectrogram", "--data", speech, "--corpus", "new"),
        ("fit", *QUICK, "--name", "new"),
        ("fit", *QUICK, "--norm", "none", "--name", "none", "--overwrite"),
        ("merge", home / "cache" / "toy" / "merged", home / "cache" / "toy" / "ssl"),
        ("ensemble", "speaker", "none", "--name", "vote"),
        ("relevance", "ssl", "--head", "linear", "--seeds", 1, "--corpus", "toy"),
    ]


def files_in(folder):
    return sorted(str(path) for path in folder.rglob("*") if not path.name.startswith(".lock"))


@pytest.mark.usefixtures("read_only")
def test_a_read_only_folder_can_be_read(home, tmp_path, invoke):
    before = files_in(home)
    for command, told in reads(home, tmp_path):
        code, out, err = invoke(*command)
        assert code == 0, (command, err)
        assert told in out
    assert files_in(home) == before


@pytest.mark.usefixtures("read_only")
def test_figures_that_nobody_named_are_left_out_with_a_warning(home, invoke, check_line):
    code, out, err = invoke("layers", "speaker")
    assert code == 0
    assert "layer_weights.png could not be written (Read-only file system)" in err
    assert "choose another place with --out" in err
    assert "Layer" in out
    for command in (("layers", "speaker"), ("score", home / "runs/toy/none/predictions.csv")):
        assert "could not be written (Read-only file system)" in check_line(*command, "--out", home / "mine")
    assert "could not be written" in check_line("compare", "speaker", "none", "--out", home / "mine.csv")


@pytest.mark.usefixtures("read_only")
def test_what_a_read_only_folder_does_not_take_is_one_line(home, tmp_path, check_line):
    before = files_in(home)
    for command in writes(home, tmp_path):
        told = check_line(*command)
        assert "could not be written (Read-only file system); allow writing there, or move the data folder" in told
    soundfile.write(tmp_path / "speech" / "u0.wav", np.zeros(3200), 16000)
    assert "Read-only file system" in check_line("extract", "--model", "spectrogram", "--data", tmp_path / "speech")
    (tmp_path / "speech" / "u0.wav").unlink()
    assert files_in(home) == before


def test_without_locks_all_is_read_and_nothing_written(home, tmp_path, refuse_locks, invoke, check_line):
    refuse_locks(errno.ENOLCK)
    for command, told in reads(home, tmp_path):
        code, out, err = invoke(*command)
        assert code == 0, (command, err)
        assert told in out
    for number, command in zip(itertools.cycle(NO_LOCKS), writes(home, tmp_path), strict=False):
        refuse_locks(number)
        told = check_line(*command)
        assert f"could not be locked ({os.strerror(number)}); move the data folder to a file system with locks" in told


def test_what_breaks_while_writing_is_one_line_and_the_same_command_does_the_rest(
    home, tmp_path, monkeypatch, check_line, invoke
):
    commands = writes(home, tmp_path)[:-1]
    for number, command in zip(BROKEN, commands, strict=True):
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", partial(fail, number))
            assert f"could not be written ({os.strerror(number)}); " in check_line(*command)
    for command in commands:
        code, _, err = invoke(*command, *(["--resume"] if command[0] == "fit" else []))
        assert code == 0, (command, err)


def fail(number, _):
    raise OSError(number, os.strerror(number))


def test_what_breaks_while_reading_is_one_line(home, monkeypatch, check_line):
    real = io.open

    def refuse(path, *given, **options):
        if str(path).endswith((".csv", ".json", ".yaml", ".h5")):
            raise OSError(errno.EIO, os.strerror(errno.EIO), path)
        return real(path, *given, **options)

    monkeypatch.setattr(io, "open", refuse)
    monkeypatch.setattr("builtins.open", refuse)
    for command in (
        ("compare", "speaker", "none"),
        ("fit", *QUICK),
        ("info", home / "cache" / "toy"),
        ("layers", "speaker"),
    ):
        assert "Input/output error" in check_line(*command)


DAMAGED = ["[]", "null", "[" * 100_000, "x", "5", '"x"']


def test_a_damaged_corpus_json_is_one_line(home, check_line):
    for content in (*DAMAGED, '{"corpus": []}', '{"corpus": {"a": 1}}', "{}"):
        (home / "cache" / "toy" / "corpus.json").write_text(content)
        assert "corpus.json is damaged (" in check_line("fit", *QUICK, "--name", "new")


@pytest.mark.parametrize("file", ["config.yaml", "metrics.json"])
def test_a_damaged_run_is_one_line(home, invoke, file):
    damaged = [*DAMAGED, '{"uar": 5}', '{"uar": {"mean": "a"}}', '{"uar": {}}', "{}", '{"confusion": []}']
    damaged += ['{"corpus": [], "features": 5, "head": {}, "seeds": "x"}', '{"bootstrap": {"count": "x"}}']
    damaged += ['{"uar": {"ci95": [1]}}', '{"recall": {"joy": 5}}', '{"confusion": {"classes": [[]]}}']
    for content in damaged:
        (home / "runs" / "toy" / "speaker" / file).write_text(content)
        for command in (("compare", "speaker", "none"), ("layers", "speaker")):
            code, _, err = invoke(*command)
            assert code in (0, 1)  # The damaged file may not be needed.
            assert err.count("error: ") == code
        code, _, err = invoke("fit", *QUICK, "--norm", "speaker", "--name", "speaker")
        assert (code, err.count("error: ")) == (1, 1)
