"""The published layer weights: complete lines that sum to 1, each found by the columns that identify it."""

import csv
from importlib.resources import files
from itertools import groupby

import pytest

from featcache.errors import PipelineError
from featcache.published import find_layer_weights

# Thirteen weights are rounded to four digits: the sum is off by at most 13 * 0.00005.
ROUNDING = 13 * 5e-5


def test_each_line_of_figure_2_has_thirteen_weights_that_sum_to_one():
    text = files("featcache.published").joinpath("layer_weights.csv").read_text(encoding="utf-8")
    rows = list(csv.DictReader(text.splitlines()))
    lines = [list(rows) for _, rows in groupby(rows, key=lambda row: (row["corpus"], row["features"]))]
    assert len(lines) == 4
    for line in lines:
        assert [int(row["layer"]) for row in line] == list(range(13))
        found = find_layer_weights({key: line[0][key] for key in ("source", "corpus", "features")})
        assert found == {int(row["layer"]): float(row["weight"]) for row in line}
        assert sum(found.values()) == pytest.approx(1, abs=ROUNDING)


def test_columns_of_scores_are_ignored_and_too_few_columns_are_refused():
    wanted = {"source": "pepino2021", "corpus": "ravdess", "features": "wav2vec2-base", "protocol": "anything"}
    assert find_layer_weights(wanted)[5] == 0.0945
    with pytest.raises(PipelineError, match="2 published layer weights match source pepino2021, corpus ravdess;"):
        find_layer_weights({"source": "pepino2021", "corpus": "ravdess"})
    with pytest.raises(PipelineError, match="no published layer weights match source nobody;"):
        find_layer_weights({"source": "nobody"})
