"""Address → file on this machine. A broken download continues; a file that changed at its address begins again."""

import hashlib
import http.client
import json
import logging
import os
import re
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib import request
from urllib.error import HTTPError, URLError

from featcache._version import __version__
from featcache.corpora.downloads import RemoteFile
from featcache.errors import CorpusError, FeatcacheError
from featcache.files.disk import remove, writing
from featcache.files.regular import open_regular, read_regular, replace_file
from featcache.terminal.escape import one_line
from featcache.terminal.progress import progress
from featcache.units import format_bytes

# Time limits in seconds: for the first answer of a server, and for each piece of a file.
ASKING, READING = 10.0, 60.0
PAUSES = (1.0, 2.0, 4.0, 8.0, 16.0)
"""Seconds before a broken connection is tried again. After as many attempts without a new byte, the download ends."""
# Maximum number of connections for one file, and of bytes of a file whose server does not tell its size.
_MOST_CONNECTIONS, _MOST_BYTES = 50, 100 * 10**9
_PIECE = 2**18
_NOTE_BYTES = 10_000
# Answers that are not final: too many requests, and errors of the server.
_AGAIN = (408, 425, 429, 500, 502, 503, 504)

log = logging.getLogger(__name__)


class _BrokenError(Exception):
    """The connection broke; the message says why."""


class _ChangedError(_BrokenError):
    """The part on this machine is not of the file that the server has now."""

    def __str__(self) -> str:
        return "the file has changed, so its download begins again"


class _Redirects(request.HTTPRedirectHandler):
    """Follow redirects to http and https only."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        if not re.match(r"https?://[^/]", newurl, re.IGNORECASE):
            raise HTTPError(req.full_url, code, f"and redirects to {newurl:.100}", headers, fp)
        again = super().redirect_request(req, fp, code, msg, headers, newurl)
        if again is not None:
            again.method = req.get_method()  # otherwise a question about the size would ask for the file
        return again

    def http_error_302(self, req: Any, fp: Any, code: int, msg: str, headers: Any) -> Any:
        fp.close()  # urllib would read all that the server sends beside the redirect, which may have no end
        try:
            return super().http_error_302(req, fp, code, msg, headers)
        except ValueError as error:  # The address has no valid host.
            raise HTTPError(req.full_url, code, "and redirects to no valid address", headers, fp) from error

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302


def _opener() -> request.OpenerDirector:
    """Return an opener without the handlers of files and FTP, which urllib has by default."""
    opener = request.OpenerDirector()
    for handler in (
        request.ProxyHandler(),
        request.UnknownHandler(),
        request.HTTPHandler(),
        request.HTTPSHandler(),
        request.HTTPDefaultErrorHandler(),
        _Redirects(),
        request.HTTPErrorProcessor(),
    ):
        opener.add_handler(handler)
    return opener


def _open(address: str, headers: dict[str, str], *, timeout: float, method: str = "GET") -> Any:
    told = {"User-Agent": f"featcache/{__version__}", "Accept-Encoding": "identity", **headers}
    return _opener().open(request.Request(address, headers=told, method=method), timeout=timeout)


def remote_size(remote: RemoteFile) -> int | None:
    """Ask a server for the size of a file, in bytes; None if it does not tell.

    Args:
        remote: File.

    Raises:
        CorpusError: the server cannot be reached, has no such file, or tells another size than the published one.
    """
    try:
        with _open(remote.address, {}, timeout=ASKING, method="HEAD") as answer:
            found = _number(answer.headers.get("Content-Length"))
    except HTTPError as error:
        error.close()
        if error.code in (404, 410):
            raise CorpusError(_unavailable(remote, error)) from error
        found = None  # Some servers do not answer such questions, but send the file.
    except URLError as error:
        raise CorpusError(_unavailable(remote, error)) from error
    except (OSError, http.client.HTTPException):
        found = None  # The server was reached, and may take long to prepare the file.
    _check_size(remote, found)
    return remote.size or found


def download(remote: RemoteFile, target: Path, title: str) -> None:
    """Download a file, or continue its download; a file that is complete already is kept.

    Args:
        remote: Address, and published size and checksum.
        target: File to write. Its unfinished part is beside it, with the suffix ``.part``.
        title: Title of the progress bar.

    Raises:
        CorpusError: the server cannot be reached, the connection breaks again and again, or size or checksum differ.
        DiskError: the file cannot be written.
    """
    part = target.with_name(f"{target.name}.part")
    failures = 0
    for _ in range(_MOST_CONNECTIONS):
        if target.exists():
            return
        before = part_size(target)
        try:
            _continue(remote, part, title)
            _check_content(remote, part)
            with writing(target):
                os.replace(part, target)
                _note_of(part).unlink(missing_ok=True)
        except _BrokenError as error:
            if isinstance(error, _ChangedError):
                remove(part)
            failures = 1 if part_size(target) > before else failures + 1
            if failures > len(PAUSES):
                raise CorpusError(
                    f"{title}: the connection broke after {format_bytes(part_size(target))} ({error}); "
                    "run the same command again to continue"
                ) from error
            log.info("%s: the connection broke (%s); trying again in %g s", title, error, PAUSES[failures - 1])
            time.sleep(PAUSES[failures - 1])
    if not target.exists():
        raise CorpusError(f"{title}: the connection broke {_MOST_CONNECTIONS} times; run the same command again")


def part_size(target: Path) -> int:
    """Return the number of bytes of a file that are downloaded already."""
    for path in (target, target.with_name(f"{target.name}.part")):
        if path.is_file():
            return path.stat().st_size
    return 0


@dataclass(frozen=True, kw_only=True)
class _Note:
    """Identity of the file whose part is on this machine: address, tags of the server, and total size in bytes."""

    address: str
    etag: str = ""
    modified: str = ""
    total: int | None = None

    @property
    def tag(self) -> str:
        """Value of If-Range: a strong tag, otherwise the date, otherwise nothing."""
        return self.etag if self.etag.startswith('"') else self.modified

    def continues(self, earlier: "_Note") -> bool:
        """Return whether the file is still the one of an earlier answer."""
        return self.tag == earlier.tag != "" and self.total is not None and earlier.total in (None, self.total)


def _note_of(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _read_note(part: Path, remote: RemoteFile) -> _Note | None:
    """Return what is known about an unfinished file; None if it is unknown, so that the download begins again."""
    try:
        note = _Note(**json.loads(read_regular(_note_of(part), _NOTE_BYTES)))
    except (OSError, ValueError, TypeError):
        return None
    known = isinstance(note.etag, str) and isinstance(note.modified, str) and isinstance(note.total, int | None)
    return note if known and note.address == remote.address else None


def _continue(remote: RemoteFile, part: Path, title: str) -> None:
    """Download what is missing of a file.

    Raises:
        _BrokenError: the connection broke.
    """
    note = _read_note(part, remote)
    start = part.stat().st_size if part.is_file() and note is not None and note.tag else 0
    if note is not None and start and note.total == start:
        return
    wanted = {"Range": f"bytes={start}-", "If-Range": note.tag} if note is not None and start else {}
    try:
        answer = _open(remote.address, wanted, timeout=READING)
    except HTTPError as error:
        error.close()
        if error.code == 416 and start:  # The file is shorter now.
            raise _ChangedError from error
        if error.code in _AGAIN:
            raise _BrokenError(_reason(error)) from error
        raise CorpusError(_unavailable(remote, error)) from error
    except URLError as error:
        if start:
            raise _BrokenError(_reason(error)) from error
        raise CorpusError(_unavailable(remote, error)) from error
    except (OSError, http.client.HTTPException) as error:
        raise _BrokenError(_reason(error)) from error
    with answer:
        _check_encoding(answer, remote)
        start, found = _agreed(answer, remote, start, note)
        _check_size(remote, found.total)
        with writing(part):
            part.parent.mkdir(parents=True, exist_ok=True)
            replace_file(_note_of(part), json.dumps(asdict(found)).encode())
        _write(answer, part, start, found.total, title)


def _agreed(answer: Any, remote: RemoteFile, start: int, note: _Note | None) -> tuple[int, _Note]:
    """Return the byte at which an answer begins, and the identity of its file."""
    length = _number(answer.headers.get("Content-Length"))
    etag, modified = answer.headers.get("ETag") or "", answer.headers.get("Last-Modified") or ""
    if answer.status != 206:
        return 0, _Note(address=remote.address, etag=etag, modified=modified, total=length)
    span = re.fullmatch(r"bytes (\d{1,18})-\d{1,18}/(\d{1,18})", answer.headers.get("Content-Range") or "")
    found = _Note(address=remote.address, etag=etag, modified=modified, total=int(span[2]) if span else None)
    if span is None or int(span[1]) != start or note is None or not found.continues(note):
        raise _ChangedError
    return start, found


def _write(answer: Any, part: Path, start: int, total: int | None, title: str) -> None:
    with writing(part), open(part, "r+b" if start else "wb") as file, _bar(title, start, total) as advance:
        file.seek(start)
        file.truncate()
        done = start
        while True:
            try:
                piece = answer.read1(_PIECE)  # keeps what has arrived if the connection breaks
            except (OSError, http.client.HTTPException) as error:
                raise _BrokenError(_reason(error)) from error
            if not piece:
                break
            file.write(piece)
            done += len(piece)
            advance(len(piece))
            if total is None and done > _MOST_BYTES:
                raise CorpusError(f"{title}: the server sent more than {format_bytes(_MOST_BYTES)} without an end")
    if total is not None and done != total:
        raise _BrokenError(f"it ended after {format_bytes(done)} of {format_bytes(total)}")


def _bar(title: str, start: int, total: int | None) -> AbstractContextManager[Callable[[float], None]]:
    """Return a progress bar of what is missing; without a total, it shows the bytes in place of a percentage."""
    if total is None:
        return progress(title, None, rate=lambda done, took: f"{format_bytes(done)}, {format_bytes(done / took)}/s")
    return progress(title, total - start, rate=lambda done, took: f"{format_bytes(done / took)}/s")


def _check_encoding(answer: Any, remote: RemoteFile) -> None:
    """Refuse a file that the server compressed against the request; it may name the compression of an archive."""
    encoding = one_line(answer.headers.get("Content-Encoding") or "")[:100].strip().lower()
    if encoding not in ("", "identity") and not remote.file_name.lower().endswith((".gz", ".tgz", ".xz")):
        raise CorpusError(
            f"{remote.address}: the server sends the file compressed ({encoding}), expected the file itself; "
            "download it in a browser"
        )


def _check_size(remote: RemoteFile, found: int | None) -> None:
    if None not in (remote.size, found) and remote.size != found:
        raise CorpusError(
            f"{remote.address} has {found} bytes, expected {remote.size}: the file has changed since its description "
            "was written; download it by hand, and compare it with the page of the corpus"
        )


def _check_content(remote: RemoteFile, part: Path) -> None:
    """Compare a complete file with its published checksum; another file is removed."""
    if not remote.checksum:
        return
    kind, expected = remote.checksum.split(":")
    with open_regular(part) as file:
        digest = hashlib.file_digest(file, lambda: hashlib.new(kind, usedforsecurity=False)).hexdigest()
    if digest != expected:
        remove(part)
        raise CorpusError(
            f"{remote.address}: the {kind.upper()} of the file is {digest}, expected {expected}; it was removed and "
            "not unpacked; run the same command again, and if this repeats, the file has changed"
        )


def _unavailable(remote: RemoteFile, error: Exception) -> str:
    return f"{remote.address}: cannot be downloaded ({_reason(error)}); check the network and the address in a browser"


def _reason(error: Exception) -> str:
    """Return in a few words why a request failed."""
    if isinstance(error, FeatcacheError):
        return str(error)
    if isinstance(error, HTTPError):
        return f"the server answered {error.code} {one_line(str(error.reason))[:100]}".rstrip()
    cause = error.reason if isinstance(error, URLError) else error
    if isinstance(cause, TimeoutError):
        return "the server did not answer in time"
    if isinstance(cause, OSError) and cause.strerror:
        return f"the server cannot be reached: {one_line(cause.strerror)[:150]}"
    return one_line(str(cause))[:200] or type(cause).__name__


def _number(text: str | None) -> int | None:
    return int(text) if text and re.fullmatch(r"\d{1,18}", text) else None
