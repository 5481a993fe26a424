"""Progress is shown only on a terminal."""

import re
from contextlib import contextmanager
from functools import partial
from itertools import count
from types import SimpleNamespace

import pytest

from featcache.terminal import console as terminal
from featcache.terminal import progress as bars
from featcache.terminal.progress import long_progress, map_in_threads, progress, tracked


def use(title="ssl"):
    told = []

    def rate(done, took):
        assert took > 0
        told.append(done)
        return f"{done:g} per hour"

    with progress(title, 4, rate=rate) as advance:
        for amount in (1, 0, 2.5):
            advance(amount)
    return told


def test_nothing_is_said_without_a_terminal(capsys):
    use()
    assert capsys.readouterr() == ("", "")


def test_a_terminal_sees_what_how_far_and_how_fast(capsys, monkeypatch):
    monkeypatch.setattr(terminal, "Console", partial(terminal.Console, force_terminal=True, width=100))
    assert use() == [1, 1, 3.5]
    out, err = capsys.readouterr()
    assert out == ""
    for text in ("ssl", "88%", "3.5 per hour"):
        assert text in err


def test_an_error_passes_through(capsys):
    with pytest.raises(KeyError), progress("ssl", 1, rate=lambda done, took: ""):
        raise KeyError


@pytest.mark.parametrize("width", [40, 60, 80, 100, 200])
def test_the_title_is_never_cut(capsys, monkeypatch, width):
    title = "Training 12 heads (6 folds × 2 seeds), epoch 3 of at most 12"
    monkeypatch.setattr(terminal, "Console", partial(terminal.Console, force_terminal=True, width=width, no_color=True))
    use(title)
    shown = re.sub(r"\x1b\[[^a-zA-Z]*[a-zA-Z]|\r", " ", capsys.readouterr().err)
    assert "…" not in shown
    assert set(title.split()) <= set(shown.split())
    assert ("3.5 per hour" in " ".join(shown.split())) == (width >= len(title) + 36)


@pytest.fixture
def shown(monkeypatch):
    """Let a clock pass a second with each look at it; return the amounts that bars were told."""
    told = []

    @contextmanager
    def bar(title, total, *, rate):
        told.append(title)
        yield told.append

    monkeypatch.setattr(bars, "progress", bar)
    seconds = count()
    monkeypatch.setattr(bars, "time", SimpleNamespace(monotonic=lambda: next(seconds)))
    return told


def test_a_bar_appears_when_two_seconds_have_passed(shown):
    with long_progress("long", 10) as advance:
        advance(1)  # after one second
        assert shown == []
        advance(2)
        assert shown == ["long", 3]
        advance(4)
        assert shown == ["long", 3, 4]


def test_a_task_that_ends_in_time_shows_nothing(shown):
    with long_progress("short", 2) as advance:
        advance(1), advance(1)
    assert shown == []


def test_loops_and_threads_report_what_they_have_done(shown):
    assert list(tracked("loop", range(3500))) == list(range(3500))
    assert shown == ["loop", 2000, 1000]
    shown.clear()
    assert list(tracked("slow items", range(4), step=1)) == list(range(4))
    assert shown == ["slow items", 2, 1, 1]
    shown.clear()
    keys = list(map(str, range(5)))
    assert map_in_threads(int, keys, 2, "threads", together=1) == dict(zip(keys, range(5), strict=True))
    assert shown == ["threads", 2, 1, 1, 1]


def test_only_one_bar_is_drawn_at_a_time(capsys, monkeypatch):
    monkeypatch.setattr(terminal, "Console", partial(terminal.Console, force_terminal=True, width=100))
    with progress("outer", 2, rate=lambda done, took: "") as advance:
        with progress("inner", 2, rate=lambda done, took: "") as inside:
            inside(1)
        advance(1)
    assert "inner" not in capsys.readouterr().err
    use("later")
    assert "later" in capsys.readouterr().err
