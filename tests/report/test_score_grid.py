"""Tables of scores: the numbers, their significance, and what cannot be put into a table."""

import csv
import io

import numpy as np
import pytest
from pylatexenc.latex2text import LatexNodes2Text
from pylatexenc.latexwalker import LatexEnvironmentNode, LatexWalker
from sklearn.metrics import balanced_accuracy_score

from featcache.errors import PredictionsError
from featcache.evaluate.compare import compare
from featcache.report.grid_formats import FORMATS
from featcache.report.score_grid import score_grid
from featcache.runs.reader import load_predictions
from featcache.runs.varied import compared_settings, distinguishing
from tests.report.written_runs import write_run


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Return six runs: three heads, each with two normalisations."""
    folder = tmp_path_factory.mktemp("runs") / "toy"
    return {
        (head, norm): write_run(folder / f"{head}-{norm}", head=head, norm=norm, right=right, validation=100 * right)
        for head, right in (("dense", 0.95), ("lstm", 0.9), ("linear", 0.5))
        for norm in ("none", "global")
    }


def cells_of(grid):
    return {(row[0], column[0]): cell for (row, column), cell in grid.cells.items()}


def test_a_cell_is_the_score_of_its_run(runs):
    grid = score_grid(list(runs.values()), rows=["head"], columns=["norm"])
    assert (grid.metric, grid.rows, grid.columns) == (
        "uar",
        (("dense",), ("lstm",), ("linear",)),
        (("none",), ("global",)),
    )
    found = cells_of(grid)
    for key, run in runs.items():
        of_seeds = [
            100 * balanced_accuracy_score(rows["target"], rows["prediction"])
            for _, rows in run.predictions.groupby("seed")
        ]
        assert found[key].mean == pytest.approx(np.mean(of_seeds))
        assert found[key].std == pytest.approx(np.std(of_seeds, ddof=1))
        assert list(found[key].ci95) == run.metrics["uar"]["ci95"]
    for norm in ("none", "global"):
        best = max((head for head, other in runs if other == norm), key=lambda head: found[head, norm].mean)
        assert [head for head in ("dense", "lstm", "linear") if found[head, norm].best] == [best]


def test_marks_are_those_of_compare_for_all_pairs_of_a_column(runs):
    found = cells_of(score_grid(list(runs.values()), rows=["head"], columns=["norm"]))
    for norm in ("none", "global"):
        of_column = {run.name: load_predictions(run) for (_, other), run in runs.items() if other == norm}
        best = next(cell.label for (_, other), cell in found.items() if other == norm and cell.best)
        for one in compare(of_column, score="uar"):
            if best in (one.first, one.second):
                other = one.second if one.first == best else one.first
                [cell] = [cell for cell in found.values() if cell.label == other]
                assert (cell.p, cell.reference) == (one.p_speakers_holm, best)
                assert cell.differs == (one.p_speakers_holm < 0.05)
    assert found["linear", "none"].differs
    assert not any(cell.differs for cell in found.values() if cell.best)


def test_a_reference_is_compared_with_all_other_runs(runs):
    chosen, reference = list(runs.values()), runs["linear", "global"]
    grid = score_grid(chosen, rows=["head"], columns=["norm"], reference=reference)
    p_values = {}
    for run in chosen:
        if run is not reference:
            pair = {reference.name: load_predictions(reference), run.name: load_predictions(run)}
            p_values[run.name] = compare(pair, score="uar")[0].p_speakers
    corrected, highest = {}, 0.0
    for number, (name, p) in enumerate(sorted(p_values.items(), key=lambda item: item[1])):
        highest = max(highest, min(1.0, p * (len(p_values) - number)))
        corrected[name] = highest
    found = {cell.label: cell.p for cell in grid.cells.values()}
    assert found.pop(reference.name) is None
    assert found == pytest.approx(corrected)
    assert any(f"differs from {reference.name}" in note for note in grid.notes)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"rows": ["norm"]},
            r"^dense-none and lstm-none belong to one cell \(norm none\), but differ in head; add head to --rows or ",
        ),
        (
            {"rows": ["lerning_rate"]},
            r"^no setting of these runs 'lerning_rate'; did you mean .*'training.learning_r",
        ),
        (
            {"rows": ["head"], "columns": ["norm"], "metric": "ccc"},
            r"^dense-none: no score 'ccc'; available: macro_f1",
        ),
    ],
)
def test_what_cannot_be_a_table_is_told_in_one_line(runs, given, message):
    with pytest.raises(PredictionsError, match=message) as error:
        score_grid(list(runs.values()), **given)
    assert "\n" not in str(error.value)


def test_equal_settings_are_no_two_cells(tmp_path):
    two = [write_run(tmp_path / "toy" / name) for name in "ab"]
    with pytest.raises(PredictionsError, match=r"^a and b have the same settings; leave one of them out$"):
        score_grid(two, rows=["head"])
    other = write_run(tmp_path / "toy" / "c", features={"ssl": "e" * 64})
    with pytest.raises(PredictionsError, match="differ in content of features; "):
        score_grid([two[0], other], rows=["features"])


def test_numbers_are_sorted_as_numbers_and_names_may_be_short(tmp_path):
    rates = [1e-3, 1e-5, 2e-4]
    runs = [write_run(tmp_path / "toy" / str(rate), training={"learning_rate": rate}) for rate in rates]
    for grid in (score_grid(runs, rows=["learning-rate"]), score_grid(runs)):
        assert grid.row_settings == ("training.learning_rate",)
        assert [float(row) for (row,) in grid.rows] == sorted(rates)


def test_an_option_that_a_run_does_not_record_has_its_default(tmp_path):
    runs = [
        write_run(tmp_path / "toy" / "old", training={}),
        write_run(tmp_path / "toy" / "new", training={"learning_rate": 1e-3}, set={"hidden_units": 8}),
    ]
    assert score_grid(runs, rows=["learning_rate"]).rows == (("0.0001",), ("0.001",))
    assert score_grid(runs, rows=["hidden_units"]).rows == (("default",), ("8",))
    assert score_grid(runs[:1], rows=["layer_weighting"]).rows == (("abs",),)


def test_other_test_utterances_and_other_scores_are_not_tested(tmp_path, runs):
    other = write_run(tmp_path / "other" / "run", head="ffn", speakers=7)
    grid = score_grid([runs["dense", "none"], other], rows=["head"])
    assert [cell.p for cell in grid.cells.values()] == [None, None]
    assert any(note.startswith("Not tested for significance: run tested ") for note in grid.notes)
    by_corpus = score_grid([runs["dense", "none"], runs["linear", "none"], other], rows=["head"], columns=["corpus"])
    assert cells_of(by_corpus)["linear", "toy"].differs
    grid = score_grid([runs["dense", "none"], runs["lstm", "none"]], rows=["head"], metric="macro_f1")
    assert "Not tested for significance: there is no test for Macro-F1." in grid.notes


def test_validation_scores_are_called_so(runs, tmp_path):
    grid = score_grid(list(runs.values()), rows=["head"], columns=["norm"], part="validation")
    assert cells_of(grid)["dense", "none"].mean == 95
    assert "UAR (%), validation" in grid.notes[0]
    assert all(cell.ci95 is None and cell.p is None for cell in grid.cells.values())
    with pytest.raises(PredictionsError, match=r"^old records no validation scores; fit it again with --overwrite$"):
        score_grid([write_run(tmp_path / "toy" / "old")], rows=["head"], part="validation")


HOSTILE = ["a_b & 50% #1 $x$ {y} ~ ^ \\input{/etc/passwd}", '[2] <b>|"q"\'', "x--y---z\x1b[31m", "Ärger ± †"]


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hostile") / "toy"
    rights = (0.95, 0.5, 0.9, 0.8)
    runs = [
        write_run(folder / str(number), head=name, norm="50 %_", right=right)
        for number, (name, right) in enumerate(zip(HOSTILE, rights, strict=True))
    ]
    return score_grid(runs, rows=["head"], columns=["norm"])


def environments(latex):
    """Parse LaTeX strictly, and return its environments by name."""
    nodes, _, _ = LatexWalker(latex, tolerant_parsing=False).get_latex_nodes()
    found, waiting = {}, list(nodes)
    while waiting:
        node = waiting.pop()
        if isinstance(node, LatexEnvironmentNode):
            found[node.environmentname] = node
            waiting += node.nodelist
    return found


def test_latex_is_a_booktabs_table_in_which_all_text_is_escaped(hostile):
    latex = FORMATS["latex"](hostile)
    assert r"\usepackage{booktabs}" in latex
    table = environments(latex)["tabular"]
    source = table.latex_verbatim()
    assert [source.count(rule) for rule in (r"\toprule", r"\midrule", r"\bottomrule")] == [1, 1, 1]
    lines = source.split("\\\\\n")
    assert lines[1].startswith("\\cmidrule")
    for line, name in zip(lines[2:-1], HOSTILE, strict=True):
        cells = line.replace("\\midrule\n", "").replace(r"\&", "&amp;").split("&")
        assert len([cell for cell in cells if not cell.startswith("amp;")]) == 2
        shown = LatexNodes2Text(keep_comments=True).latex_to_text(line.replace("\\midrule", ""))
        plain = (
            "".join(shown.split()).replace("^†", "†").replace("ˆ", "^").replace("”", '"')
        )  # as pylatexenc writes them
        assert "".join(name.replace("\x1b", "\\x1b").split()) in plain
    assert "\\textbf{\\boldmath" in lines[2]
    assert "$^{\\dagger}$" in lines[3]
    assert "\\input{" not in latex


def test_all_formats_show_the_same_table(hostile):
    text, markdown = FORMATS["text"](hostile), FORMATS["markdown"](hostile)
    best = max(hostile.cells.values(), key=lambda cell: cell.mean)
    for source in (text, markdown, FORMATS["latex"](hostile)):
        for cell in hostile.cells.values():
            assert f"{cell.mean:.1f}" in source
    assert f"**{best.mean:.1f} ± {best.std:.1f} [" in markdown
    assert f"*{best.mean:.1f} ± {best.std:.1f} [" in text
    assert "\x1b" not in text + markdown
    rows = list(csv.DictReader(io.StringIO(FORMATS["csv"](hostile))))
    assert [row["head"] for row in rows] == HOSTILE
    for row, cell in zip(rows, hostile.cells.values(), strict=True):
        assert (float(row["mean"]), row["best"]) == (cell.mean, str(cell.best).lower())
        assert row["p_holm"] == ("" if cell.p is None else str(cell.p))


def test_trained_blocks_tell_fine_tuned_runs_from_frozen_ones(tmp_path):
    tuned = {"from_layer": [1], "blocks_learning_rate": 1e-3, "max_frames": 0}
    settings = compared_settings(
        [
            write_run(tmp_path / "frozen", max_frames=250),
            write_run(tmp_path / "tuned", **tuned),
            write_run(tmp_path / "lora", lora=8, **tuned),
        ]
    )
    assert [[one[name] for name in distinguishing(settings)] for one in settings] == [
        ["none", "none"],
        ["1", "none"],
        ["1", "8"],
    ]
