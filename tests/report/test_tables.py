"""Tables on the terminal."""

import io

import pytest
from rich.console import Console

from featcache.report.tables import ResultRow, plain_table, results_table

METRICS = {
    "uar": {"mean": 67.234, "std": 0.707, "ci95": [65.08, 69.44]},
    "wa": {"mean": 65.8, "std": 0.31, "ci95": [64.0, 67.0]},
}


def row(metrics=METRICS, **changes):
    names = {"features": "wav2vec2-base", "layers": "all", "head": "dense", "norm": "speaker", "protocol": "loso"}
    return ResultRow(metrics=metrics, **names | changes)


def printed(rows, width=80):
    return printed_table(results_table(rows), width)


def printed_table(table, width):
    file = io.StringIO()
    Console(file=file, width=width).print(table)
    return file.getvalue()


def test_scores_read_as_in_a_paper():
    text = printed([row()])
    assert "67.2 ± 0.7" in text
    assert "65.1–69.4" in text
    assert "65.8 ± 0.3" in text
    assert all(name in text for name in ("Features", "Layers", "Head", "Norm", "UAR (%)", "95 % CI", "WA (%)"))


def test_one_seed_has_no_spread():
    single = {name: score | {"std": None} for name, score in METRICS.items()}
    assert "±" not in printed([row(single)])


@pytest.mark.parametrize("width", [80, 60, 45])
def test_names_are_never_cut_or_broken(width):
    long = "facebook/wav2vec2-large-xlsr-53 + egemaps"
    text = printed([row(features=long, head="fusion", layers="0-24"), row(protocol="issa2020")], width)
    assert max(map(len, text.splitlines())) <= width
    assert all(score in text for score in ("67.2 ± 0.7", "65.1–69.4", "65.8 ± 0.3"))
    assert all(name in text for name in (long, "issa2020", "Norm: speaker"))
    assert "…" not in text


def test_cells_continue_between_words_if_that_is_enough():
    lines = printed([row(features="wav2vec2-tiny (untrained) + egemaps", head="fusion")]).splitlines()
    assert [line.split()[0] for line in lines[3:]] == ["wav2vec2-tiny", "(untrained)", "egemaps"]
    assert "fusion" in lines[3]


def test_a_table_that_is_too_wide_is_a_list():
    table = plain_table("Model", "Layers", "About")
    table.add_row("wav2vec2-base", "13 x 768", "first of the models")
    table.add_row("hubert-base", "", "second")
    assert printed_table(table, 26).splitlines() == [
        "wav2vec2-base",
        "  Layers: 13 x 768",
        "  About: first of the",
        "    models",
        "hubert-base",
        "  About: second",
    ]
    lines = [line.split() for line in printed_table(table, 34).splitlines()]
    assert lines[1:4] == [["wav2vec2-base", "13", "x", "first", "of"], ["768", "the"], ["models"]]


def test_protocols_are_told_apart():
    text = printed([row(), row(protocol="issa2020", head="lstm"), row(head="fusion")])
    starts = [text.index(word) for word in ("loso", "dense", "fusion", "issa2020", "lstm")]
    assert starts == sorted(starts)


def test_names_are_not_markup():
    assert "[red]mine[/red]" in printed([row(features="[red]mine[/red]")])


def test_regressions_tell_every_dimension():
    scores = {"ccc": 0.5126, "ccc_arousal": 0.625, "ccc_valence": 0.4002}
    metrics = {name: {"mean": mean, "std": 0.0123, "ci95": [-0.1, 0.61]} for name, mean in scores.items()}
    text = printed([row({**metrics, "dimensions": ["arousal", "valence"]}, features="hubert-base + tinybert")])
    lines = [line for line in text.splitlines() if "±" in line]
    assert [line.split()[-7] for line in lines] == ["mean", "arousal", "valence"]
    assert [line.split()[-6] for line in lines] == ["0.513", "0.625", "0.400"]
    assert all("± 0.012  -0.100 to 0.610" in line for line in lines)
    assert ["dense" in line for line in lines] == [True, False, False]
    assert max(map(len, text.splitlines())) <= 80
    assert "UAR" not in text
    alone = printed([row({"ccc": metrics["ccc"], "dimensions": ["arousal"]})])
    assert "0.513 ± 0.012" in alone
    assert "arousal" not in alone


def test_rows_cannot_change():
    with pytest.raises(AttributeError):
        row().head = "lstm"


VALIDATION = {"uar": {"mean": 71.25, "std": 1.31}, "wa": {"mean": 70.5, "std": 1.2}}


def test_validation_scores_are_a_column_that_a_narrow_terminal_may_leave_out():
    rows = [row(validation=VALIDATION)]
    assert printed(rows, 100).splitlines()[-1].split()[-3:] == ["71.2", "±", "1.3"]
    assert "Validation" not in printed_table(results_table(rows, validation=False), 100)
    for width, fits in ((81, False), (100, True)):
        assert results_table(rows).fits(Console(width=width)) == fits


def test_a_run_without_a_test_part_shows_validation_scores_only():
    text = printed([row({}, validation=VALIDATION, protocol="final")])
    assert all(
        name in text for name in ("final", "Validation UAR (%)", "Validation WA (%)", "71.2 ± 1.3", "70.5 ± 1.2")
    )
    assert "CI" not in text
    scores = {name: {"mean": mean, "std": 0.01} for name, mean in (("ccc", 0.5), ("ccc_a", 0.6), ("ccc_b", 0.4))}
    text = printed([row({"dimensions": ["a", "b"]}, validation=scores)])
    lines = [line.split() for line in text.splitlines() if "±" in line]
    assert [line[-4:] for line in lines] == [
        ["mean", "0.500", "±", "0.010"],
        ["a", "0.600", "±", "0.010"],
        ["b", "0.400", "±", "0.010"],
    ]
    assert "Validation CCC" in text
