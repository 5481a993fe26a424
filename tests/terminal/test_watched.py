"""The state of a long task: a bar on a terminal, a line from time to time elsewhere."""

import re
import threading
from functools import partial

import pytest

from featcache.terminal import console as terminal
from featcache.terminal import watched as watching
from featcache.terminal.repeated import repeated
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
