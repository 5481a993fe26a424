"""Standard streams, log records and warnings of the command line: nothing that is printed can end a command."""

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

log = logging.getLogger(__name__)


class _Lines(logging.Formatter):
    """One line for each record, whatever it holds."""

    def format(self, record: logging.LogRecord) -> str:
        prefix = "warning: " if record.levelno >= logging.WARNING else ""
        return prefix + one_line(record.getMessage())


@contextmanager
def lasting_streams() -> Iterator[list[str]]:
    """Let standard output and standard error take any text, and outlive their reader (``featcache models | head -1``).

    Characters that the encoding lacks are replaced. After the reader of a pipe has gone, output goes nowhere and the
    command goes on to its end. Warnings and log records of libraries become lines like featcache's own.

    Yields:
        A list that holds in the end why output was lost, where it was for another reason, such as a full disk.
    """
    lost: list[str] = []
    if threading.current_thread() is not threading.main_thread():  # streams and handlers are the whole process's
        yield lost
        return
    before = sys.stdout, sys.stderr, warnings.showwarning
    streams = [_Lasting(stream) if stream else None for stream in before[:2]]
    sys.stdout, sys.stderr = (cast(TextIO, stream) for stream in streams)
    warnings.showwarning = _log_warning
    others = _handler()
    others.addFilter(
        lambda record: not (record.name.startswith("featcache") and logging.getLogger("featcache").handlers)
    )
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
    """A text stream whose writes never fail.

    Attributes:
        lost: Why it could not be written; empty where it could, or where its reader had gone.
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
        # what captures the output of tests or notebooks may have no encoding to be chosen
        if hasattr(self._stream, "reconfigure"):
            self._stream.reconfigure(errors=errors)

    def _lose(self, error: OSError) -> None:
        gone = isinstance(error, BrokenPipeError) or (os.name == "nt" and error.errno == 22)  # Windows' closed pipe
        if not gone:
            self.lost = error.strerror or str(error)
        # what waits to be written would fail again, at the latest when Python ends
        with suppress(OSError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)


def log_to_terminal(level: int) -> None:
    """Show featcache's log records from a level on as lines on standard error."""
    logger = logging.getLogger("featcache")
    logger.handlers[:] = [_handler()]
    logger.setLevel(level)


def _is_of_others(record: logging.LogRecord) -> bool:
    return not (record.name.partition(".")[0] == "featcache" and logging.getLogger("featcache").handlers)


def _handler() -> logging.Handler:
    handler = logging.StreamHandler()
    handler.setFormatter(_Lines())
    return handler


def _log_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """A library's warning in one line that tells where it came from; see :func:`warnings.showwarning`."""
    log.warning("%s, line %d: %s: %s", _module(filename), lineno, category.__name__, message)


def _module(filename: str) -> str:
    """``sklearn/svm/_base.py``: a file from its package on."""
    parts = Path(filename).parts
    for folder in ("site-packages", "dist-packages"):
        if folder in parts:
            parts = parts[parts.index(folder) + 1 :]
    return "/".join(parts[-4:])
