"""Errors of the disk are one line and lose no existing file; files with other content are reported."""

import errno
import json
import os

import pytest

from featcache.cli import app as cli
from featcache.errors import ClusterError, DiskError, StoreError
from featcache.files.disk import reading, remove, writing
from featcache.files.regular import replace_file
from featcache.files.values import MOST_LEVELS, read_json

REFUSED = {
    errno.EROFS: "allow writing there, or move the data folder and set FEATCACHE_HOME to it",
    errno.EACCES: "allow writing there, or move the data folder",
    errno.ENOSPC: "free disk space, then run the same command again to continue",
    errno.EDQUOT: "free disk space, then run the same command again to continue",
    errno.EFBIG: "raise the limit on the size of files",
    errno.EMFILE: "raise the limit on open files",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.EIO: "check the disk",
    errno.ESTALE: "mount the network disk again",
}


def fail(number):
    def call(*_, **__):
        raise OSError(number, os.strerror(number))

    return call


@pytest.mark.parametrize("number", REFUSED)
@pytest.mark.parametrize("call", ["fsync", "replace", "mkdir"])
def test_what_the_system_refuses_is_one_line_and_the_file_stays_as_it_was(tmp_path, monkeypatch, number, call):
    path = tmp_path / ("new" if call == "mkdir" else "") / "file"
    if call != "mkdir":
        path.write_bytes(b"old")
    with monkeypatch.context() as patch:
        patch.setattr(f"os.{call}", fail(number))
        with pytest.raises(DiskError) as caught:
            replace_file(path, b"new")
    told = str(caught.value)
    assert told.startswith(f"{path} could not be written ({os.strerror(number)}); ")
    assert REFUSED[number] in told
    assert "\n" not in told
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == ([("file", b"old")] if call != "mkdir" else [])


@pytest.mark.parametrize("number", [errno.EINVAL, errno.EBADF])
def test_a_file_system_that_syncs_no_folders_will_do(tmp_path, monkeypatch, number):
    real, calls = os.fsync, []

    def fsync(descriptor):
        calls.append(descriptor)
        if len(calls) == 2:  # The second call syncs the folder.
            fail(number)()
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    replace_file(tmp_path / "file", b"new")
    assert len(calls) == 2
    assert (tmp_path / "file").read_bytes() == b"new"


@pytest.mark.parametrize("what", ["file", "folder", "link"])
def test_what_is_in_the_way_is_named(tmp_path, what):
    place = tmp_path / "place"
    path = place / "file"
    if what == "file":
        place.write_bytes(b"")
        told = f"{place} is a file"
    elif what == "folder":
        path.mkdir(parents=True)
        told = f"{path} is a folder"
    else:
        place.symlink_to(tmp_path / "nowhere")
        told = f"{place} is a link"
    with pytest.raises(DiskError) as caught:
        replace_file(path, b"new")
    assert told in str(caught.value)
    assert "; rename or remove it" in str(caught.value)


def test_a_folder_is_no_file_to_be_removed(tmp_path):
    remove(tmp_path / "nothing")
    with pytest.raises(DiskError, match="could not be written"):
        remove(tmp_path)


@pytest.mark.parametrize("error", [OSError("not the system's"), ClusterError("its own line"), ValueError("a bug")])
@pytest.mark.parametrize("guard", [writing, reading])
def test_other_errors_stay_what_they_are(tmp_path, guard, error):
    with pytest.raises(type(error)) as caught, guard(tmp_path):
        raise error
    assert caught.value is error


# Content of files


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"{", "cannot be read as JSON"),
        (b"", "cannot be read as JSON"),
        (b"\xff\xfe", "cannot be read as JSON"),
        (b"[" * 100_000, "values nested too deeply"),
        (b'{"a":' * 100_000, "values nested too deeply"),
        (b'{"a": ' + b"[" * MOST_LEVELS + b"]" * MOST_LEVELS + b"}", "values nested too deeply"),
        (b"9" * 10_000, "cannot be read as JSON"),
        (b"[]", "expected an object, found a list"),
        (b"null", "expected an object, found nothing"),
        (b"5", "expected an object, found a number"),
        (b"true", "expected an object, found true or false"),
        (b'"x"', "expected an object, found a text"),
    ],
)
def test_json_of_anybody_is_read_or_told_in_one_line(tmp_path, content, told):
    path = tmp_path / "file.json"
    path.write_bytes(content)
    with pytest.raises(StoreError) as caught:
        read_json(path, dict, "remove it")
    assert str(caught.value).startswith(f"{path} is damaged (")
    assert told in str(caught.value)
    assert str(caught.value).endswith("; remove it")
    assert "\n" not in str(caught.value)


def test_json_of_the_right_type_is_given_as_it_is(tmp_path):
    path = tmp_path / "file.json"
    for content in ({"a": [1, {"b": None}], "ä": True}, {}):
        path.write_text(json.dumps(content))
        assert read_json(path, dict, "") == content
    for name in ("nothing", "."):
        with pytest.raises(DiskError, match="could not be read"):
            read_json(tmp_path / name, dict, "")


# The command line


@pytest.mark.parametrize("number", REFUSED)
def test_the_command_tells_what_nothing_before_it_did(monkeypatch, capsys, number):
    def app(**_):
        raise OSError(number, os.strerror(number), "some/file")

    monkeypatch.setattr(cli, "app", app)
    with pytest.raises(SystemExit) as exited:
        cli.main()
    assert exited.value.code == 1
    told = capsys.readouterr().err
    assert told.startswith(f"error: some/file could not be read or written ({os.strerror(number)}); ")
    assert told.count("\n") == 1


@pytest.mark.parametrize("number", [None, errno.ENOENT, errno.ECHILD])
def test_what_is_not_of_the_machine_keeps_its_traceback(monkeypatch, number):
    def app(**_):
        raise OSError(number, "a bug") if number else OSError("a bug")

    monkeypatch.setattr(cli, "app", app)
    with pytest.raises(OSError, match="a bug"):
        cli.main()
