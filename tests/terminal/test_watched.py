"""The state of a long task: a bar on a terminal, a line from time to time elsewhere."""

import logging
import os
import re
import threading
from contextlib import suppress
from functools import partial

import pytest

from featcache.terminal import console as terminal
from featcache.terminal import watched as watching
from featcache.terminal.console import Console
from featcache.terminal.progress import progress
from featcache.terminal.repeated import repeated
from featcache.terminal.streams import log_to_terminal
from featcache.terminal.watched import TaskState, watched

TITLE = "Training 50 heads (10 folds × 5 seeds)"
STATE = TaskState(
    title=TITLE,
    done=0.344,
    remaining="at most 0:12:00 left",
    detail="epochs 3 to 7 of at most 100; mean loss 0.412, validation 0.655; 3 of 50 trainings done",
)


def test_short_tasks_are_silent_without_a_terminal(capsys, caplog):
    caplog.set_level("INFO", "featcache")
    with watched(lambda: STATE):
        pass
    assert capsys.readouterr() == ("", "")
    assert caplog.messages == []


def test_long_tasks_are_logged_without_a_terminal(caplog, monkeypatch):
    monkeypatch.setattr(watching, "FIRST_LINE_SECONDS", 0.0)
    caplog.set_level("INFO", "featcache")
    logged = threading.Event()
    monkeypatch.setattr(watching.log, "info", lambda *told: (lines.append(told[0] % told[1:]), logged.set()))
    lines = []
    with watched(lambda: STATE):
        assert logged.wait(30)
    assert lines == [
        "Training 50 heads (10 folds × 5 seeds): 34 %, at most 0:12:00 left; epochs 3 to 7 of at most 100; mean loss "
        "0.412, validation 0.655; 3 of 50 trainings done"
    ]


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_a_terminal_sees_a_bar_and_whole_words_below_it(capsys, monkeypatch, width):
    monkeypatch.setattr(terminal, "Console", partial(terminal.Console, force_terminal=True, width=width, no_color=True))
    with watched(lambda: STATE):
        pass
    shown = re.sub(r"\x1b\[[^a-zA-Z]*[a-zA-Z]", "", capsys.readouterr().err)
    lines = [line.rstrip() for line in re.split("[\r\n]+", shown)]
    assert max(map(len, lines)) <= width
    assert not (set(TITLE.split()) | set(STATE.detail.split())) - set(shown.split())
    assert ("at most 0:12:00 left" in shown.replace(STATE.detail, "")) == (width >= len(TITLE) + 26)
    assert ("━" in shown) == (width >= len(TITLE) + 35)


def test_text_of_users_is_escaped(capsys, monkeypatch):
    monkeypatch.setattr(terminal, "Console", partial(terminal.Console, force_terminal=True, width=80, no_color=True))
    with watched(lambda: TaskState(title="[red]a", done=0, remaining="", detail="\x1b]0;b\x07")):
        pass
    err = capsys.readouterr().err
    assert "[red]a" in err
    assert "\x1b]0;" not in err


def test_a_repeated_function_ends_with_its_block():
    called = threading.Event()
    with repeated(called.set, 1000.0, first=0.0):
        assert called.wait(30)
    with pytest.raises(KeyError), repeated(called.set, 1000.0):
        raise KeyError
    assert not [thread for thread in threading.enumerate() if thread.name == "progress"]


def test_a_warning_while_the_bar_is_shown_is_a_line_of_its_own(capsys, monkeypatch):
    monkeypatch.setattr(terminal, "Console", partial(terminal.Console, force_terminal=True, width=80, no_color=True))
    featcache = logging.getLogger("featcache")
    before = featcache.handlers[:], featcache.level
    log_to_terminal(logging.INFO)
    try:
        with watched(lambda: STATE):
            featcache.warning("seed 1 diverged")
    finally:
        featcache.handlers[:], featcache.level = before
    shown = re.sub(r"\x1b\[[^a-zA-Z]*[a-zA-Z]", "", capsys.readouterr().err)
    assert "warning: seed 1 diverged" in re.split("[\r\n]+", shown)


@pytest.mark.parametrize("terminals", [True, False])
@pytest.mark.parametrize("error", [ZeroDivisionError("a bug"), OSError("the terminal is gone")])
def test_an_error_of_the_display_is_a_warning_and_does_not_end_the_task(caplog, monkeypatch, terminals, error):
    monkeypatch.setattr(terminal, "Console", partial(terminal.Console, force_terminal=terminals, width=80))
    monkeypatch.setattr(watching, "FIRST_LINE_SECONDS", 0.0)
    monkeypatch.setattr(watching, "LINE_SECONDS", 0.0)
    caplog.set_level("INFO", "featcache")
    looked, told = threading.Event(), threading.Event()
    monkeypatch.setattr(watching.log, "warning", lambda *text: (warnings.append(text[0] % text[1:]), told.set()))
    warnings = []

    def look():
        if looked.is_set():
            raise error
        looked.set()
        return STATE

    with watched(look):
        assert told.wait(30)
    assert warnings == [f"the progress is not shown any more: {type(error).__name__}: {error}"]


@pytest.mark.parametrize("show", [lambda: watched(lambda: STATE), lambda: progress("Reading", 1, rate=lambda *_: "")])
def test_quiet_shows_no_bar(capsys, monkeypatch, show):
    monkeypatch.setattr(terminal, "Console", partial(terminal.Console, force_terminal=True, width=80))
    monkeypatch.setattr(logging.getLogger("featcache"), "level", logging.WARNING)
    with show():
        pass
    assert "Training" not in (err := capsys.readouterr().err)
    assert "Reading" not in err


def test_the_bar_fits_a_terminal_whose_size_changes(capsys, monkeypatch):
    monkeypatch.setattr(terminal, "Console", partial(terminal.Console, force_terminal=True, width=120, no_color=True))
    bar = watching._Bar(lambda: STATE)
    bar.draw()
    assert "━" in capsys.readouterr().err
    bar._bar.console.width = 44
    bar.draw()
    shown = re.sub(r"\x1b\[[^a-zA-Z]*[a-zA-Z]", "", capsys.readouterr().err)
    bar.stop()
    assert "…" not in shown
    assert "━" not in shown


def test_a_pipe_without_a_reader_ends_no_task(monkeypatch):
    reader, writer = os.pipe()
    os.close(reader)
    with suppress(BrokenPipeError), open(writer, "w") as closed:
        monkeypatch.setattr(terminal, "Console", lambda **_: Console(file=closed, force_terminal=True, width=80))
        done = False
        with watched(lambda: STATE):
            done = True
    assert done
