"""Published numbers beside ours: on the terminal, as Markdown and as CSV."""

import csv
import io
import re

import pytest
from pylatexenc.latex2text import LatexNodes2Text
from pylatexenc.latexwalker import LatexEnvironmentNode, LatexWalker
from rich.console import Console

from featcache.report.cost_table import cost_table
from featcache.report.experiment import (
    ComparedRow,
    compared_csv,
    compared_latex,
    compared_markdown,
    compared_table,
    costs_markdown,
    numbered_notes,
    write_compared,
)
from featcache.runs.costs import NAMES, Costs

COSTS = Costs(
    head_parameters=135_200,
    model_parameters=94_371_712,
    store_bytes=1_500_000_000,
    seconds=994.25,
    seconds_per_training=19.885,
    not_converged=2,
)


def row(**changes):
    given = {
        "name": "all",
        "title": "All layers",
        "protocol": "loso",
        "metric": "uar",
        "published_mean": 67.2,
        "published_std": 0.7,
        "mean": 64.96,
        "std": 1.04,
        "ci95": (60.12, 69.88),
        "notes": ("untrained weights",),
        "run": "some-run",
    }
    return ComparedRow(**given | changes)


def printed(rows):
    file = io.StringIO()
    Console(file=file, width=80).print(compared_table(rows, numbered_notes(rows)))
    return file.getvalue()


def test_differences_are_ours_less_the_papers():
    assert row().difference == pytest.approx(-2.24)  # 64.96 - 67.2, up to rounding in float64
    assert list(row().cells().values()) == ["67.2 ± 0.7", "65.0 ± 1.0", "60.1–69.9", "-2.2"]


def test_what_is_not_known_is_a_dash():
    alone = row(published_mean=None, published_std=None, std=None, ci95=None)
    assert alone.difference is None
    assert list(alone.cells().values()) == ["-", "65.0", "-", "-"]
    assert row(published_std=None).cells()["Paper"] == "67.2"


def test_there_is_no_column_for_a_paper_without_numbers():
    alone = row(published_mean=None, published_std=None)
    assert "Paper" in printed([alone, row()])
    for text in (printed([alone]), compared_markdown([alone])):
        assert "Paper" not in text
        assert "Diff" not in text
        assert "65.0 ± 1.0" in text


def test_80_columns_are_enough_and_names_are_not_markup():
    text = printed([row(title="[red]wav2vec2-large-xlsr-53-and-more[/red]", mean=40.0, notes=("a", "b", "c"))])
    assert max(map(len, text.splitlines())) <= 80
    assert "[red]" in text
    assert all(cell in text for cell in ("67.2 ± 0.7", "40.0 ± 1.0", "60.1–69.9", "-27.2", "1 2 3"))


def test_notes_have_one_number_each_in_the_order_of_the_rows():
    rows = [row(notes=("b", "a")), row(notes=()), row(notes=("c", "b"))]
    assert numbered_notes(rows) == {"b": 1, "a": 2, "c": 3}
    lines = [line for line in printed(rows).splitlines() if "All layers" in line]
    assert [line.split("-2.2")[1].split() for line in lines] == [["1", "2"], [], ["1", "3"]]


def test_protocols_are_told_apart():
    text = printed([row(title="first"), row(title="second", protocol="random"), row(title="third")])
    starts = [text.index(word) for word in ("loso", "first", "third", "random", "second")]
    assert starts == sorted(starts)


def test_markdown_has_the_notes_in_full():
    lines = compared_markdown([row(notes=("a|b", "c"))]).splitlines()
    assert lines[0] == "| Protocol | UAR (%) | Paper | Ours | 95 % CI | Diff. | What differs |"
    assert lines[2] == r"| loso | All layers | 67.2 ± 0.7 | 65.0 ± 1.0 | 60.1–69.9 | -2.2 | a\|b; c |"


def test_csv_has_all_digits_and_empty_cells_for_what_is_not_known():
    text = compared_csv([row(), row(published_mean=None, published_std=None, std=None, ci95=None)])
    first, second = csv.DictReader(io.StringIO(text))
    assert [float(first[name]) for name in ("published_mean", "mean", "std", "ci95_low", "ci95_high")] == [
        67.2,
        64.96,
        1.04,
        60.12,
        69.88,
    ]
    assert {name for name, value in second.items() if value == ""} == {
        "published_mean",
        "published_std",
        "std",
        "ci95_low",
        "ci95_high",
        "difference",
        *NAMES,
    }
    third = next(csv.DictReader(io.StringIO(compared_csv([row(costs=COSTS)]))))
    assert (third["head_parameters"], third["seconds"], third["not_converged"]) == ("135200", "994.25", "2")


def test_costs_of_each_run_stand_once_below_the_scores():
    rows = [row(costs=COSTS), row(metric="wa", costs=COSTS), row(name="vote", title="Vote")]
    [table, caption] = costs_markdown(rows)
    assert table.splitlines()[0] == "| Costs | Head | Model | Features | Time | Each |"
    assert table.splitlines()[2:] == ["| All layers | 135.2 k | 94.4 M | 1.5 GB | 16 min 34 s | 19.9 s |"]
    assert "without extraction" in caption
    assert costs_markdown([row()]) == []


def test_a_published_result_does_not_hide_the_costs_of_a_run_of_the_same_name():
    told = "\n".join(costs_markdown([row(costs=COSTS), row(title="Somebody", run="", costs=Costs())]))
    assert "| All layers | 135.2 k | 94.4 M |" in told
    assert "Somebody" not in told


def test_80_columns_are_enough_for_the_costs():
    file = io.StringIO()
    title = "wav2vec2-large-xlsr-53 and eGeMAPS, fusion, all layers"
    Console(file=file, width=80).print(cost_table([(title, COSTS), ("short", Costs(store_bytes=12))]))
    lines = file.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    assert not [word for word in title.split() if word not in file.getvalue()]
    assert [line.split()[-6:] for line in lines if line.startswith("short")] == [["-", "-", "12", "bytes", "-", "-"]]
    assert cost_table([("short", Costs())]) is None


def test_markdown_rows_are_lines_whatever_the_names_are():
    text = compared_markdown([row(title="a\n| forged | \x1b[31m", notes=("\u202e",))])
    assert len(text.splitlines()) == 3
    assert r"a\n\| forged \| \x1b[31m" in text
    assert r"\u202e" in text


def test_latex_has_a_booktabs_table_per_metric_with_all_text_escaped():
    title = "50 % of a_b & \\input{x} $y$"
    rows = [
        row(title=title),
        row(protocol="other_#1", notes=("a & b", "untrained weights")),
        row(metric="wa", notes=()),
    ]
    latex = compared_latex(rows, title="T^1 --- {x}")
    nodes, _, _ = LatexWalker(latex, tolerant_parsing=False).get_latex_nodes()
    tables = [node for node in nodes if isinstance(node, LatexEnvironmentNode)]
    assert [table.environmentname for table in tables] == ["table", "table"]
    assert "\\input{x}" not in latex
    for table, columns, protocols in zip(tables, (6, 5), (["loso", "other_#1"], []), strict=True):
        [tabular] = [node for node in table.nodelist if node.isNodeType(LatexEnvironmentNode)]
        source = tabular.latex_verbatim()
        for rule in (r"\toprule", r"\bottomrule"):
            assert source.count(rule) == 1
        for line in source.split(r"\\")[:-1]:
            assert len(re.split(r"(?<!\\)&", line)) == columns
        shown = LatexNodes2Text().nodelist_to_text([tabular])
        assert "65.0 ± 1.0" in " ".join(shown.split())
        assert all(protocol in shown for protocol in protocols)
    plain = LatexNodes2Text().latex_to_text(latex)
    assert "1: untrained weights. 2: a & b." in " ".join(plain.split())
    assert "--- {x}" in plain


def test_a_published_result_without_a_run_has_no_link(tmp_path):
    cited = row(name="other", title="BiLSTM", mean=None, std=None, ci95=None, run="", notes=())
    assert list(cited.cells().values()) == ["67.2 ± 0.7", "-", "-", "-"]
    write_compared(tmp_path, [row(), cited], title="T", paper="P", notes=[], figures=[], comparisons=[])
    assert "BiLSTM & 67.2" in (tmp_path / "results.tex").read_text(encoding="utf-8")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "BiLSTM" in page
    assert page.count("<a href") == 1
    [_, second] = csv.DictReader(io.StringIO((tmp_path / "results.csv").read_text(encoding="utf-8")))
    assert (second["published_mean"], second["mean"], second["run"]) == ("67.2", "", "")
