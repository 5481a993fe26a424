"""Downloads continue, begin again if the file has changed, and end in one line."""

import hashlib
import os
import tracemalloc

import pytest

from featcache.corpora.downloads import RemoteFile
from featcache.errors import CorpusError
from featcache.fetching import http_download
from featcache.fetching.http_download import download, remote_size
from tests.fetching.file_server import Served, serving_files

CONTENT = os.urandom(300_000)
OTHER = os.urandom(200_000)


@pytest.fixture
def server(monkeypatch):
    """Return a server; broken connections are tried again at once, three times."""
    monkeypatch.setattr(http_download, "PAUSES", (0.0, 0.0, 0.0))
    monkeypatch.setattr(http_download, "_PIECE", 1000)
    with serving_files() as found:
        yield found


@pytest.fixture
def remote(server):
    """Return a function that serves a file, and returns its description."""

    def make(content=CONTENT, *, size=None, checksum="", **habits):
        server.files["/a.zip"] = Served(content, **habits)
        return RemoteFile(address=f"{server.address}/a.zip", size=size, checksum=checksum)

    return make


@pytest.mark.parametrize("habits", [{}, {"length": False}, {"ranges": False}, {"tag": ""}, {"head": False}], ids=str)
def test_a_file_is_downloaded_once(server, remote, tmp_path, habits):
    one = remote(**habits)
    assert remote_size(one) == (None if habits.keys() & {"length", "head"} else len(CONTENT))
    for _ in range(2):
        download(one, tmp_path / "a.zip", "a")
    assert (tmp_path / "a.zip").read_bytes() == CONTENT
    assert server.gets() == [None]
    assert os.listdir(tmp_path) == ["a.zip"]


def test_a_broken_connection_continues_where_it_ended(server, remote, tmp_path):
    download(remote(cuts=(100_000, 50_000)), tmp_path / "a.zip", "a")
    assert (tmp_path / "a.zip").read_bytes() == CONTENT
    assert server.gets() == [None, "bytes=100000-", "bytes=150000-"]


@pytest.mark.parametrize("habits", [{"ranges": False}, {"tag": ""}, {"length": False, "tag": ""}], ids=str)
def test_without_parts_or_tags_a_broken_download_begins_again(server, remote, tmp_path, habits):
    """Without a tag nobody knows whether the file is still the same."""
    download(remote(cuts=(100_000,), **habits), tmp_path / "a.zip", "a")
    assert (tmp_path / "a.zip").read_bytes() == CONTENT
    assert len(server.gets()) == 2


def interrupted(remote, tmp_path, monkeypatch):
    """Download the first part, and press Ctrl-C while waiting for the connection."""

    def interrupt(_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("featcache.fetching.http_download.time.sleep", interrupt)
        with pytest.raises(KeyboardInterrupt):
            download(remote, tmp_path / "a.zip", "a")
    assert (tmp_path / "a.zip.part").stat().st_size == 100_000


def test_the_same_call_continues_after_ctrl_c(server, remote, tmp_path, monkeypatch):
    one = remote(cuts=(100_000,))
    interrupted(one, tmp_path, monkeypatch)
    download(one, tmp_path / "a.zip", "a")
    assert (tmp_path / "a.zip").read_bytes() == CONTENT
    assert server.gets() == [None, "bytes=100000-"]


@pytest.mark.parametrize("content", [OTHER, OTHER[:50_000], b""], ids=["other", "shorter", "empty"])
def test_a_file_that_has_changed_begins_again(server, remote, tmp_path, monkeypatch, content):
    one = remote(cuts=(100_000,))
    interrupted(one, tmp_path, monkeypatch)
    server.files["/a.zip"] = Served(content)
    download(one, tmp_path / "a.zip", "a")
    assert (tmp_path / "a.zip").read_bytes() == content


def test_a_server_that_ignores_if_range_is_not_believed(server, remote, tmp_path, monkeypatch):
    """It sends the end of another file under the same tag."""
    one = remote(cuts=(100_000,), tag='"x"')
    interrupted(one, tmp_path, monkeypatch)
    server.files["/a.zip"] = Served(OTHER, tag='"x"')
    download(one, tmp_path / "a.zip", "a")
    assert (tmp_path / "a.zip").read_bytes() == OTHER


@pytest.mark.parametrize("note", ["", "[]", "{}", '{"address": 3}', '{"address": "x", "etag": 3}', "\0" * 100])
def test_a_damaged_note_begins_again(remote, tmp_path, monkeypatch, note):
    one = remote(cuts=(100_000,))
    interrupted(one, tmp_path, monkeypatch)
    (tmp_path / "a.zip.part.json").write_text(note)
    download(one, tmp_path / "a.zip", "a")
    assert (tmp_path / "a.zip").read_bytes() == CONTENT


def test_a_connection_that_breaks_at_the_same_byte_ends_in_one_line(server, remote, tmp_path):
    one = remote(cuts=(100_000, *[0] * 10))
    with pytest.raises(CorpusError, match=r"^a: the connection broke after 100\.0 kB .*run the same command again to"):
        download(one, tmp_path / "a.zip", "a")
    assert len(server.gets()) == 4
    assert (tmp_path / "a.zip.part").stat().st_size == 100_000


def test_a_busy_server_is_asked_again(server, remote, tmp_path):
    download(remote(status=(503, 429)), tmp_path / "a.zip", "a")
    assert (tmp_path / "a.zip").read_bytes() == CONTENT


@pytest.mark.parametrize("status", [403, 404, 500])
def test_an_answer_without_the_file_is_told_in_one_line(remote, tmp_path, status):
    with pytest.raises(CorpusError, match=rf"(cannot be downloaded|broke).*\(the server answered {status} ") as caught:
        download(remote(status=(status,) * 9), tmp_path / "a.zip", "a")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "a.zip").exists()


@pytest.mark.parametrize("kind", ["md5", "sha256"])
def test_a_checksum_is_compared(remote, tmp_path, kind):
    digest = hashlib.new(kind, CONTENT).hexdigest()
    download(remote(checksum=f"{kind}:{digest}", size=len(CONTENT)), tmp_path / "a.zip", "a")
    one = remote(OTHER, checksum=f"{kind}:{digest}")
    with pytest.raises(CorpusError, match=rf"the {kind.upper()} of the file is \w+, expected {digest}; it was removed"):
        download(one, tmp_path / "b.zip", "a")
    assert not list(tmp_path.glob("b.zip*part"))
    assert not (tmp_path / "b.zip").exists()


def test_another_size_than_the_published_one_is_refused_before_the_download(server, remote, tmp_path):
    one = remote(size=len(CONTENT) + 1)
    for action in (lambda: remote_size(one), lambda: download(one, tmp_path / "a.zip", "a")):
        with pytest.raises(CorpusError, match=r"has 300000 bytes, expected 300001: the file has changed"):
            action()
    assert os.listdir(tmp_path) == []


def test_a_redirect_to_another_web_address_is_followed(server, remote, tmp_path):
    one = remote(moved="/b")
    server.files["/b"] = Served(CONTENT)
    assert remote_size(one) == len(CONTENT)
    assert [method for method, *_ in server.requests] == ["HEAD", "HEAD"]
    download(one, tmp_path / "a.zip", "a")
    assert (tmp_path / "a.zip").read_bytes() == CONTENT


@pytest.mark.parametrize("place", ["file:///etc/passwd", "ftp://127.0.0.1/x", "data:,x", "//", "http://[::1", "a b"])
def test_a_redirect_to_anything_else_is_refused(remote, tmp_path, place):
    one = remote(moved=place)
    with pytest.raises(CorpusError, match="cannot be downloaded") as caught:
        download(one, tmp_path / "a.zip", "a")
    assert "\n" not in str(caught.value)
    assert os.listdir(tmp_path) == []


def test_a_redirect_without_an_end_is_refused(remote, tmp_path):
    with pytest.raises(CorpusError, match="cannot be downloaded"):
        download(remote(moved="/a.zip"), tmp_path / "a.zip", "a")


def test_what_comes_beside_a_redirect_is_not_read(server, remote, tmp_path):
    """It may have no end. A connection buffers far less than these 100 MB."""
    one = remote(moved="/b", beside=10**8)
    server.files["/b"] = Served(CONTENT)
    tracemalloc.start()
    try:
        download(one, tmp_path / "a.zip", "a")
        assert tracemalloc.get_traced_memory()[1] < 10**8 / 2
    finally:
        tracemalloc.stop()
    assert (tmp_path / "a.zip").read_bytes() == CONTENT


@pytest.mark.parametrize(("name", "is_taken"), [("a.zip", False), ("a.csv", False), ("a.tar.gz", True)])
def test_a_file_that_the_server_compresses_is_refused(server, tmp_path, name, is_taken):
    """Servers also name the compression of the file itself."""
    server.files[f"/{name}"] = Served(CONTENT, encoding="gzip")
    one = RemoteFile(address=f"{server.address}/{name}")
    if is_taken:
        download(one, tmp_path / name, "a")
        assert (tmp_path / name).read_bytes() == CONTENT
        return
    with pytest.raises(CorpusError, match=r"sends the file compressed \(gzip\), expected the file itself; download it"):
        download(one, tmp_path / name, "a")
    assert os.listdir(tmp_path) == []


class _Reset:
    """An answer whose connection is reset after some bytes have arrived, as many as a socket gives."""

    def __init__(self, content):
        self._content = content

    def read1(self, size):
        piece, self._content = self._content[:size], self._content[size:]
        if not piece:
            raise ConnectionResetError(104, "Connection reset by peer")
        return piece

    def read(self, size):
        while self.read1(size):
            pass


def test_what_arrived_before_a_reset_is_kept(tmp_path):
    """A slow server that resets its connections before a whole piece arrived would never get further."""
    (tmp_path / "a.part").touch()
    with pytest.raises(http_download._BrokenError):
        http_download._write(_Reset(b"x" * 90), tmp_path / "a.part", 0, 1000, "a")
    assert (tmp_path / "a.part").read_bytes() == b"x" * 90


def test_a_server_that_is_not_there_is_told_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr("time.sleep", None)  # Nothing waits.
    one = RemoteFile(address="http://127.0.0.1:1/a.zip")
    for action in (lambda: remote_size(one), lambda: download(one, tmp_path / "a.zip", "a")):
        with pytest.raises(CorpusError, match=r"cannot be downloaded \(the server cannot be reached: "):
            action()


def test_an_endless_file_ends(remote, tmp_path, monkeypatch):
    monkeypatch.setattr(http_download, "_MOST_BYTES", 100_000)
    with pytest.raises(CorpusError, match=r"sent more than 100\.0 kB without an end"):
        download(remote(length=False), tmp_path / "a.zip", "a")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"address": "file:///etc/passwd"}, "begins with https"),
        ({"address": "ftp://x/a.zip"}, "begins with https"),
        ({"address": "https:///a.zip"}, "begins with https"),
        ({"address": "https://x/a\n.zip"}, "begins with https"),
        ({"address": "https://x:port/a.zip"}, "[Pp]ort"),
        ({"address": "https://[::1/a.zip"}, "IPv6"),
        ({"address": "https://x/"}, "it is empty"),
        ({"address": "https://x/..%2f..%2fa.zip", "name": "../a"}, "begins with a dot"),
        ({"address": "https://x/a.zip", "folder": "/etc"}, "contains '/'"),
        ({"address": "https://x/a.zip", "checksum": "md5:x"}, "md5: or sha256:"),
        ({"address": "https://x/a.zip", "size": 0}, "greater than 0"),
    ],
)
def test_a_faulty_description_of_a_file_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        RemoteFile(**fields)
