"""Tables and lines of external text, on terminals of all encodings."""

import io

import pytest

from featcache.report.tables import ResultRow, plain_table, results_table
from featcache.terminal.console import Console, print_line, print_lines, print_pairs

HOSTILE = "\x1b]0;title\x07[red]x[/red] :smile: \u202egnp\nforged"
SHOWN = r"\x1b]0;title\x07[red]x[/red] :smile: \u202egnp\nforged"
SCORE = {"mean": 67.2, "std": 0.7, "ci95": [65.1, 69.4]}


def printed(renderable, *, encoding="utf-8", terminal=False, width=200):
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding, newline="\n")
    console = Console(file=file, force_terminal=terminal, width=width, color_system="truecolor" if terminal else None)
    console.print(renderable, highlight=False)
    file.flush()
    return file.buffer.getvalue().decode(encoding)


def hostile_row():
    return ResultRow(
        features=HOSTILE, layers="all", head=HOSTILE, norm="none", protocol=HOSTILE, metrics={"uar": SCORE, "wa": SCORE}
    )


@pytest.mark.parametrize("terminal", [False, True])
def test_nothing_in_a_cell_acts(terminal):
    table = plain_table(HOSTILE, "b")
    table.add_row(HOSTILE, "c")
    out = printed(table, terminal=terminal)
    assert out.count(SHOWN) == 2
    assert len(out.splitlines()) == 2
    styles = [part for part in out.split("\x1b")[1:] if not part.startswith(("[1m", "[0m"))]
    assert styles == []  # no escape sequence except rich's bold
    assert "\u202e" not in out


def test_columns_are_as_wide_as_what_is_shown():
    table = plain_table("a", "b")
    table.add_row(HOSTILE, "second")
    table.add_row("x", "second")
    first, second = printed(table).splitlines()[1:]
    assert first.index("second") == second.index("second")


def test_a_table_of_results_shows_hostile_names():
    for rows in ([hostile_row()], [hostile_row(), ResultRow(**{**vars(hostile_row()), "protocol": "other"})]):
        out = printed(results_table(rows))
        assert out.count(SHOWN) >= 3
        assert "\x1b" not in out


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_a_console_without_the_characters_gets_the_table(encoding):
    out = printed(results_table([ResultRow(**{**vars(hostile_row()), "features": "怒"})]), encoding=encoding)
    plus_minus = "±" if encoding == "cp1252" else "+/-"
    assert f"67.2 {plus_minus} 0.7" in out
    assert r"\u6012" in out


def test_a_line_stays_one_line_and_is_not_folded(capsys, monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    print_line(f"{HOSTILE} {'x' * 300}")
    print_lines("one\ntwo")
    print_pairs({"name": HOSTILE, "nan": float("nan"), "list": ["a", "b"]})
    out = capsys.readouterr().out.splitlines()
    assert out[0] == f"{SHOWN} {'x' * 300}"
    assert out[1:3] == ["one", "two"]
    assert [line.split(maxsplit=1)[0] for line in out[3:]] == ["name", "nan", "list"]


def test_plain_strings_are_safe_as_well(capsys):
    Console().print(HOSTILE, highlight=False, soft_wrap=True)
    assert capsys.readouterr().out == SHOWN.replace(r"\n", "\n") + "\n"
