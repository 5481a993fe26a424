"""Checksums of a folder: every change is found, a killed write gives no false alarm, and names stay in the folder."""

import os
import shutil
import subprocess

import pytest

from featcache.files import checksums
from featcache.files.checksums import (
    CHECKSUMS,
    forget_checksums,
    recorded_checksums,
    replacing_checksums,
    unrecorded_files,
    write_checksums,
    wrong_files,
)

NAMES = ["metrics.json", "heads/seed-1-fold-0.safetensors", "Sprecher ä.csv"]


@pytest.fixture
def folder(tmp_path):
    """Return a folder of three files with checksums."""
    folder = tmp_path / "run"
    (folder / "heads").mkdir(parents=True)
    for name in NAMES:
        (folder / name).write_bytes(b"content of " + name.encode())
    write_checksums(folder, NAMES)
    return folder


def test_what_was_written_is_right(folder):
    assert wrong_files(folder) == {}
    assert sorted(recorded_checksums(folder)) == sorted(NAMES)
    assert unrecorded_files(folder, [*NAMES, "nowhere"]) == []


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="needs sha256sum")
def test_another_program_reads_the_list(folder):
    check = ["sha256sum", "--check", "--strict", CHECKSUMS]
    assert subprocess.run(check, cwd=folder, check=False, capture_output=True).returncode == 0
    (folder / NAMES[1]).write_bytes(b"other")
    assert subprocess.run(check, cwd=folder, check=False, capture_output=True).returncode == 1


@pytest.mark.parametrize("name", [*NAMES, CHECKSUMS])
def test_every_flipped_bit_is_found(folder, name, rng):
    whole = (folder / name).read_bytes()
    for place in range(len(whole)):
        changed = bytearray(whole)
        changed[place] ^= 1 << int(rng.integers(8))
        (folder / name).write_bytes(changed)
        assert wrong_files(folder), (name, place)
    (folder / name).write_bytes(whole)
    assert wrong_files(folder) == {}


@pytest.mark.parametrize("length", [0, 1, 5, -1])
def test_a_file_that_was_cut_is_found(folder, length):
    for name in (NAMES[0], CHECKSUMS):
        whole = (folder / name).read_bytes()
        (folder / name).write_bytes(whole[:length])
        assert name in wrong_files(folder)
        (folder / name).write_bytes(whole)


def test_each_wrong_file_is_named_with_its_fault(folder):
    (folder / NAMES[0]).unlink()
    (folder / NAMES[1]).write_bytes(b"")
    (folder / NAMES[2]).unlink()
    (folder / NAMES[2]).mkdir()
    assert wrong_files(folder) == {
        NAMES[0]: "is missing",
        NAMES[1]: "has changed since it was written",
        NAMES[2]: "is not a file",
    }


def test_a_folder_without_a_list_is_an_old_one(folder):
    (folder / CHECKSUMS).unlink()
    assert wrong_files(folder) == {}
    assert unrecorded_files(folder, [*NAMES, "nowhere"]) == NAMES


def test_other_lines_stay_when_some_files_are_replaced(folder):
    with replacing_checksums(folder, NAMES[0], "new.csv", "never-made.csv"):
        assert NAMES[0] not in recorded_checksums(folder)
        (folder / NAMES[0]).write_bytes(b"new")
        (folder / "new.csv").write_bytes(b"new")
    assert wrong_files(folder) == {}
    assert sorted(recorded_checksums(folder)) == sorted([*NAMES, "new.csv"])
    forget_checksums(folder, [*NAMES, "new.csv"])
    assert not (folder / CHECKSUMS).exists()


def test_a_write_that_is_stopped_leaves_no_false_alarm(folder):
    def stop():
        with replacing_checksums(folder, NAMES[0]):
            (folder / NAMES[0]).write_bytes(b"new")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stop()
    assert wrong_files(folder) == {}
    assert unrecorded_files(folder, NAMES) == NAMES[:1]


HOSTILE = ["../outside", "/etc/hostname", "a/../../outside", ".", "", "a//b", "./metrics.json", "C:/x", "a\\b", "a\nb"]


@pytest.mark.parametrize("name", HOSTILE)
def test_no_name_leads_out_of_the_folder(folder, tmp_path, name):
    (tmp_path / "outside").write_bytes(b"x")
    with pytest.raises((ValueError, OSError)):
        write_checksums(folder, [name])
    (folder / CHECKSUMS).write_bytes(f"{'0' * 64}  {name}\n".encode())
    assert wrong_files(folder) == {CHECKSUMS: "is damaged"}


def test_no_link_leads_out_of_the_folder(folder, tmp_path):
    (tmp_path / "outside").write_bytes(b"x")
    (folder / NAMES[0]).unlink()
    (folder / NAMES[0]).symlink_to(tmp_path / "outside")
    assert wrong_files(folder) == {NAMES[0]: "is outside the folder"}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
@pytest.mark.parametrize("name", [NAMES[0], CHECKSUMS])
def test_a_pipe_is_not_waited_for(folder, name):
    (folder / name).unlink()
    os.mkfifo(folder / name)
    assert list(wrong_files(folder)) == [name]


@pytest.mark.parametrize(
    "content", [b"\xff" * 80, b"\n", f"{'0' * 64}  b\n{'0' * 64}  a\n".encode(), f"{'0' * 64}  a".encode()]
)
def test_a_list_in_another_form_is_damaged(folder, content):
    (folder / CHECKSUMS).write_bytes(content)
    assert wrong_files(folder) == {CHECKSUMS: "is damaged"}


def test_a_huge_list_is_not_read(folder, monkeypatch):
    monkeypatch.setattr(checksums, "MOST_BYTES", 100)
    assert wrong_files(folder) == {CHECKSUMS: "is damaged"}


def test_links_in_a_circle_are_told(folder):
    name = next(iter(recorded_checksums(folder)))
    (folder / name).unlink()
    (folder / name).symlink_to((folder / name).name)
    assert wrong_files(folder) == {name: "is missing"}
