"""Layer weights learned for each target, and scores of each single layer → one figure and its table."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from featcache.cache.reader import FeatureStore
from featcache.evaluate.scores import heading_of
from featcache.files.regular import replace_file
from featcache.report.figures import save
from featcache.report.layer_figures import layer_relevance, layer_weight_summary
from featcache.report.layers import drawing, layer_score_summary, numbered, store_label
from featcache.runs.reader import RunFolder


@dataclass(frozen=True, kw_only=True)
class LayerRelevance:
    """The relevance of each layer for each target: learned weights and scores of linear probes.

    Attributes:
        stores: Feature stores of the layers; more than one only if runs on different stores were chosen.
        runs: Label, such as the name of a target → run that was trained on this target alone with layer weights.
        probes: Columns target (the same label), layer, fold, penalty, score; see :func:`probe_setups`.
        score: Name of the score of the probes: ``uar``, in percent, or ``ccc``.
        chance: Chance level of the score.
    """

    stores: tuple[FeatureStore, ...]
    runs: Mapping[str, RunFolder]
    probes: pd.DataFrame
    score: str
    chance: float


def draw_layer_relevance(found: LayerRelevance, path: Path, *, required: bool = True) -> pd.DataFrame:
    """Draw the learned layer weights of each target, and below them the probe score of each layer.

    Args:
        found: Runs and probes.
        path: Output path without a suffix; ``.png``, ``.svg`` and ``.csv`` are added.
        required: Whether a read-only output folder is an error; otherwise a warning is logged.

    Returns:
        Table of the drawn values: store, target, layer, weight, weight_std (ddof = 0 over seeds), num_seeds, ``uar``
        (in percent) or ``ccc``, its ``_std`` (ddof = 1 over folds), num_folds, run.

    Raises:
        StoreError: A run learned no layer weights, or one of its layers has no number.
        DiskError: The files cannot be written.
    """
    score, title = found.score, ", ".join(map(store_label, found.stores))
    of_layers = found.probes[found.probes["layer"].str.isdigit()].astype({"layer": int})
    probed = dict(list(layer_score_summary(of_layers).groupby("target", sort=False)))
    learned = {name: layer_weight_summary(numbered(name, run.layer_weights)) for name, run in found.runs.items()}
    alone = {name: probed[name] for name in learned}
    tables = []
    for name, run in found.runs.items():
        weights = learned[name].rename(columns={"mean": "weight", "std": "weight_std"})
        scores = alone[name].rename(columns={"mean": score, "std": f"{score}_std"}).drop(columns="target")
        tables.append(weights.merge(scores, on="layer").assign(run=run.name))
        tables[-1].insert(0, "target", name)
    summary = pd.concat(tables, ignore_index=True)
    summary.insert(0, "store", title)
    with drawing(required=required):
        save(layer_relevance(learned, alone, title=title, chance=found.chance, ylabel=heading_of(score)), path)
        replace_file(path.with_name(f"{path.name}.csv"), summary.to_csv(index=False).encode())
    return summary
