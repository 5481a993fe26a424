"""Archives of anybody: nothing is written outside the folder, and nothing but regular files."""

import io
import os
import stat
import tarfile
import zipfile
from contextlib import nullcontext, suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featcache.errors import CorpusError, DiskError
from featcache.fetching import unpack_archives
from featcache.fetching.unpack_archives import Unpacking

FILES = {"wav/a.wav": b"RIFF", "wav/deeper/b.wav": os.urandom(50_000), "readme.txt": b"text"}


def zipped(path, entries, *, compression=zipfile.ZIP_DEFLATED):
    """Write a ZIP archive of names, or of ZipInfos, with their contents."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in entries:
            archive.writestr(name, content)
    return path


def tarred(path, entries, mode="w:gz", form=tarfile.PAX_FORMAT):
    """Write a tar archive of names, or of TarInfos, with their contents."""
    with tarfile.open(path, mode, format=form) as archive:
        for name, content in entries:
            info = name if isinstance(name, tarfile.TarInfo) else tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def made(folder, name, entries):
    """Write an archive whose kind is that of its name."""
    if name.endswith(".zip"):
        return zipped(folder / name, entries)
    mode = {"tar": "w", "xz": "w:xz"}.get(name.lower().rpartition(".")[2], "w:gz")
    return tarred(folder / name, entries, mode)


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def unpacked(tmp_path, *paths, folder=""):
    root = tmp_path / "root"
    root.mkdir(exist_ok=True)
    unpacking = Unpacking(root)
    for path in paths:
        unpacking.add(path, folder)
    return contents(root)


def refusal(tmp_path, path):
    """Return why an archive is refused, after a look for files outside of the folder."""
    before = contents(tmp_path)
    with pytest.raises(CorpusError) as caught:
        unpacked(tmp_path, path)
    after = {name: content for name, content in contents(tmp_path).items() if not name.startswith("root/")}
    assert after == before
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tar.gz", "a.TGZ", "a.tar.xz"])
def test_files_are_unpacked_as_they_are(tmp_path, name):
    path = made(tmp_path, name, FILES.items())
    assert unpacked(tmp_path, path) == FILES
    assert unpacked(tmp_path, path, folder="other") == FILES | {f"other/{one}": text for one, text in FILES.items()}


def test_other_files_are_added_as_they_are(tmp_path):
    (tmp_path / "metadata.csv").write_text("a,b")
    assert unpacked(tmp_path, tmp_path / "metadata.csv") == {"metadata.csv": b"a,b"}


def test_folders_dots_and_files_of_macos_do_no_harm(tmp_path):
    entries = [("./", b""), ("wav/", b""), ("./wav//a.wav", b"a"), ("__MACOSX/._a.wav", b"x"), ("wav/.DS_Store", b"x")]
    assert unpacked(tmp_path, zipped(tmp_path / "a.zip", entries)) == {"wav/a.wav": b"a"}


NAMES = {
    "../a.wav": "leads out",
    "wav/../../a.wav": "leads out",
    "wav/..": "leads out",
    "/tmp/a.wav": "leads out",
    "//server/a.wav": "leads out",
    "C:/a.wav": "leads out",
    "c:a.wav": "leads out",
    "..\\a.wav": "backslash",
    "wav\\a.wav": "backslash",
    "a.wav:stream": "contains ':'",
    "CON.wav": "Windows reserves it",
    "a\n.wav": "cannot be printed",
    "a\x1b[2J.wav": "cannot be printed",
    "a\u202e.wav": "cannot be printed",
    "wav./a.wav": "ends with a dot",
    "a" * 250: "longer than 200 bytes",
    "/".join(["folder"] * 200) + "/a.wav": "more than 1000 bytes",
}


@pytest.mark.parametrize("kind", ["a.zip", "a.tar.gz"])
@pytest.mark.parametrize("name", NAMES, ids=lambda name: repr(name[:12]))
def test_names_that_lead_out_or_do_not_work_everywhere_are_refused(tmp_path, kind, name):
    path = made(tmp_path, kind, [("good.wav", b"x"), (name, b"x")])
    assert NAMES[name] in refusal(tmp_path, path)


def test_a_nul_character_in_a_name_is_refused(tmp_path):
    """zipfile itself would cut the name there."""
    path = zipped(tmp_path / "a.zip", [("a.wavXtxt", b"x")])
    path.write_bytes(path.read_bytes().replace(b"a.wavXtxt", b"a.wav\0txt"))
    assert "NUL" in refusal(tmp_path, path)


@pytest.mark.parametrize("kind", ["a.zip", "a.tar.gz"])
@pytest.mark.parametrize(
    "names",
    [
        ("a.wav", "a.wav"),
        ("a.wav", "A.wav"),
        ("x/a.wav", "X/b.wav"),
        ("é.wav", "e\u0301.wav"),
        ("a", "a/b"),
        ("a/b", "a"),
    ],
    ids=str,
)
def test_a_file_that_would_replace_another_one_is_refused(tmp_path, kind, names):
    with pytest.warns() if len(set(names)) == 1 and kind == "a.zip" else nullcontext():  # zipfile warns when writing.
        path = made(tmp_path, kind, [(name, b"x") for name in names])
    assert "twice" in (told := refusal(tmp_path, path)) or "one name on some systems" in told


def test_two_archives_do_not_replace_files_of_each_other(tmp_path):
    paths = [zipped(tmp_path / name, [("x/a.wav", b"x")]) for name in ("1.zip", "2.zip")]
    with pytest.raises(CorpusError, match=r"2\.zip: it contains 'x/a\.wav' twice"):
        unpacked(tmp_path, *paths)


@pytest.mark.parametrize("kind", ["SYMTYPE", "LNKTYPE", "CHRTYPE", "BLKTYPE", "FIFOTYPE", "GNUTYPE_SPARSE"])
def test_links_and_devices_in_a_tar_archive_are_refused(tmp_path, kind):
    info = tarfile.TarInfo("a.wav")
    info.type, info.linkname = getattr(tarfile, kind), "/etc/passwd"
    told = refusal(tmp_path, tarred(tmp_path / "a.tar", [(info, b"")], "w"))
    assert "is a link, a device or a sparse file" in told or "damaged" in told


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO])
def test_links_and_devices_in_a_zip_archive_are_refused(tmp_path, kind):
    info = zipfile.ZipInfo("a.wav")
    info.external_attr = (kind | 0o777) << 16
    assert "is a link or a device" in refusal(tmp_path, zipped(tmp_path / "a.zip", [(info, "/etc/passwd")]))


def test_modes_of_an_archive_are_not_used(tmp_path):
    info, other = zipfile.ZipInfo("a.wav"), tarfile.TarInfo("b.wav")
    info.external_attr, other.mode = (stat.S_IFREG | 0o6777) << 16, 0o6777
    unpacked(tmp_path, zipped(tmp_path / "a.zip", [(info, b"x")]), tarred(tmp_path / "b.tar.gz", [(other, b"x")]))
    for name in ("a.wav", "b.wav"):
        assert not (tmp_path / "root" / name).stat().st_mode & (stat.S_ISUID | stat.S_ISGID | 0o111)


def test_an_encrypted_file_is_refused(tmp_path):
    path = zipped(tmp_path / "a.zip", [("a.wav", b"x")])
    content = bytearray(path.read_bytes())
    for header, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(header) + flags] |= 1
    path.write_bytes(content)
    assert "'a.wav' is encrypted" in refusal(tmp_path, path)


@pytest.mark.parametrize("kind", ["a.zip", "a.tar.gz", "a.tar.xz"])
def test_an_archive_that_unpacks_to_far_more_than_its_size_is_refused(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(unpack_archives, "_MOST_MORE", 2**17)
    path = made(tmp_path, kind, [("a.wav", bytes(1000)), ("b.wav", bytes(2**22))])
    assert "unpacks to more than" in refusal(tmp_path, path)
    written = contents(tmp_path / "root")
    assert sum(map(len, written.values())) <= unpack_archives._most_bytes(path)


def test_a_header_that_would_fill_the_memory_is_refused(tmp_path):
    """An extended header has a length of its own, which tarfile reads at once."""
    info = tarfile.TarInfo("a.wav")
    info.type, info.size = tarfile.XHDTYPE, 2**40
    (tmp_path / "a.tar").write_bytes(info.tobuf(tarfile.GNU_FORMAT) + bytes(20_000))
    assert "a header is too long" in refusal(tmp_path, tmp_path / "a.tar")


def test_an_archive_of_too_many_files_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(unpack_archives, "_MOST_ENTRIES", 10)
    path = tarred(tmp_path / "a.tar.gz", [(f"{number}.wav", b"") for number in range(11)])
    assert "more than 10 entries" in refusal(tmp_path, path)


def test_a_full_disk_is_told_before_a_file_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 10_000}))
    with pytest.raises(DiskError, match=r"50\.0 kB are needed, 10\.0 kB are free"):
        unpacked(tmp_path, zipped(tmp_path / "a.zip", FILES.items()))


@pytest.mark.parametrize("kind", ["a.zip", "a.tar.gz", "a.tar.xz"])
@pytest.mark.parametrize("part", [0.0, 0.3, 0.9, 0.999])
def test_a_truncated_archive_is_refused(tmp_path, kind, part):
    path = made(tmp_path, kind, FILES.items())
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * part)])
    assert "damaged" in refusal(tmp_path, path)


@pytest.mark.parametrize("kind", ["a.zip", "a.tar", "a.tar.gz", "a.tar.xz"])
def test_a_web_page_in_place_of_an_archive_is_refused(tmp_path, kind):
    (tmp_path / kind).write_text("<html>Log in to download</html>" * 100)
    assert "it is no archive, or it is damaged" in refusal(tmp_path, tmp_path / kind)


def test_a_file_with_a_wrong_checksum_is_refused(tmp_path):
    path = zipped(tmp_path / "a.zip", [("a.wav", b"x" * 100)], compression=zipfile.ZIP_STORED)
    path.write_bytes(path.read_bytes().replace(b"x" * 100, b"y" * 100))
    assert "Bad CRC-32" in refusal(tmp_path, path)


def test_a_checksum_behind_the_last_file_is_compared(tmp_path):
    path = tarred(tmp_path / "a.tar.gz", FILES.items())
    content = bytearray(path.read_bytes())
    content[-8] ^= 1
    path.write_bytes(content)
    assert "CRC check failed" in refusal(tmp_path, path)


@pytest.mark.parametrize("kind", ["a.zip", "a.tar", "a.tar.gz", "a.tar.xz"])
@given(changes=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=4))
@settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    database=None,
)
def test_changed_bytes_never_write_outside_and_never_raise_anything_else(tmp_path_factory, kind, changes):
    folder = tmp_path_factory.mktemp("fuzz")
    path = made(folder, kind, [("x/a.wav", b"RIFF" * 50), ("x/b.wav", b"text")])
    content = bytearray(path.read_bytes())
    for place, value in changes:
        content[int(place * len(content))] = value
    path.write_bytes(content)
    with suppress(CorpusError):
        unpacked(folder, path)
    assert {one.name for one in folder.iterdir()} == {kind, "root"}
    assert not any(one.is_symlink() for one in folder.rglob("*"))


def test_files_outside_stay_when_the_same_names_are_unpacked(tmp_path):
    (tmp_path / "a.wav").write_bytes(b"mine")
    assert unpacked(tmp_path, zipped(tmp_path / "a.zip", [("a.wav", b"theirs")])) == {"a.wav": b"theirs"}
    assert (tmp_path / "a.wav").read_bytes() == b"mine"
