"""Scores of two runs per layer, and published layer weights beside ours: what the figures draw."""

import itertools
from dataclasses import fields

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from featcache.evaluate.compare import Comparison
from featcache.report.contrast import Contrast, LayerContrast
from featcache.report.layer_figures import layer_contrast, layer_weights

NUMBERS = ["first", "first_low", "first_high", "second", "second_low", "second_high", "difference", "low", "high"]


def scores_of(num_layers, *, together=True):
    """Return a table in which the first run is better in all layers but the last one."""
    layers = [*map(str, range(num_layers)), *(["all"] if together else [])]
    rows = pd.DataFrame(50.0, columns=NUMBERS, index=range(len(layers)))
    rows["second"] = [40.0] * (num_layers - 1) + [52.0] * (num_layers > 0) + [30.0] * together
    rows["difference"] = rows["first"] - rows["second"]
    for name in ("first", "second", "difference"):
        low, high = (f"{name}_low", f"{name}_high") if name != "difference" else ("low", "high")
        rows[low], rows[high] = rows[name] - 5, rows[name] + 5
    return rows.assign(layer=layers)


def drawn(scores):
    figure = layer_contrast(scores, labels=("trained", "untrained"), chance=14.3, ylabel="UAR (%)")
    figure.draw_without_rendering()
    [axes] = figure.axes
    return figure, axes


def test_differences_are_shaded_and_grey_if_their_interval_contains_zero():
    figure, axes = drawn(scores_of(4))
    told = {text.get_text(): to_hex(text.get_color()) for text in axes.texts}
    dark, grey = told["+10"], told["-2"]
    assert dark < grey
    assert told["+20"] == dark  # all layers
    labels = [text.get_text() for legend in figure.legends for text in legend.get_texts()]
    assert labels == ["trained", "untrained", "difference > 0", "difference < 0"]
    ticks = [text.get_text().split("\n")[0] for text in axes.get_xticklabels()]
    assert ticks == ["0", "1", "2", "3", "all"]


@pytest.mark.parametrize(("num_layers", "together"), [(0, True), (1, False), (2, True), (25, True), (49, True)])
def test_any_number_of_layers_with_and_without_all(num_layers, together):
    figure, axes = drawn(scores_of(num_layers, together=together))
    assert figure.get_figwidth() <= 7.0
    assert ("all\nlayers" in [text.get_text() for text in axes.get_xticklabels()]) == together


@pytest.mark.parametrize("num_layers", [4, 9, 13, 25, 49])
def test_the_numbers_cover_nothing_and_not_each_other(num_layers):
    figure, axes = drawn(scores_of(num_layers))
    numbers = [text.get_window_extent() for text in axes.texts if text.get_text()[0] in "+-"]
    assert len(numbers) == num_layers + 1
    assert min(box.y0 for box in numbers) > axes.get_window_extent().y1
    assert max(box.y1 for box in numbers) < figure.legends[0].get_window_extent().y0
    assert all(left.x1 <= right.x0 for left, right in itertools.pairwise(numbers))


def test_long_names_are_inside_of_the_figure():
    figure = layer_contrast(scores_of(4), labels=("name " * 30, "x" * 150), chance=None, ylabel="CCC")
    figure.draw_without_rendering()
    legend = figure.legends[0].get_window_extent()
    assert legend.x0 >= 0
    assert legend.x1 <= figure.bbox.x1


def test_missing_intervals_are_not_drawn():
    scores = scores_of(3)
    scores[["first_low", "first_high", "second_low", "second_high", "low", "high"]] = np.nan
    drawn(scores)


def test_published_weights_are_inside_of_the_axes():
    rows = pd.DataFrame({"seed": 1, "fold": 1, "layer": range(13), "weight": 1 / 13})
    figure = layer_weights({"ours": rows}, {"ours": dict.fromkeys(range(12), 0.01) | {12: 0.88}})
    low, high = figure.axes[0].get_ylim()
    assert low <= 0.01
    assert high >= 0.88


def test_published_weights_are_dashed_in_the_colour_of_their_run():
    rows = pd.DataFrame({"seed": 1, "fold": 1, "layer": [0, 1, 2], "weight": [0.2, 0.3, 0.5]})
    figure = layer_weights({"ours": rows, "other": rows}, {"ours": {0: 0.1, 1: 0.2, 2: 0.7}})
    [axes] = figure.axes
    [published] = [
        line for line in axes.lines if line.get_linestyle() == "--" and list(line.get_ydata()) == [0.1, 0.2, 0.7]
    ]
    [own] = [line for line in axes.lines if list(line.get_ydata()) == [0.2, 0.3, 0.5] and line.get_linestyle() == "-"]
    assert published.get_color() == own.get_color()
    labels = [text.get_text() for legend in figure.legends for text in legend.get_texts()]
    assert labels == ["ours", "other", "ours, published"]


def test_the_sentence_below_the_table_says_which_row_it_is_about():
    given = {
        **dict.fromkeys(one.name for one in fields(Comparison)),
        "first": "trained",
        "second": "untrained",
        "score": "uar",
        "difference": -1.2,
        "count": 20,
        "num_pairs": 2,
        "num_seeds": (5, 5),
        "p_speakers_holm": 0.5,
    }
    rows = [
        LayerContrast(layer=layer, first={}, second={}, found=Comparison(**given | {"difference": difference}))
        for layer, difference in (("0", 12.0), ("all", -1.2))
    ]
    contrast = Contrast(name="x", labels=("trained", "untrained"), metric="uar", chance=None, layers=tuple(rows))
    assert contrast.conclusions[0].startswith("All layers: untrained scores 1.2 points higher in UAR than trained")
