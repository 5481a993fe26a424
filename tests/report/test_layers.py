"""Layer weights of runs, as picture and table."""

import numpy as np
import pandas as pd
import pytest

from featcache.errors import StoreError
from featcache.report.layers import draw_layer_weights


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
        "weights.png",
        "weights.svg",
        "weights_summary.csv",
    ]
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "new" / "weights_summary.csv"), summary.reset_index(drop=True))
    assert list(summary.columns) == ["run", "layer", "mean", "std", "num_seeds"]
    first = summary[summary["run"] == "first"]
    assert first["layer"].tolist() == list(range(12))  # as numbers: 10 follows 9, not 1
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
        (rows_of(0), "^mine learned no layer weights: it was fitted on a single layer; fit with --layers all$"),
        (rows_of(2, layers=["0", "input"]), "^mine weighs the layer 'input', which has no place on a numbered axis$"),
    ],
)
def test_weights_that_cannot_be_drawn_are_told(tmp_path, rows, message):
    with pytest.raises(StoreError, match=message):
        draw_layer_weights({"other": rows_of(3), "mine": rows}, tmp_path / "weights")
    assert not list(tmp_path.iterdir())
