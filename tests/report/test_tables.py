"""The results table on the terminal and in Markdown."""

import io

import pytest
from rich.console import Console

from featcache.report.tables import ResultRow, results_table, to_markdown

METRICS = {
    "uar": {"mean": 67.234, "std": 0.707, "ci95": [65.08, 69.44]},
    "wa": {"mean": 65.8, "std": 0.31, "ci95": [64.0, 67.0]},
}


def row(metrics=METRICS, **changes):
    names = {"features": "wav2vec2-base", "layers": "all", "head": "dense", "norm": "speaker", "protocol": "loso"}
    return ResultRow.from_metrics(metrics, **names | changes)


def printed(rows):
    file = io.StringIO()
    Console(file=file, width=80).print(results_table(rows))
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


def test_80_columns_are_enough_for_long_names():
    text = printed([row(features="facebook/wav2vec2-large-xlsr-53 + egemaps", head="fusion", layers="0-24")])
    assert max(map(len, text.splitlines())) <= 80
    assert all(score in text for score in ("67.2 ± 0.7", "65.1–69.4", "65.8 ± 0.3"))
    assert "…" not in text


def test_protocols_are_told_apart():
    text = printed([row(), row(protocol="issa2020", head="lstm"), row(head="fusion")])
    starts = [text.index(word) for word in ("loso", "dense", "fusion", "issa2020", "lstm")]
    assert starts == sorted(starts)


def test_names_are_not_markup():
    assert "[red]mine[/red]" in printed([row(features="[red]mine[/red]")])


def test_markdown_has_the_same_cells():
    lines = to_markdown([row(), row(features="a|b", protocol="issa2020")]).splitlines()
    assert lines[0] == "| Protocol | Features | Layers | Head | Norm | UAR (%) | 95 % CI | WA (%) |"
    assert lines[2] == "| loso | wav2vec2-base | all | dense | speaker | 67.2 ± 0.7 | 65.1–69.4 | 65.8 ± 0.3 |"
    assert lines[3].startswith(r"| issa2020 | a\|b |")
    assert len({line.replace(r"\|", "").count("|") for line in lines}) == 1


def test_rows_cannot_change():
    with pytest.raises(AttributeError):
        row().head = "lstm"
