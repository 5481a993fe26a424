"""Stores × targets → one run per target, trained together, and a linear probe of every layer."""

import logging
import os
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from featcache.cache.reader import FeatureCache, FeatureStore
from featcache.corpora import Corpus
from featcache.corpora.recorded import corpus_of
from featcache.errors import ModelError, StoreError, listed
from featcache.extractors import usable_device
from featcache.fitting.convergence import tell_convergence
from featcache.fitting.fit_planned import fit_all
from featcache.fitting.plan import plan_runs, tell_conditions
from featcache.fitting.probe import layer_stores, probe_layers
from featcache.fitting.resolve import ResolvedFit
from featcache.fitting.task import resolve_task
from featcache.heads import head_spec
from featcache.heads.spec import POOLED
from featcache.manifest import Manifest
from featcache.registry import naming
from featcache.report.relevance_figure import LayerRelevance
from featcache.runs.reader import RunFolder
from featcache.settings.checked import configured
from featcache.settings.field import values_of
from featcache.settings.fits import FitSettings, Norm, RelevanceSettings, TargetSettings, Task
from featcache.settings.public import documented, without
from featcache.settings.training_loop import Criterion, Optimizer, Sampler, Schedule
from featcache.workspace import Workspace

log = logging.getLogger(__name__)


@documented("layer_relevance", RelevanceSettings, expand=naming("head", "protocol", "plugin"))
def layer_relevance(
    names: Sequence[str] = (),
    *,
    head: str = "dense",
    set: Mapping[str, Any] | None = None,
    norm: Norm = "speaker",
    seeds: int | Sequence[int] = 5,
    protocol: str | None = None,
    target: str | None = None,
    task: Task | None = None,
    label_range: tuple[float, float] | None = None,
    select: Mapping[str, str | Sequence[str]] | None = None,
    limit: int | None = None,
    loss: str | None = None,
    class_weights: str | Mapping[str, float] = "none",
    learning_rate: float = 1e-4,
    batch_size: int | None = None,
    max_epochs: int = 100,
    patience: int = 4,
    clip_value: float = 1.0,
    epsilon: float = 1e-7,
    mixup: float = 0.0,
    mask_time: str | None = None,
    mask_dims: str | None = None,
    feature_noise: float = 0.0,
    crop: int = 0,
    optimizer: Optimizer = "adam",
    weight_decay: float | None = None,
    schedule: Schedule = "constant",
    warmup: float = 0.0,
    stop_on: Criterion = "loss",
    evaluate_every: int | None = None,
    sampler: Sampler = "shuffled",
    corpus: str | None = None,
    device: str = "cpu",
    plugin: str | Sequence[str] = (),
    home: str | os.PathLike[str] | None = None,
) -> list[LayerRelevance]:
    """Train a head for each target separately, and probe each layer for it, over the same folds.

    Targets are the dimensions of a regression, or each class against all others. Runs that exist already are not
    trained again, and interrupted runs are continued.

    Args:
        names: Names of stores; by default all stores with the layers of a model.
        home: Folder of corpora, caches and runs; by default ``$FEATCACHE_HOME``, or ``data``.

    Returns:
        Learned layer weights and probe scores, one item per store.

    Raises:
        FeatcacheError: a store has fewer than two layers, the head learns no layer weights, or a fit is not possible,
            see :func:`featcache.fit`. Everything is checked before the first training.
        TypeError: an option does not exist.

    Example:
        >>> from featcache.fitting.relevance import layer_relevance
        >>> [relevance] = layer_relevance(["wav2vec2-base"], target="emotion", seeds=1, max_epochs=1)
        >>> sorted(relevance.runs)
        ['anger', 'happiness', 'neutral']
    """
    return _relevance(configured(RelevanceSettings, without(locals(), "names", "home")), names, home)


def _relevance(
    asked: RelevanceSettings, names: Sequence[str], home: str | os.PathLike[str] | None
) -> list[LayerRelevance]:
    cache = FeatureCache(Workspace.at(home).find_cache(asked.corpus))
    names = layer_stores(cache, names)
    if not head_spec(asked.head).learns_layers:
        raise ModelError(f"head {asked.head!r} learns no layer weights; use another one, such as --head dense")
    stores = [cache[name] for name in dict.fromkeys(names)]
    target = asked.target or _known_dimensions(cache.manifest, corpus_of(cache.path))
    parts, requests = [], []
    for store in stores:
        layers = _weighable(store, asked.head)
        found = resolve_task(cache, [store.name], **{**values_of(asked, TargetSettings), "target": target}).target
        parts.append(found.parts())
        requests += [
            FitSettings(
                **{
                    **values_of(asked),
                    "features": (store.name,),
                    "layers": layers,
                    "target": part.name,
                    "task": part.settings()["task"],
                }
            )
            for part in parts[-1]
        ]
    planned = plan_runs(requests, cache=cache.path, home=home)
    device = usable_device(asked.device)
    there = sum(one.finished is not None for one in planned)
    if there:
        log.info("%d of %d runs exist already", there, len(planned))
        remedy = "remove the folder of a run to train it again"
        tell_conditions(planned, device=device, remedy=remedy)
    finished = fit_all(planned, cache=cache.path, device=device, resume=True)
    tell_convergence([run for one, run in zip(planned, finished, strict=True) if one.finished is None])
    left = iter(zip(planned, finished, strict=True))
    relevance = []
    for of_store in parts:
        mine = {part.short_name: next(left) for part in of_store}
        runs = {label: run for label, (_, run) in mine.items()}
        relevance.append(relevance_of(runs, {label: one.setup for label, (one, _) in mine.items()}))
    return relevance


def relevance_of(runs: Mapping[str, RunFolder], setups: Mapping[str, ResolvedFit]) -> LayerRelevance:
    """Combine the layer weights of finished runs with probes of the same layers.

    Args:
        runs: Label → run, all of the same store.
        setups: Label → resolved request of the run.

    Returns:
        Runs and probes, for the figure.

    Raises:
        StoreError: the scores of the runs have no common scale.
    """
    scales = {(setup.target.score, setup.target.chance) for setup in setups.values()}
    if len(scales) > 1:
        raise StoreError(
            f"{listed(runs)} have different scores: expected CCC for all, or UAR with the same number of classes; draw "
            "them in separate figures"
        )
    [(score, chance)] = scales
    stores = {setup.stores[0].name: setup.stores[0] for setup in setups.values()}
    return LayerRelevance(
        stores=tuple(stores.values()), runs=runs, probes=probe_setups(setups), score=score, chance=chance
    )


def probe_setups(setups: Mapping[str, ResolvedFit]) -> pd.DataFrame:
    """Probe each layer of the store of some runs for their targets; runs with the same utterances are probed together.

    Args:
        setups: Label → resolved request of a run, all of the same store.

    Returns:
        Table as from :func:`~featcache.fitting.probe.probe_layers`, with the labels as targets.
    """
    together: dict[tuple[str, str], dict[str, ResolvedFit]] = {}
    for label, setup in setups.items():
        key = (setup.stores[0].name, setup.config["utterances_sha256"])
        together.setdefault(key, {})[label] = setup
    found = []
    for group in together.values():
        lead = next(iter(group.values()))
        targets = {setup.target.name: setup.target for setup in group.values()}
        scores = probe_layers(lead.stores[0], list(targets.values()), lead.manifest, lead.folds)
        found += [scores[scores["target"] == setup.target.name].assign(target=label) for label, setup in group.items()]
    return pd.concat(found, ignore_index=True)


def _known_dimensions(manifest: Manifest, corpus: Corpus | None) -> str | None:
    """Return the dimensional labels of the corpus that are in the manifest, as a target; None if there are none."""
    known = [name for name in (corpus.dimensions if corpus else ()) if name in manifest.label_columns]
    return ",".join(known) or None


def _weighable(store: FeatureStore, head: str) -> str:
    """Return the layers of a store that a run weights: all layers with a number.

    Raises:
        StoreError: the store has fewer than two such layers, or only statistics for a head that is trained on frames.
    """
    numbered = [layer for layer in store.layer_names if layer.isdigit()]
    if not numbered:
        raise StoreError(f"{store.name} has no layers to weight; name a store with the layers of a model")
    if len(numbered) == 1:
        raise StoreError(
            f"{store.name} contains only layer {numbered[0]}, and a single layer has no weight to learn; score it with "
            "'featcache probe', or extract all layers into a store with another --name"
        )
    if store.pooled_only and head_spec(head).inputs != POOLED:
        raise StoreError(
            f"{store.name} contains only statistics (--pool), but head {head!r} is trained on frames; use --head linear"
        )
    return "all" if len(numbered) == len(store.layer_names) else ",".join(numbered)
