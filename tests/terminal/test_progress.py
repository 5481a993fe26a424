"""Progress is shown only on a terminal."""

import re
from functools import partial

import pytest

from featcache.terminal import console as terminal
from featcache.terminal.progress import progress


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
