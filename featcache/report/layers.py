"""Learned layer weights of runs, or scores of single layers → figure (PNG, SVG) and table (CSV)."""

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
from featcache.report.layer_figures import layer_drift_panels, layer_scores, layer_weight_summary, layer_weights

if TYPE_CHECKING:
    from featcache.cache.reader import FeatureStore

log = logging.getLogger(__name__)


def draw_layer_weights(
    runs: Mapping[str, pd.DataFrame],
    path: Path,
    *,
    published: Mapping[str, Mapping[int, float]] | None = None,
    required: bool = True,
) -> pd.DataFrame:
    """Draw learned layer weights with error bars over seeds.

    Args:
        runs: Label of a run → rows of its ``layer_weights.csv``: seed, fold, layer, weight, features.
        path: Output path without a suffix; ``.png``, ``.svg`` and ``_summary.csv`` are added.
        published: Label of a run → published weight of each layer, drawn dashed in the colour of the run.
        required: Whether a read-only output folder is an error; otherwise a warning is logged.

    Returns:
        Table of the drawn values: run, layer, mean, std, num_seeds.

    Raises:
        StoreError: A run learned no layer weights, or one of its layers has no number.
        DiskError: The files cannot be written.
    """
    groups: dict[str, pd.DataFrame] = {}
    for label, rows in runs.items():
        several = rows["features"].nunique() > 1
        for features, part in numbered(label, rows).groupby("features"):
            groups[f"{label}: {features}" if several else label] = part
    summaries = [layer_weight_summary(rows).assign(run=label) for label, rows in groups.items()]
    summary = pd.concat(summaries)[["run", "layer", "mean", "std", "num_seeds"]]
    with drawing(required=required):
        save(layer_weights(groups, published), path)
        replace_file(path.with_name(f"{path.name}_summary.csv"), summary.to_csv(index=False).encode())
    return summary


def draw_layer_drift(
    drift: pd.DataFrame,
    measures: Mapping[str, Mapping[str, pd.DataFrame]],
    weights: pd.DataFrame,
    path: Path,
    *,
    required: bool = True,
) -> None:
    """Draw how far each layer of fine-tuned models moved from the pretrained one, and the layer weights of the heads.

    Args:
        drift: One row per store, seed, fold and layer, for the table.
        measures: ``cka`` and ``cosine`` → name of a store → columns layer, mean, std.
        weights: Rows of ``layer_weights.csv`` of the run; empty if its heads learn no weights.
        path: Output path without a suffix; ``.png``, ``.svg``, ``.pdf`` and ``.csv`` are added.
        required: Whether a read-only output folder is an error; otherwise a warning is logged.

    Raises:
        DiskError: The files cannot be written.
    """
    learned = {str(name): layer_weight_summary(numbered(str(name), rows)) for name, rows in weights.groupby("features")}
    with drawing(required=required):
        save(layer_drift_panels(measures["cka"], measures["cosine"], learned), path)
        replace_file(path.with_name(f"{path.name}.csv"), drift.to_csv(index=False).encode())


def draw_layer_scores(
    stores: Mapping[str, pd.DataFrame], path: Path, *, score: str, chance: float, required: bool = True
) -> pd.DataFrame:
    """Draw the score of each single layer, with error bars over folds.

    Args:
        stores: Label of a store → columns target, layer, fold, score; each target is a line of its own.
        path: Output path without a suffix; ``.png``, ``.svg`` and ``.csv`` are added.
        score: Name of the score: ``uar``, in percent, or ``ccc``.
        chance: Chance level of the score.
        required: Whether a read-only output folder is an error; otherwise a warning is logged.

    Returns:
        Table with the columns store, target, layer, mean, std (ddof = 1 over folds), num_folds. A layer without a
        number (``input``) is in the table, but not in the figure.

    Raises:
        StoreError: A store has no numbered layers.
        DiskError: The files cannot be written.
    """
    summary = pd.concat([layer_score_summary(rows).assign(store=label) for label, rows in stores.items()])
    numbered = summary[summary["layer"].str.isdigit()].astype({"layer": int})
    groups: dict[str, pd.DataFrame] = {}
    for label in stores:
        of_store = numbered[numbered["store"] == label]
        if of_store.empty:
            raise StoreError(f"{label} has no numbered layers; name a store that contains the layers of a model")
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
    """Log a warning instead of an error if files that are not required cannot be written to a read-only folder.

    Raises:
        DiskError: The files are required, or they cannot be written for another reason.
    """
    try:
        yield
    except DiskError as error:
        if required or not is_read_only(error):
            raise
        log.warning("%s, or choose another place with --out", error)


def layer_score_summary(scores: pd.DataFrame) -> pd.DataFrame:
    """Return mean and standard deviation of the scores of each layer.

    Args:
        scores: Columns target, layer, fold, score.

    Returns: columns target, layer, mean, std (ddof = 1 over folds), num_folds.
    """
    over_folds = scores.groupby(["target", "layer"], sort=False)["score"]
    columns = {"mean": over_folds.mean(), "std": over_folds.std(ddof=1), "num_folds": over_folds.size()}
    return pd.DataFrame(columns).reset_index()


def store_label(store: "FeatureStore") -> str:
    """Return the label of a store in figures and tables, with "(untrained)" for random weights."""
    return f"{store.name} (untrained)" if store.metadata.get("weights") == "random" else store.name


def numbered(label: str, weights: pd.DataFrame) -> pd.DataFrame:
    """Return layer weights with the layers as numbers.

    Args:
        label: Name of the run, for the message.
        weights: Rows of ``layer_weights.csv``.

    Raises:
        StoreError: There are no weights, or a layer has no number.
    """
    if weights.empty:
        raise StoreError(
            f"{label} learned no layer weights: it was fitted on a single layer, or its head learns none; fit with "
            "--layers all and a head such as dense"
        )
    named = sorted({layer for layer in weights["layer"] if not layer.isdigit()})
    if named:
        raise StoreError(f"{label} has a weight for the layer {named[0]!r}; only numbered layers can be drawn")
    return weights.assign(layer=weights["layer"].astype(int))
