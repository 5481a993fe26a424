"""Layer weights of runs, scores of single layers, and both for each target, as figure and table."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from featcache.errors import StoreError
from featcache.report import layers
from featcache.report import relevance_figure as relevance
from featcache.report.layers import draw_layer_scores, draw_layer_weights
from featcache.report.relevance_figure import LayerRelevance, draw_layer_relevance


def rows_of(num_layers, *, features="ssl", seeds=(1, 2), layers=None):
    rng = np.random.default_rng(num_layers)
    return pd.DataFrame(
        [
            (seed, fold, layer, weight, features)
            for seed in seeds
            for fold in (1, 2, 3)
            for layer, weight in zip(
                layers or map(str, range(num_layers)), rng.dirichlet(np.ones(num_layers)), strict=True
            )
        ],
        columns=["seed", "fold", "layer", "weight", "features"],
    )


def test_pictures_and_the_table_that_was_drawn(tmp_path):
    rows = rows_of(12)
    summary = draw_layer_weights({"first": rows, "second": rows_of(3)}, tmp_path / "new" / "weights")
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == [
        "weights.pdf",
        "weights.png",
        "weights.svg",
        "weights_summary.csv",
    ]
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "new" / "weights_summary.csv"), summary.reset_index(drop=True))
    assert list(summary.columns) == ["run", "layer", "mean", "std", "num_seeds"]
    first = summary[summary["run"] == "first"]
    assert first["layer"].tolist() == list(range(12))  # sorted as numbers: 10 follows 9, not 1
    of_seed = rows.pivot_table(index="seed", columns="layer", values="weight")
    np.testing.assert_allclose(first["mean"], [of_seed[str(layer)].mean() for layer in range(12)])
    np.testing.assert_allclose(first["std"], [of_seed[str(layer)].std(ddof=0) for layer in range(12)], atol=1e-15)


def test_stores_of_one_run_get_a_line_each(tmp_path):
    rows = pd.concat([rows_of(3, features="a"), rows_of(4, features="b")])
    before = rows.copy()
    summary = draw_layer_weights({"run": rows}, tmp_path / "weights")
    assert summary.groupby("run").size().to_dict() == {"run: a": 3, "run: b": 4}
    np.testing.assert_allclose(summary.groupby("run")["mean"].sum(), 1)
    pd.testing.assert_frame_equal(rows, before)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (rows_of(0), "^mine learned no layer weights: it was fitted on a single layer, or its head learns none; fit "),
        (
            rows_of(2, layers=["0", "input"]),
            "^mine has a weight for the layer 'input'; only numbered layers can be drawn$",
        ),
    ],
)
def test_weights_that_cannot_be_drawn_are_told(tmp_path, rows, message):
    with pytest.raises(StoreError, match=message):
        draw_layer_weights({"other": rows_of(3), "mine": rows}, tmp_path / "weights")
    assert not list(tmp_path.iterdir())


def probes_of(targets, layers, num_folds=3):
    rng = np.random.default_rng(len(layers))
    return pd.DataFrame(
        [
            (target, layer, fold, 10.0, rng.uniform(0, 1))
            for target in targets
            for layer in layers
            for fold in range(1, num_folds + 1)
        ],
        columns=["target", "layer", "fold", "penalty", "score"],
    )


@pytest.fixture
def drawn(monkeypatch):
    """Collect the saved figures instead of writing them."""
    found = []
    for module in (layers, relevance):
        monkeypatch.setattr(module, "save", lambda figure, path: found.append(figure))
    return found


def legend_of(figure):
    [legend] = figure.legends
    return legend.get_title().get_text(), [text.get_text() for text in legend.get_texts()]


def test_scores_get_a_line_for_each_store_and_target(tmp_path, drawn):
    several, one = (
        probes_of(["arousal", "valence"], ["input", *map(str, range(12))]),
        probes_of(["arousal"], ["0", "1"]),
    )
    summary = draw_layer_scores({"first": several, "second": one}, tmp_path / "probe", score="ccc", chance=0.0)
    assert legend_of(drawn[0])[1] == ["first: arousal", "first: valence", "second"]
    lines = [container.lines[0].get_xydata()[:, 0] for container in drawn[0].axes[0].containers]
    assert [np.round(line).tolist() for line in lines] == [list(range(12))] * 2 + [[0, 1]]
    # A layer without a number is in the table, but not on the axis.
    assert summary["layer"].tolist() == ["input", *map(str, range(12))] * 2 + ["0", "1"]
    for row in summary.itertuples():
        table = {"first": several, "second": one}[row.store]
        scores = table.query("target == @row.target and layer == @row.layer")["score"]
        assert (row.mean, row.std, row.num_folds) == (pytest.approx(scores.mean()), pytest.approx(scores.std()), 3)


def relevance_of(num_layers, targets, *, stores=(("ssl", "pretrained"),), num_folds=3):
    runs = {
        name: SimpleNamespace(name=f"run-{name}", layer_weights=rows_of(num_layers, seeds=range(number + 2)))
        for number, name in enumerate(targets)
    }
    return LayerRelevance(
        stores=tuple(SimpleNamespace(name=name, metadata={"weights": weights}) for name, weights in stores),
        runs=runs,
        probes=probes_of(targets, list(map(str, range(num_layers))), num_folds),
        score="ccc",
        chance=0.0,
    )


def test_each_target_has_a_line_of_weights_above_its_line_of_scores(tmp_path, drawn):
    found = relevance_of(12, ["arousal", "valence"], stores=(("a", "random"), ("b", "pretrained")))
    summary = draw_layer_relevance(found, tmp_path / "relevance")
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "relevance.csv"), summary)
    assert list(summary.columns) == [
        *("store", "target", "layer", "weight", "weight_std", "num_seeds", "ccc", "ccc_std", "num_folds", "run")
    ]
    assert legend_of(drawn[0]) == ("a (untrained), b", ["arousal", "valence"])
    above, below = drawn[0].axes
    assert above.get_shared_x_axes().joined(above, below)
    for number, (name, run) in enumerate(found.runs.items()):
        rows = summary[summary["target"] == name]
        assert rows["layer"].tolist() == list(range(12))  # sorted as numbers: 10 follows 9, not 1
        weights = run.layer_weights.astype({"layer": int}).groupby(["layer", "seed"])["weight"].mean()
        scores = found.probes[found.probes["target"] == name].astype({"layer": int}).groupby("layer")["score"]
        expected = {
            "weight": weights.groupby("layer").mean(),
            "weight_std": weights.groupby("layer").std(ddof=0),
            "ccc": scores.mean(),
            "ccc_std": scores.std(ddof=1),
        }
        for column, values in expected.items():
            np.testing.assert_allclose(rows[column], values, atol=1e-15)
        for axes, mean, std in ((above, "weight", "weight_std"), (below, "ccc", "ccc_std")):
            line, _, [bars] = axes.containers[number].lines
            np.testing.assert_allclose(line.get_xydata()[:, 1], rows[mean])
            ends = [segment[:, 1] for segment in bars.get_segments()]
            np.testing.assert_allclose(ends, np.stack([rows[mean] - rows[std], rows[mean] + rows[std]], axis=1))
        assert set(rows["num_seeds"]) == {number + 2}
        assert set(rows["run"]) == {f"run-{name}"}


@pytest.mark.parametrize(
    ("num_layers", "num_targets", "width"), [(13, 3, 3.4), (13, 8, 7.0), (25, 2, 7.0), (25, 8, 7.0)]
)
def test_figures_of_more_layers_and_targets_are_wider(tmp_path, drawn, num_layers, num_targets, width):
    draw_layer_relevance(relevance_of(num_layers, [f"target {i}" for i in range(num_targets)]), tmp_path / "one")
    [figure] = drawn
    assert figure.get_figwidth() == width
    lines = [container.lines[0] for container in figure.axes[0].containers]
    assert (
        len({(line.get_color(), line.get_marker(), str(line._unscaled_dash_pattern)) for line in lines}) == num_targets
    )
    for line in lines:
        np.testing.assert_array_equal(np.round(line.get_xydata()[:, 0]), range(num_layers))
    figure.draw_without_rendering()
    box = figure.legends[0].get_window_extent()
    assert figure.bbox.x0 <= box.x0 < box.x1 <= figure.bbox.x1


def test_one_target_and_one_fold_make_a_figure_of_files(tmp_path):
    found = relevance_of(3, ["$x_{"], num_folds=1)
    summary = draw_layer_relevance(found, tmp_path / "new" / "relevance")
    names = sorted(path.name for path in (tmp_path / "new").iterdir())
    assert names == ["relevance.csv", "relevance.pdf", "relevance.png", "relevance.svg"]
    assert summary["ccc_std"].isna().all()


def test_a_run_on_a_single_layer_is_told(tmp_path):
    found = relevance_of(0, ["arousal"])
    with pytest.raises(StoreError, match=r"^arousal learned no layer weights: .*; fit with --layers all and "):
        draw_layer_relevance(found, tmp_path / "relevance")
