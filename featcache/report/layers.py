"""Learned layer weights of runs, or scores of layers → picture (PNG, SVG) and table (CSV)."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from featcache.errors import DiskError, StoreError
from featcache.evaluate.scores import heading_of
from featcache.files.disk import is_read_only
from featcache.files.regular import replace_file
from featcache.report.figures import save
from featcache.report.layer_figures import layer_scores, layer_weight_summary, layer_weights

if TYPE_CHECKING:
    from featcache.cache.reader import FeatureStore

log = logging.getLogger(__name__)


def draw_layer_weights(runs: Mapping[str, pd.DataFrame], path: Path, *, required: bool = True) -> pd.DataFrame:
    """Draw learned layer weights with error bars over seeds.

    Args:
        runs: Label → rows of its ``layer_weights.csv``: seed, fold, layer, weight, features.
        path: Where to write, without suffix: ``.png``, ``.svg`` and ``_summary.csv`` are added.
        required: Whether a place that may not be written is an error; else a warning tells it.

    Returns:
        The table that was drawn: run, layer, mean, std, num_seeds.

    Raises:
        StoreError: a run that learned no layer weights, or over layers that have no number.
        DiskError: the files cannot be written.
    """
    groups: dict[str, pd.DataFrame] = {}
    for label, rows in runs.items():
        several = rows["features"].nunique() > 1
        for features, part in numbered(label, rows).groupby("features"):
            groups[f"{label}: {features}" if several else label] = part
    summaries = [layer_weight_summary(rows).assign(run=label) for label, rows in groups.items()]
    summary = pd.concat(summaries)[["run", "layer", "mean", "std", "num_seeds"]]
    with drawing(required=required):
        save(layer_weights(groups), path)
        replace_file(path.with_name(f"{path.name}_summary.csv"), summary.to_csv(index=False).encode())
    return summary


def draw_layer_scores(
    stores: Mapping[str, pd.DataFrame], path: Path, *, score: str, chance: float, required: bool = True
) -> pd.DataFrame:
    """Draw how well each layer does alone, with error bars over folds.

    Args:
        stores: Label → target, layer, fold, score; several targets get a line each.
        path: Where to write, without suffix: ``.png``, ``.svg`` and ``.csv`` are added.
        score: ``uar``, in percent, or ``ccc``.
        chance: That of guessing.
        required: As for :func:`draw_layer_weights`.

    Returns:
        store, target, layer, mean, std (ddof = 1 over folds), num_folds; a layer without a number (``input``) is in the
        table alone.

    Raises:
        StoreError: a store whose layers have no numbers.
        DiskError: the files cannot be written.
    """
    summary = pd.concat([layer_score_summary(rows).assign(store=label) for label, rows in stores.items()])
    numbered = summary[summary["layer"].str.isdigit()].astype({"layer": int})
    groups: dict[str, pd.DataFrame] = {}
    for label in stores:
        of_store = numbered[numbered["store"] == label]
        if of_store.empty:
            raise StoreError(f"{label} has no numbered layers; name a store that holds the layers of a model")
        several = of_store["target"].nunique() > 1
        for name, rows in of_store.groupby("target", sort=False):
            groups[f"{label}: {name}" if several else label] = rows
    summary = summary[["store", "target", "layer", "mean", "std", "num_folds"]]
    with drawing(required=required):
        save(layer_scores(groups, chance=chance, ylabel=heading_of(score)), path)
        replace_file(path.with_name(f"{path.name}.csv"), summary.to_csv(index=False).encode())
    return summary


@contextmanager
def drawing(*, required: bool) -> Iterator[None]:
    """Have files that nobody named be left out, with a warning, where nothing may be written.

    Raises:
        DiskError: the files are required, or cannot be written for another reason.
    """
    try:
        yield
    except DiskError as error:
        if required or not is_read_only(error):
            raise
        log.warning("%s, or choose another place with --out", error)


def layer_score_summary(scores: pd.DataFrame) -> pd.DataFrame:
    """Mean and spread of each layer's scores.

    Args:
        scores: target, layer, fold, score.

    Returns: target, layer, mean, std (ddof = 1 over folds), num_folds.
    """
    over_folds = scores.groupby(["target", "layer"], sort=False)["score"]
    columns = {"mean": over_folds.mean(), "std": over_folds.std(ddof=1), "num_folds": over_folds.size()}
    return pd.DataFrame(columns).reset_index()


def store_label(store: "FeatureStore") -> str:
    """What figures and tables call a store; an untrained model is called so."""
    return f"{store.name} (untrained)" if store.metadata.get("weights") == "random" else store.name


def numbered(label: str, weights: pd.DataFrame) -> pd.DataFrame:
    """The same weights with layers as numbers.

    Raises:
        StoreError: there are none, or a layer has no number.
    """
    if weights.empty:
        raise StoreError(
            f"{label} learned no layer weights: it was fitted on a single layer, or its head learns none; fit with "
            "--layers all and a head such as dense"
        )
    named = sorted({layer for layer in weights["layer"] if not layer.isdigit()})
    if named:
        raise StoreError(f"{label} weighs the layer {named[0]!r}, which has no place on a numbered axis")
    return weights.assign(layer=weights["layer"].astype(int))
