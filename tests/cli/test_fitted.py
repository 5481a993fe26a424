"""The lines below the table of ``featcache fit``: chance level and validation score."""

from pathlib import Path

import pytest

from featcache.cli.listing import print_fitted
from featcache.runs.reader import RunFolder

STORED = Path(__file__).parents[1] / "data" / "home" / "runs" / "toy"


def lines_of(capsys, monkeypatch, width, *names):
    monkeypatch.setenv("COLUMNS", str(width))
    print_fitted([RunFolder(STORED / name) for name in names])
    return [line.rstrip() for line in capsys.readouterr().out.splitlines()]


@pytest.mark.parametrize(
    ("width", "names", "last", "column"),
    [
        (60, ["dense"], "chance level: UAR 50.0; validation: UAR 100.0 ± 0.0", False),
        (60, ["dense", "linear"], "chance level: UAR 50.0", False),
        (120, ["dense"], "chance level: UAR 50.0", True),
        (120, ["dense", "linear"], "chance level: UAR 50.0", True),
        (60, ["arousal"], "validation: CCC 0.355", False),
    ],
)
def test_a_narrow_terminal_has_the_validation_score_below_the_table(capsys, monkeypatch, width, names, last, column):
    lines = lines_of(capsys, monkeypatch, width, *names)
    assert lines[-1] == last
    assert any("Validation" in line for line in lines) == column
    assert max(map(len, lines)) <= width


def test_a_regression_without_room_for_chance_ends_with_its_table(capsys, monkeypatch):
    lines = lines_of(capsys, monkeypatch, 120, "arousal")
    assert "Validation" in lines[1]
    assert lines[-1].endswith("0.355")
