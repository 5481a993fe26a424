"""Relative gains and their intervals, compared with plain arithmetic, and cases without a gain or an interval."""

import numpy as np
import pandas as pd
import pytest

from featcache.errors import PredictionsError
from featcache.evaluate.predictions import checked
from featcache.report.gains import draw_gains

ROUNDING = 1e-9  # float64 moments of values of about 1


def predictions(rng, noise, *, sign=1.0, speakers=20):
    """Return predictions of two dimensions for 200 utterances and two seeds: the targets plus noise."""
    tables = []
    targets = np.random.default_rng(7).normal(size=(200, 2))
    for seed in (1, 2):
        predicted = sign * targets + noise * rng.normal(size=targets.shape)
        columns = {"seed": seed, "fold": 1, "utterance_id": [f"u{i}" for i in range(200)]}
        columns["speaker_id"] = [f"s{i % speakers}" for i in range(200)]
        for number, name in enumerate(("arousal", "valence")):
            columns |= {f"target_{name}": targets[:, number], f"prediction_{name}": predicted[:, number]}
        tables.append(pd.DataFrame(columns))
    return checked(pd.concat(tables, ignore_index=True), dimensions=["arousal", "valence"])


def plain_ccc(table, name):
    x, y = table[f"target_{name}"].to_numpy(), table[f"prediction_{name}"].to_numpy()
    covariance = np.cov(x, y, bias=True)
    return 2 * covariance[0, 1] / (covariance[0, 0] + covariance[1, 1] + (x.mean() - y.mean()) ** 2)


def mean_ccc(found, name):
    return np.mean([plain_ccc(rows, name) for _, rows in found.table.groupby("seed")])


def test_gains_are_differences_in_percent_of_the_second_with_intervals_around_them(rng, tmp_path):
    good, poor = predictions(rng, 0.5), predictions(rng, 2.0)
    table = draw_gains({"a": (good, poor), "b": (good, good)}, "ccc_valence", tmp_path / "gains")
    first, second = mean_ccc(good, "valence"), mean_ccc(poor, "valence")
    a, b = table.to_dict("records")
    assert a["gain"] == pytest.approx(100 * (first - second) / second, abs=ROUNDING)
    assert 0 < a["low"] < a["gain"] < a["high"]
    assert (b["gain"], b["low"], b["high"]) == (0, 0, 0)
    assert (a["unit"], a["count"]) == ("speakers", 20)
    assert pd.read_csv(tmp_path / "gains.csv")["title"].tolist() == ["a", "b"]
    assert {path.suffix for path in tmp_path.iterdir()} == {".png", ".svg", ".pdf", ".csv"}
    assert "published" not in (tmp_path / "gains.svg").read_text()
    table = draw_gains({"a": (good, poor)}, "ccc_valence", tmp_path / "beside", published={"a": 12.5})
    assert table["published"].tolist() == [12.5]
    assert "published" in (tmp_path / "beside.svg").read_text()


def test_nothing_is_gained_over_a_score_that_is_not_above_0(rng, tmp_path):
    good, opposite = predictions(rng, 0.5), predictions(rng, 0.5, sign=-1)
    [row] = draw_gains({"[a$": (good, opposite)}, "ccc", tmp_path / "gains").to_dict("records")
    assert row["second"] < 0
    assert np.isnan([row["gain"], row["low"], row["high"]]).all()


def test_a_gain_over_what_may_be_0_has_no_interval_rather_than_a_truncated_one(rng, tmp_path, caplog):
    good, metric = predictions(rng, 0.5), "ccc_valence"
    none = next(found for found in (predictions(rng, 30) for _ in range(50)) if mean_ccc(found, "valence") > 0)
    [row] = draw_gains({"bar": (good, none)}, metric, tmp_path / "gains").to_dict("records")
    assert row["gain"] > 0
    assert np.isnan([row["low"], row["high"]]).all()
    assert "bar: the CCC" in caplog.text
    told = "of the second run is not significantly different from 0, so this gain has no finite interval"
    assert told in caplog.text


def test_a_score_that_is_not_there(rng, tmp_path):
    good = predictions(rng, 0.5)
    with pytest.raises(PredictionsError, match="no score of these runs 'ccc_dominance'; did you mean 'ccc_valence'"):
        draw_gains({"a": (good, good)}, "ccc_dominance", tmp_path / "gains")
