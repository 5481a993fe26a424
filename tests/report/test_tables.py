"""The results table on the terminal."""

import io

import pytest
from rich.console import Console

from featcache.report.tables import ResultRow, results_table

METRICS = {
    "uar": {"mean": 67.234, "std": 0.707, "ci95": [65.08, 69.44]},
    "wa": {"mean": 65.8, "std": 0.31, "ci95": [64.0, 67.0]},
}


def row(metrics=METRICS, **changes):
    names = {"features": "wav2vec2-base", "layers": "all", "head": "dense", "norm": "speaker", "protocol": "loso"}
    return ResultRow(metrics=metrics, **names | changes)


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
