"""Only one process holds a lock, its file stays, and a file system without locks is reported when writing."""

import errno
import multiprocessing
import os
import threading

import pytest

from featcache.cache.locks import locked
from featcache.errors import DiskError, StoreError
from featcache.files.locks import FOREVER, held

fcntl = pytest.importorskip("fcntl")
NO_LOCKS = [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS]


@pytest.fixture
def refuse(monkeypatch):
    """Return a function that makes the file system refuse locks: ``refuse(errno)``."""
    real = fcntl.flock

    def use(number):
        def flock(descriptor, operation):
            if operation & fcntl.LOCK_UN:
                return real(descriptor, operation)
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(fcntl, "flock", flock)

    return use


def test_the_file_of_a_lock_stays(tmp_path):
    path = tmp_path / "new" / ".lock"
    with held(path, "taken"):
        before = path.stat().st_ino
        with pytest.raises(StoreError, match=r"^taken$"), held(path, "taken"):
            pass
    with held(path, "taken"):
        assert path.stat().st_ino == before


def hold_in_turn(path, rounds, inside, together):
    for _ in range(rounds):
        with held(path, "taken", wait=FOREVER):
            with inside.get_lock():
                inside.value += 1
                together.value = max(together.value, inside.value)
            with inside.get_lock():
                inside.value -= 1


def test_processes_hold_a_lock_one_after_the_other(tmp_path):
    context = multiprocessing.get_context("fork")
    inside, together = context.Value("i", 0), context.Value("i", 0)
    arguments = (tmp_path / ".lock", 100, inside, together)
    processes = [context.Process(target=hold_in_turn, args=arguments) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 4
    assert (inside.value, together.value) == (0, 1)


def test_parts_that_begin_together_are_not_taken_for_the_whole(tmp_path):
    """The file of an older lock exists, and all parts check at the same time whether it is held."""
    (tmp_path / ".lock").touch()
    number = 8
    begin, end = threading.Barrier(number), threading.Barrier(number)
    faults = []

    def part(index):
        for _ in range(15):
            begin.wait()
            try:
                with locked(tmp_path, (index, number)):
                    end.wait()
            except BaseException as error:  # The other threads must not wait for this one.
                faults.append(error)
                end.abort()
                begin.abort()
                return

    threads = [threading.Thread(target=part, args=(index,)) for index in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []


def test_a_part_the_same_part_and_the_whole_keep_each_other_out(tmp_path):
    with locked(tmp_path, (0, 2)):
        with locked(tmp_path, (1, 2)):
            pass
        for other in ((0, 2), (0, 1)):
            with pytest.raises(StoreError, match="is being written by another process"), locked(tmp_path, other):
                pass
    with locked(tmp_path):
        for other in ((0, 2), (0, 1)):
            with pytest.raises(StoreError, match="is being written by another process"), locked(tmp_path, other):
                pass


@pytest.mark.parametrize("wait", [0.0, FOREVER])
@pytest.mark.parametrize("left", [False, True])
@pytest.mark.parametrize("number", [*NO_LOCKS, errno.ESTALE, errno.EIO])
def test_what_the_file_system_says_of_locks_is_one_line(tmp_path, refuse, recwarn, number, left, wait):
    path = tmp_path / ".lock"
    if left:
        path.touch()
    refuse(number)
    with pytest.raises(DiskError) as caught, held(path, "taken", wait=wait):
        pass
    assert str(caught.value).startswith(f"{path} could not be locked ({os.strerror(number)}); ")
    assert ("file system with locks" in str(caught.value)) == (number in NO_LOCKS)
    assert not recwarn.list


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES])
def test_a_folder_that_may_not_be_written_is_named(tmp_path, monkeypatch, number):
    real = os.open

    def refuse(path, flags, *rest, **options):
        if flags & os.O_CREAT:
            raise OSError(number, os.strerror(number))
        return real(path, flags, *rest, **options)

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(DiskError) as caught, held(tmp_path / ".lock", "taken"):
        pass
    assert str(caught.value).startswith(f"{tmp_path} could not be written ({os.strerror(number)}); ")


def test_a_folder_in_place_of_the_file_is_named(tmp_path):
    (tmp_path / ".lock").mkdir()
    with (
        pytest.raises(DiskError, match=r"\.lock is a folder\); rename or remove it$"),
        locked(tmp_path),
    ):
        pass
    (tmp_path / "file").touch()
    with pytest.raises(DiskError, match=r"file is a file\); rename or remove it"), locked(tmp_path / "file"):
        pass
