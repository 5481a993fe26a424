"""A web server on this machine with files that change, break off, move, or come without their length."""

import hashlib
import re
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from tests.loopback import answering


@dataclass
class Served:
    """A file and the habits of its server.

    Attributes:
        content: Content of the file.
        cuts: Number of bytes after which each of the next connections breaks.
        ranges: Whether parts are sent.
        tag: Header ``ETag``; None for the hash of the content; empty for none.
        length: Whether the length is told; otherwise the file is sent in chunks.
        moved: Address to which requests are redirected.
        status: Answers of the next requests in place of the file.
        head: Whether HEAD is answered.
        encoding: Header ``Content-Encoding``; none by default.
        beside: Number of bytes that are sent beside a redirect.
    """

    content: bytes
    cuts: tuple[int, ...] = ()
    ranges: bool = True
    tag: str | None = None
    length: bool = True
    moved: str = ""
    status: tuple[int, ...] = ()
    head: bool = True
    encoding: str = ""
    beside: int = 0


class FileServer:
    """Files by path, and the requests: method, path, Range."""

    def __init__(self):
        self.files, self.requests, self.address = {}, [], ""

    def gets(self):
        """Return the Range headers of all downloads."""
        return [wanted for method, _, wanted in self.requests if method == "GET"]


@contextmanager
def serving_files():
    """Run the server, and yield it."""
    server = FileServer()

    def answer(handler):
        with suppress(ConnectionError):
            _answer(handler, server)

    with answering(answer) as server.address:
        yield server


def _answer(handler, server):
    server.requests.append((handler.command, handler.path, handler.headers.get("Range")))
    found = server.files.get(handler.path)
    head = handler.command == "HEAD"
    if found is None or (head and not found.head):
        return _send(handler, 404 if found is None else 405)
    if found.status and not head:
        status, *others = found.status
        found.status = tuple(others)
        return _send(handler, status)
    if found.moved:
        return _send(handler, 302, {"Location": found.moved}, 0 if head else found.beside)
    tag = f'"{hashlib.sha1(found.content).hexdigest()}"' if found.tag is None else found.tag
    headers = ({"ETag": tag} if tag else {}) | ({"Content-Encoding": found.encoding} if found.encoding else {})
    wanted = re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range", ""))
    start = 0
    if wanted and found.ranges and handler.headers.get("If-Range") == tag:
        start = int(wanted[1])
        if start >= len(found.content):
            return _send(handler, 416, {"Content-Range": f"bytes */{len(found.content)}"})
        headers["Content-Range"] = f"bytes {start}-{len(found.content) - 1}/{len(found.content)}"
    body = found.content[start:]
    handler.send_response(206 if start else 200)
    headers |= {"Content-Length": str(len(body))} if found.length else {"Transfer-Encoding": "chunked"}
    for name, value in headers.items():
        handler.send_header(name, value)
    handler.end_headers()
    if head:
        return None
    cut, found.cuts = (found.cuts[0], found.cuts[1:]) if found.cuts else (None, ())
    if found.length:
        handler.wfile.write(body[:cut])
    else:
        handler.wfile.write(b"%x\r\n%s\r\n" % (len(body[:cut]), body[:cut]))
        if cut is None:
            handler.wfile.write(b"0\r\n\r\n")
    if cut is not None:
        handler.close_connection = True
    return None


def _send(handler, status, headers=(), size=0):
    handler.send_response(status)
    for name, value in {**dict(headers), "Content-Length": str(size)}.items():
        handler.send_header(name, value)
    handler.end_headers()
    for _ in range(0, size, 10_000):
        handler.wfile.write(bytes(min(size, 10_000)))
