"""External text that would control a terminal is escaped."""

import re
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import featcache
from featcache.terminal.escape import LOOKALIKES, escaped, fitting, one_line

ACTING = ["\x1b[31m", "\x9b31m", "\x07", "\x7f", "a\nb", "a\rb", "\u202eexe", "\u2066x", "\u2028", "\u200b", "\ufeff"]
ACTING += ["\udc80", "\x00"]
# Persian, Hindi and emoji are written with joiners.
NAMES = [
    "",
    "anger",
    "怒り",
    "غضب",
    "گفت\u200cوگو",
    "क्\u200dष",
    "👩\u200d👩\u200d👧",
    "C:\\data\\x",
    "a [red]b",
    "$x^2$",
    "é",
]


@pytest.mark.parametrize("text", ACTING)
def test_what_acts_is_shown_as_python_writes_it(text):
    shown = escaped(text)
    assert shown.isprintable()
    assert shown == "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


@given(st.text(st.characters(exclude_categories=("Cn", "Co"))))
def test_no_character_that_acts_is_left_and_no_other_is_changed(text):
    shown = escaped(text)
    assert not {unicodedata.category(char) for char in shown} & {"Cc", "Cs", "Zl", "Zp"}
    assert {char for char in shown if unicodedata.category(char) == "Cf"} <= set("\u200c\u200d")
    assert escaped(shown) == shown
    shown.encode()  # no half of an escaped character remains
    visible = [char for char in text if not char.isascii() and char.isprintable()]
    assert [char for char in shown if not char.isascii() and char.isprintable()] == visible


@pytest.mark.parametrize("text", ["", "anger", "怒り", "غضب", "گفت‌وگو", "क्‍ष", "👩‍👩‍👧", "C:\\data\\x", "a [red]b", "é"])
def test_names_in_all_scripts_stay_as_they_are(text):
    assert escaped(text) == text


def test_joiners_between_ascii_letters_are_shown():
    assert escaped("ad\u200dmin") == r"ad\u200dmin"


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "latin-1", "cp932", "utf-8"])
def test_any_text_fits_any_encoding(encoding):
    text = "".join(LOOKALIKES) + "怒 ─ é"
    shown = fitting(text, encoding)
    assert shown.encode(encoding)
    assert (shown == text) == (encoding == "utf-8")


def test_what_an_encoding_lacks_is_replaced_by_what_looks_like_it():
    assert fitting("67.2 ± 0.7, 65–69 …, 怒", "ascii") == r"67.2 +/- 0.7, 65-69 ..., \u6012"
    assert fitting("67.2 ± 0.7", "cp1252") == "67.2 ± 0.7"


def test_a_message_of_several_lines_is_one_line():
    assert one_line("no model:\r\n  missing\n\n\x1b[2Jfile") == r"no model: missing  \x1b[2Jfile"


def test_all_text_goes_to_the_terminal_through_one_console():
    package = Path(featcache.__file__).parent
    direct = [
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        if re.search(
            r"from rich\.(console|table) import (?!Column\b)|typer\.echo|click\.echo", path.read_text(encoding="utf-8")
        )
    ]
    assert direct == ["terminal/console.py"]


def test_the_error_handler_is_known_to_a_fresh_process():
    code = (
        "import sys, featcache.terminal.escape as e; sys.stdout.reconfigure(errors=e.LOOKALIKES_HANDLER); print('± 怒')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONIOENCODING": "ascii"}, capture_output=True, check=True, timeout=60
    )
    assert done.stdout.strip() == rb"+/- \u6012"
