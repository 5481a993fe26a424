"""Learned layer weights of runs, or scores of layers → picture (PNG, SVG) and table (CSV)."""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from featcache.errors import StoreError
from featcache.files import replace_file
from featcache.report.figures import layer_scores, layer_weight_summary, layer_weights, save


def draw_layer_weights(runs: Mapping[str, pd.DataFrame], path: Path) -> pd.DataFrame:
    """Draw learned layer weights with error bars over seeds.

    Args:
        runs: Label → rows of its ``layer_weights.csv``: seed, fold, layer, weight, features.
        path: Where to write, without suffix: ``.png``, ``.svg`` and ``_summary.csv`` are added.

    Returns:
        The table that was drawn: run, layer, mean, std, num_seeds.

    Raises:
        StoreError: a run that learned no layer weights, or over layers that have no number.
    """
    groups: dict[str, pd.DataFrame] = {}
    for label, rows in runs.items():
        if rows.empty:
            raise StoreError(
                f"{label} learned no layer weights: it was fitted on a single layer; fit with --layers all"
            )
        named = sorted({layer for layer in rows["layer"] if not layer.isdigit()})
        if named:
            raise StoreError(f"{label} weighs the layer {named[0]!r}, which has no place on a numbered axis")
        for features, part in rows.groupby("features"):
            several = rows["features"].nunique() > 1
            groups[f"{label}: {features}" if several else label] = part.assign(layer=part["layer"].astype(int))
    save(layer_weights(groups), path)
    summaries = [layer_weight_summary(rows).assign(run=label) for label, rows in groups.items()]
    summary = pd.concat(summaries)[["run", "layer", "mean", "std", "num_seeds"]]
    replace_file(path.with_name(f"{path.name}_summary.csv"), summary.to_csv(index=False).encode())
    return summary


def draw_layer_scores(stores: Mapping[str, pd.DataFrame], path: Path, *, score: str, chance: float) -> pd.DataFrame:
    """Draw how well each layer does alone, with error bars over folds.

    Args:
        stores: Label → layer, fold, and the score.
        path: Where to write, without suffix: ``.png``, ``.svg`` and ``.csv`` are added.
        score: ``uar``, in percent, or ``ccc``.
        chance: That of guessing.

    Returns:
        store, layer, mean, std (ddof = 1 over folds), num_folds; a layer without a number (``input``) is in the table
        alone.
    """
    summaries = []
    for label, rows in stores.items():
        over_folds = rows.groupby("layer", sort=False)[score]
        columns = {"mean": over_folds.mean(), "std": over_folds.std(ddof=1), "num_folds": over_folds.size()}
        summaries.append(pd.DataFrame(columns).reset_index().assign(store=label))
    summary = pd.concat(summaries)[["store", "layer", "mean", "std", "num_folds"]]
    numbered = summary[summary["layer"].str.isdigit()].astype({"layer": int})
    groups = {str(label): rows for label, rows in numbered.groupby("store", sort=False)}
    save(layer_scores(groups, chance=chance, ylabel="UAR (%)" if score == "uar" else "CCC"), path)
    replace_file(path.with_name(f"{path.name}.csv"), summary.to_csv(index=False).encode())
    return summary
