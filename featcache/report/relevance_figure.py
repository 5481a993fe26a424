"""Layer weights learned for each target, and how well each layer does alone → one picture and its table."""

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
    """How much each layer tells about each target.

    Attributes:
        stores: Whose layers they are; one, unless runs of several were chosen.
        runs: Label, such as the name of a target → the run that was trained on it alone, and learned layer weights.
        probes: target (that label), layer, fold, penalty, score; see :func:`probe_setups`.
        score: What probes are told in: ``uar``, in percent, or ``ccc``.
        chance: That of guessing.
    """

    stores: tuple[FeatureStore, ...]
    runs: Mapping[str, RunFolder]
    probes: pd.DataFrame
    score: str
    chance: float


def draw_layer_relevance(found: LayerRelevance, path: Path, *, required: bool = True) -> pd.DataFrame:
    """Draw for each target the layer weights that were learned for it alone, and below them how well each layer does.

    Args:
        found: Runs and probes.
        path: Where to write, without suffix: ``.png``, ``.svg`` and ``.csv`` are added.
        required: As for :func:`draw_layer_weights`; and so are the errors.

    Returns:
        The table that was drawn: store, target, layer, weight, weight_std (ddof = 0 over seeds), num_seeds, and ``uar``
        (in percent) or ``ccc``, its ``_std`` (ddof = 1 over folds), num_folds, run.

    Raises:
        StoreError: as :func:`draw_layer_weights`.
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
