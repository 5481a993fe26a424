"""Lines on terminals of any width: no word is broken or lost, and programs read whole lines."""

import io
import logging
import sys
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from featcache.terminal.console import Console, print_pairs
from featcache.terminal.lines import folded, for_stream, print_error, width_of
from featcache.terminal.streams import log_to_terminal

WORDS = st.text("ab怒é/._-", min_size=1, max_size=30)


class Terminal(io.StringIO):
    """Text stream that reports to be a terminal."""

    def isatty(self):
        return True


@settings(max_examples=200, deadline=None)
@given(st.lists(WORDS), st.integers(1, 120), st.integers(0, 20))
def test_folding_keeps_words_and_their_order(words, width, indent):
    lines = folded(" ".join(words), width, indent=" " * indent).split("\n")
    assert [word for line in lines for word in line.split()] == words
    for number, line in enumerate(lines):
        assert cell_len(line) <= width or len(line.split()) == 1
        assert line.startswith(" " * indent) or number == 0
    assert sum(map(len, lines)) <= len(" ".join(words)) + indent * len(lines)


@settings(max_examples=50, deadline=None)
@given(st.lists(WORDS, min_size=1), st.integers(1, 60))
def test_lines_are_filled_before_they_are_folded(words, width):
    lines = folded(" ".join(words), width).split("\n")
    for line, following in pairwise(lines):
        assert cell_len(f"{line} {following.split()[0]}") > width


def test_short_lines_and_blanks_inside_them_are_kept():
    for text in ("", "a  b", "   a", "a"):
        assert folded(text, 40) == text


@pytest.mark.parametrize("width", [40, 60, 80, 100, 200])
def test_errors_and_notices_are_folded_on_a_terminal_alone(monkeypatch, width):
    text = "warning: the utterance 'a/very/long/path/of/an/utterance/that/cannot/be/broken.wav' was not found here"
    for stream, lines in ((Terminal(), folded(text, width).split("\n")), (io.StringIO(), [text])):
        monkeypatch.setattr(sys, "stderr", stream)
        monkeypatch.setenv("COLUMNS", str(width))
        print_error(text)
        log_to_terminal(logging.INFO)
        logging.getLogger("featcache").warning("%s", text.removeprefix("warning: "))
        assert stream.getvalue().splitlines() == lines * 2
        assert for_stream(text, stream) == "\n".join(lines)
    logging.getLogger("featcache").handlers.clear()


def test_only_terminals_have_a_width(monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    assert width_of(None) is width_of(io.StringIO()) is None
    assert width_of(Terminal()) is None  # no file descriptor
    monkeypatch.setenv("COLUMNS", "0")
    assert width_of(Terminal()) is None


@pytest.mark.parametrize("width", [40, 60, 80, 100, 200])
def test_pairs_are_folded_between_words(monkeypatch, capsys, width):
    monkeypatch.setenv("COLUMNS", str(width))
    path = "/data/cache/corpus/a-store-with-a-very-long-name-that-does-not-fit"
    print_pairs({"store": path, "labels": ["one label", "another label", "a third label"]}, title="Content")
    out = capsys.readouterr().out
    assert path in out
    assert " ".join(out.split()) == f"Content store {path} labels one label, another label, a third label"
    assert all(len(line) <= width or path in line for line in out.splitlines())


def test_a_console_in_a_pipe_folds_nothing(monkeypatch, capsys):
    monkeypatch.delenv("COLUMNS", raising=False)
    Console().print_line("word " * 200 + "end")
    Console(file=sys.stdout, width=20).print_line("word " * 8 + "end")
    lines = capsys.readouterr().out.splitlines()
    assert lines == ["word " * 200 + "end", "word word word word", "word word word word", "end"]
