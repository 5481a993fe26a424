"""Standard streams, log records and warnings of the command line, whose failures never end a command."""

import logging
import os
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO, cast

from featcache.terminal.escape import LOOKALIKES_HANDLER, one_line
from featcache.terminal.lines import for_stream

log = logging.getLogger(__name__)


class _Lines(logging.StreamHandler[Any]):
    """Handler that prints each record to standard error as one escaped line, folded between words on a terminal."""

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stderr  # a progress bar replaces it while it is shown, and prints lines above the bar
        super().emit(record)

    def format(self, record: logging.LogRecord) -> str:
        prefix = "warning: " if record.levelno >= logging.WARNING else ""
        return for_stream(prefix + one_line(record.getMessage()), self.stream)


@contextmanager
def lasting_streams() -> Iterator[list[str]]:
    """Make standard output and standard error accept any text, also after their reader has closed the pipe.

    Characters that the encoding cannot represent are replaced. If the reader of a pipe has ended
    (``featcache models | head -1``), further output is discarded and the command finishes its work. Warnings and log
    records of libraries are printed as lines in the format of featcache's own.

    Yields:
        A list. After the block it contains the reason for lost output, such as a full disk; a closed pipe is no reason.
    """
    lost: list[str] = []
    if threading.current_thread() is not threading.main_thread():  # Streams and handlers belong to the whole process.
        yield lost
        return
    before = sys.stdout, sys.stderr, warnings.showwarning
    streams = [_Lasting(stream) if stream else None for stream in before[:2]]
    sys.stdout, sys.stderr = (cast(TextIO, stream) for stream in streams)
    warnings.showwarning = _log_warning
    others = _Lines()
    others.addFilter(_is_of_library)
    logging.getLogger().addHandler(others)
    try:
        yield lost
    finally:
        logging.getLogger().removeHandler(others)
        sys.stdout, sys.stderr, warnings.showwarning = before
        for stream in streams:
            if stream:
                stream.end()
        lost += [stream.lost for stream in streams[:1] if stream and stream.lost]


class _Lasting:
    """Text stream whose writes never fail.

    Attributes:
        lost: Reason for lost output; empty if everything was written, or if the reader had closed the pipe.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._errors = stream.errors
        self.lost = ""
        self._reconfigure(LOOKALIKES_HANDLER)

    def write(self, text: str) -> int:
        try:
            self._stream.write(text)
        except OSError as error:
            self._lose(error)
        return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError as error:
            self._lose(error)

    def end(self) -> None:
        self.flush()
        self._reconfigure(self._errors)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _reconfigure(self, errors: str | None) -> None:
        # The streams of tests and notebooks may have no encoding that can be changed.
        if hasattr(self._stream, "reconfigure"):
            self._stream.reconfigure(errors=errors)

    def _lose(self, error: OSError) -> None:
        gone = isinstance(error, BrokenPipeError) or (
            os.name == "nt" and error.errno == 22
        )  # A closed pipe on Windows.
        if not gone:
            self.lost = error.strerror or str(error)
        # Buffered output would fail again, at the latest when Python ends.
        with suppress(OSError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)


def log_to_terminal(level: int) -> None:
    """Print featcache's log records as lines on standard error.

    Args:
        level: Lowest level that is printed.
    """
    logger = logging.getLogger("featcache")
    logger.handlers[:] = [_Lines()]
    logger.setLevel(level)


def is_quiet() -> bool:
    """Return whether only warnings and errors are wanted (``featcache --quiet``), and therefore no progress bars."""
    return logging.getLogger("featcache").level > logging.INFO


def _is_of_library(record: logging.LogRecord) -> bool:
    return not (record.name.partition(".")[0] == "featcache" and logging.getLogger("featcache").handlers)


def _log_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Log a warning of a library in one line with its origin; see :func:`warnings.showwarning`."""
    log.warning("%s, line %d: %s: %s", _module(filename), lineno, category.__name__, message)


def _module(filename: str) -> str:
    """Return the path of a file from its package on: ``sklearn/svm/_base.py``."""
    parts = Path(filename).parts
    for folder in ("site-packages", "dist-packages"):
        if folder in parts:
            parts = parts[parts.index(folder) + 1 :]
    return "/".join(parts[-4:])
