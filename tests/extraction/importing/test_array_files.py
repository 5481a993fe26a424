"""Untrusted files: nothing is unpickled, no link out of the folder is followed, and declared sizes are checked."""

import io
import json
import os
import pickle
import zipfile

import h5py
import numpy as np
import pytest

from featcache.errors import AudioError
from featcache.extraction import array_files
from featcache.extraction.array_files import read_features, read_headers
from tests.extraction.importing.conftest import save

VALUES = np.arange(60, dtype=np.float32).reshape(3, 5, 4)


class Alarm:
    """Object whose pickle writes a file when it is loaded."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


def header_of(path, folder, array=None):
    return read_headers([path], folder, array)[path]


def refusal(path, folder, array=None):
    """Return the message for a faulty file, after a check that it cannot be read either."""
    told = header_of(path, folder, array)
    assert isinstance(told, str), told
    assert "\n" not in told
    return told


def npy_header(shape, descr="'<f4'", fortran="False", version=1):
    text = f"{{'descr': {descr}, 'fortran_order': {fortran}, 'shape': {shape}, }}".encode()
    length = len(text) + 1
    size = length.to_bytes(2 if version == 1 else 4, "little")
    return b"\x93NUMPY" + bytes([version, 0]) + size + text + b"\n"


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".h5", ".hdf5", ".hdf"])
def test_a_file_of_the_usual_kinds_is_read(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    save(path, VALUES)
    assert header_of(path, tmp_path).shape == VALUES.shape
    np.testing.assert_array_equal(read_features(path), VALUES)


@pytest.mark.parametrize("suffix", [".npz", ".h5"])
def test_of_several_arrays_one_is_chosen(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    if suffix == ".npz":
        np.savez(path, first=VALUES, second=VALUES + 1)
    else:
        with h5py.File(path, "w") as file:
            file["first"], file["second"] = VALUES, VALUES + 1
    assert "2 arrays ('first', 'second'); choose one with --array" in refusal(path, tmp_path)
    assert "no array 'third'" in refusal(path, tmp_path, "third")
    np.testing.assert_array_equal(read_features(path, "second"), VALUES + 1)


def test_arrays_in_groups_are_named_by_paths(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["deep/features"], file["mean"] = VALUES, VALUES[0]
    np.testing.assert_array_equal(read_features(tmp_path / "a.h5", "deep/features"), VALUES)
    np.testing.assert_array_equal(read_features(tmp_path / "a.h5", "mean"), VALUES[:1])


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_no_pickle_is_loaded(tmp_path, suffix):
    alarm = tmp_path / "alarm"
    path = tmp_path / f"a{suffix}"
    save(path, np.array([Alarm(alarm)] * 3, dtype=object))
    assert "expected real numbers" in refusal(path, tmp_path)
    path.write_bytes(pickle.dumps(Alarm(alarm)))
    assert "cannot be read as a" in refusal(path, tmp_path)
    with pytest.raises(AudioError):
        read_features(path)
    assert not alarm.exists()


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (npy_header("(3, 5, 4)"), "its header declares (3, 5, 4), which takes"),
        (npy_header("(100000, 100000, 100000)") + b"0" * 64, "declares (100000, 100000, 100000)"),
        (npy_header(f"({2**62}, 4, 4)"), "declares"),
        (npy_header("(3, 5, 4)") + VALUES.tobytes() * 2, "it has"),
        (npy_header("(-3, -5, 4)") + VALUES.tobytes(), "contains no values"),
        (npy_header("(0, 4)"), "contains no values"),
        (npy_header("()") + b"0000", "its shape is ()"),
        (npy_header("(2, 3, 5, 2)") + VALUES.tobytes(), "its shape is (2, 3, 5, 2)"),
        (npy_header("(15, 4)", "'|O'") + VALUES.tobytes(), "expected real numbers"),
        (npy_header("(15, 4)", "'|S4'") + VALUES.tobytes(), "expected real numbers"),
        (npy_header("(15, 4)", "'|b1'") + bytes(60), "expected real numbers"),
        (npy_header("(15, 2)", "'<c8'") + VALUES.tobytes(), "expected real numbers"),
        (npy_header("(15,)", "[('a', '<f4'), ('b', '<f4')]") + bytes(120), "expected real numbers"),
        (npy_header("(15, 2)", "('<f4', (2,))") + VALUES.tobytes(), "expected real numbers"),
        (npy_header("__import__('os').getpid()"), "cannot be read as a .npy file"),
        (npy_header("(15, 4)" + " " * 20000) + VALUES.tobytes(), "cannot be read as a .npy file"),
        (npy_header("(15, 4)", version=3) + VALUES.tobytes(), "version"),
        (b"\x93NUMPY\x02\x00\xff\xff\xff\xff" + b" " * 1000, "cannot be read as a .npy file"),
        (b"", "cannot be read as a .npy file"),
        (b"PK\x03\x04", "cannot be read as a .npy file"),
    ],
)
def test_headers_are_compared_with_the_file(tmp_path, content, told):
    path = tmp_path / "a.npy"
    path.write_bytes(content)
    assert told in refusal(path, tmp_path)
    with pytest.raises(AudioError):
        read_features(path)


def write_zip(path, content, name="features.npy", **options):
    with zipfile.ZipFile(path, "w", **options) as archive:
        archive.writestr(name, content)


def test_zip_bombs_are_refused_before_they_expand(tmp_path, monkeypatch):
    monkeypatch.setattr(array_files, "SMALL", 2**16)
    path = tmp_path / "a.npz"
    shape = (2, 2**18, 4)
    write_zip(path, npy_header(str(shape)) + bytes(4 * 2**21), compression=zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 2**15
    assert "expands from" in refusal(path, tmp_path)
    with pytest.raises(AudioError, match="expands from"):
        read_features(path)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda path: write_zip(path, npy_header("(2, 4)") + bytes(100)), "but its header declares"),
        (lambda path: write_zip(path, b"text", "readme.txt"), "no array"),
        (lambda path: write_zip(path, npy_header("(2, 4)") + bytes(32), compression=zipfile.ZIP_BZIP2), "compressed"),
        (lambda path: path.write_bytes(b"PK\x03\x04" + bytes(100)), "cannot be read as a .npz file"),
    ],
)
def test_archives_are_checked(tmp_path, make, told):
    make(tmp_path / "a.npz")
    assert told in refusal(tmp_path / "a.npz", tmp_path)


def test_an_archive_whose_values_are_damaged_is_told(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, features=VALUES)
    content = bytearray(path.read_bytes())
    content[300] ^= 1
    path.write_bytes(content)
    with pytest.raises(AudioError, match="BadZipFile"):
        read_features(path)


def secret(tmp_path):
    path = tmp_path / "outside" / "secret.h5"
    save(path, VALUES)
    return path


@pytest.mark.parametrize("kind", ["external link", "soft link", "virtual", "external storage"])
def test_hdf5_leads_nowhere_else(tmp_path, kind):
    path, other = tmp_path / "in" / "a.h5", secret(tmp_path)
    path.parent.mkdir()
    with h5py.File(path, "w") as file:
        if kind == "external link":
            file["features"] = h5py.ExternalLink(str(other), "features")
        elif kind == "soft link":
            file["features"] = h5py.SoftLink("/elsewhere")
        elif kind == "virtual":
            layout = h5py.VirtualLayout(VALUES.shape, "f4")
            layout[:] = h5py.VirtualSource(str(other), "features", VALUES.shape)
            file.create_virtual_dataset("features", layout)
        else:
            file.create_dataset("features", VALUES.shape, "f4", external=[(str(other), 0, 240)])
    assert "an HDF5 link" in refusal(path, path.parent) or "lies in other files" in refusal(path, path.parent)
    with pytest.raises(AudioError):
        read_features(path)


def test_hdf5_that_declares_more_than_it_has_is_refused(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("features", (10**6, 10**6, 100), "f4", chunks=(1, 1, 100), compression="gzip")
    assert "in a file of" in refusal(path, tmp_path)
    with h5py.File(path, "w") as file:
        file.create_dataset("features", (3, 5, 4), "f4")  # The array is never written.
    assert "the file does not contain its values" in refusal(path, tmp_path)
    with h5py.File(path, "w") as file:
        file["texts"] = ["a", "b"]
    assert "expected real numbers" in refusal(path, tmp_path)
    with h5py.File(path, "w") as file:
        file["loop"] = file["/"]
    assert "no array" in refusal(path, tmp_path)


@pytest.mark.parametrize(
    "options", [{"compression": "gzip", "shuffle": True}, {"compression": "lzf"}, {"fletcher32": True}]
)
def test_filters_of_hdf5_itself_are_read(tmp_path, options):
    save(tmp_path / "a.h5", VALUES, **options)
    np.testing.assert_array_equal(read_features(tmp_path / "a.h5"), VALUES)


def test_hdf5_that_crashes_costs_one_file_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(array_files, "read_apart", lambda function, paths: iter([None] * len(paths)))
    save(tmp_path / "a.h5", VALUES)
    assert refusal(tmp_path / "a.h5", tmp_path) == "HDF5 crashes when it reads the file"


def test_another_process_looks_first(tmp_path):
    save(tmp_path / "a.h5", VALUES)
    (tmp_path / "b.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(range(256)) * 8)
    found = list(array_files.read_apart(array_files.describe_hdf5, [tmp_path / "a.h5", tmp_path / "b.h5"]))
    assert found == [["/features"], []]
    assert json.dumps(found)


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_links_out_of_the_folder_are_refused(tmp_path, kind):
    save(tmp_path / "outside" / "a.npy", VALUES)
    folder = tmp_path / "in"
    folder.mkdir()
    if kind == "file":
        path = folder / "a.npy"
        path.symlink_to(tmp_path / "outside" / "a.npy")
    else:
        (folder / "more").symlink_to(tmp_path / "outside")
        path = folder / "more" / "a.npy"
    assert "it is a link to" in refusal(path, folder)


def test_links_inside_the_folder_and_a_folder_that_is_one_are_followed(tmp_path):
    save(tmp_path / "in" / "a.npy", VALUES)
    (tmp_path / "in" / "b.npy").symlink_to("a.npy")
    (tmp_path / "link").symlink_to(tmp_path / "in")
    assert header_of(tmp_path / "link" / "b.npy", tmp_path / "link").shape == VALUES.shape


def test_what_is_no_file_is_told(tmp_path):
    os.mkfifo(tmp_path / "a.npy")
    assert "named pipe" in refusal(tmp_path / "a.npy", tmp_path)


def test_what_does_not_fit_into_memory_is_told(tmp_path, monkeypatch):
    save(tmp_path / "a.npy", VALUES)
    monkeypatch.setattr(array_files, "available_memory", lambda: 100)
    with pytest.raises(AudioError, match="of memory; 100 bytes are available"):
        read_features(tmp_path / "a.npy")


def test_a_file_that_changes_between_header_and_values_is_told(tmp_path, monkeypatch):
    save(tmp_path / "a.npy", VALUES)
    header = array_files._header(tmp_path / "a.npy", None)
    with pytest.raises(AudioError, match="changed while it was read"):
        array_files._read_npy(io.BytesIO(npy_header("(2, 4)") + bytes(32)), header)
