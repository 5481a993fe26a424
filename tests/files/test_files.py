"""An unfinished write never looks finished."""

import csv
import errno
import hashlib
import os
import stat

import pandas
import pytest

from featcache.cache.failures import Failure, read_failures, write_failures
from featcache.errors import DiskError
from featcache.files.regular import CsvRows, link_or_copy, remove_unfinished, replace_file, replacing, sha256_of_file


@pytest.fixture(params=[None, b"old"])
def path(tmp_path, request):
    """Return the path of a missing file and of an existing file."""
    path = tmp_path / "file.txt"
    if request.param is not None:
        path.write_bytes(request.param)
    return path


def state(path):
    return path.read_bytes() if path.exists() else None


def test_what_is_written_takes_the_files_place(path):
    before = state(path)
    with replacing(path) as temporary:
        assert temporary.parent == path.parent  # A rename across file systems would be a copy.
        temporary.write_bytes(b"new")
        assert state(path) == before
    assert path.read_bytes() == b"new"
    assert os.listdir(path.parent) == ["file.txt"]


@pytest.mark.parametrize("fault", [ValueError, KeyboardInterrupt, SystemExit])
def test_a_write_that_fails_changes_nothing(path, fault):
    before = sorted(os.listdir(path.parent)), state(path)

    def write_half():
        with replacing(path) as temporary:
            temporary.write_bytes(b"half of")
            raise fault

    with pytest.raises(fault):
        write_half()
    assert (sorted(os.listdir(path.parent)), state(path)) == before


def test_bytes_are_on_the_disk_before_the_name_is(path, monkeypatch):
    calls = []
    for name in ("fsync", "replace"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *args, name=name, real=real: (calls.append(name), real(*args)))
    replace_file(path, b"new")
    assert calls == ["fsync", "replace", "fsync"]  # the file, its new name, and its folder


def test_what_killed_writes_left_is_removed_of_one_file_alone(tmp_path):
    unfinished = "0123456789abcdef" * 2
    mine, others = (
        f".a[1].csv.{unfinished}.tmp",
        [f".a1.csv.{unfinished}.tmp", f".a[1].csv.b.{unfinished}.tmp", "a[1].csv"],
    )
    for name in (mine, *others):
        (tmp_path / name).touch()
    remove_unfinished(tmp_path, "a[1].csv")
    assert sorted(os.listdir(tmp_path)) == sorted(others)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes")
def test_no_device_and_no_pipe_is_replaced(tmp_path):
    """Root could replace a device of this machine, so that a test must not try; a pipe is refused in the same way."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(DiskError, match="pipe is a named pipe, which cannot be replaced"):
        replace_file(pipe, b"new")
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert os.listdir(tmp_path) == ["pipe"]


def test_folders_are_made(tmp_path):
    replace_file(tmp_path / "a" / "b" / "file.txt", b"new")
    assert (tmp_path / "a" / "b" / "file.txt").read_bytes() == b"new"


@pytest.mark.parametrize("links", [True, False])
def test_a_second_name_never_takes_another_files_place(tmp_path, monkeypatch, links):
    if not links:

        def refuse(_source, target):
            if os.path.exists(target):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

        monkeypatch.setattr(os, "link", refuse)
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "file").chmod(0o444)
    (tmp_path / "other").write_bytes(b"another")
    link_or_copy(tmp_path / "file", tmp_path / "second")
    assert (tmp_path / "second").read_bytes() == b"content"
    assert os.path.samefile(tmp_path / "file", tmp_path / "second") == links
    with pytest.raises(FileExistsError):
        link_or_copy(tmp_path / "file", tmp_path / "other")
    assert (tmp_path / "other").read_bytes() == b"another"
    assert sorted(os.listdir(tmp_path)) == ["file", "other", "second"]


def test_only_what_was_left_unfinished_is_removed(tmp_path, monkeypatch):
    kept = [".lock", "shard-00000.h5", "notes.tmp", ".hidden"]
    for name in kept:
        (tmp_path / name).touch()
    with replacing(tmp_path / "shard-00001.h5") as temporary:
        temporary.write_bytes(b"half of")
        os.link(temporary, tmp_path / ".shard-00002.h5.4711.tmp")  # Another killed process would leave such a file.
    remove_unfinished(tmp_path)
    assert sorted(os.listdir(tmp_path)) == sorted([*kept, "shard-00001.h5"])
    remove_unfinished(tmp_path / "nowhere")


def test_sha256_of_a_file(tmp_path):
    content = bytes(range(256)) * 10_000
    (tmp_path / "file").write_bytes(content)
    assert sha256_of_file(tmp_path / "file") == hashlib.sha256(content).hexdigest()


ODD = ["a\rb", "a\nb", "a\r\nb", "\x1b[31m", "=1+1", '"', ",", "", " a ", "\u2028", "\u202e", "怒", "'"]


def test_rows_of_csv_are_read_back_as_they_were(tmp_path):
    rows = [["first", "second"], *([one, other] for one in ODD for other in ODD)]
    path = tmp_path / "table.csv"
    with open(path, "w", newline="", encoding="utf-8") as file:
        CsvRows(file).add(rows)
    with open(path, newline="", encoding="utf-8") as file:
        assert list(csv.reader(file)) == rows
    read = pandas.read_csv(path, dtype=str, keep_default_na=False)
    assert read.to_numpy().tolist() == rows[1:]
    assert path.read_bytes().count(b"\r\n") == sum("\r\n" in text for row in rows for text in row)


def test_failures_of_odd_names_are_read_back(tmp_path):
    failures = [Failure(store=tmp_path.name, utterance_id=odd, path=odd, reason=odd) for odd in ODD if odd]
    write_failures(tmp_path, failures, set())
    assert read_failures(tmp_path) == failures
