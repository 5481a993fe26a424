"""Stored means of each layer → scores of a regularised linear model per layer, fold and target. No frame is read."""

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from featcache.cache.reader import FeatureCache, FeatureStore
from featcache.errors import StoreError
from featcache.evaluate.metrics import uar
from featcache.fitting.defaults import model_stores
from featcache.fitting.task import resolve_task
from featcache.manifest import Manifest
from featcache.protocols import Fold
from featcache.registry import naming
from featcache.settings.checked import configured
from featcache.settings.field import values_of
from featcache.settings.fits import ProbeSettings, TargetSettings, Task
from featcache.settings.public import documented, without
from featcache.targets.losses import ccc
from featcache.targets.targets import Classes, Dimensions, Labels, PredictionTarget
from featcache.terminal.progress import progress
from featcache.threads import available_cores
from featcache.training.finite import refuse_not_finite
from featcache.units import counted
from featcache.workspace import Workspace

log = logging.getLogger(__name__)

# Penalties of ridge regression on standardised features; the validation part chooses one.
PENALTIES = (10.0, 100.0, 1_000.0, 10_000.0)

Values = npt.NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class LayerProbes:
    """Scores of linear probes on single layers.

    Attributes:
        corpus: Name of the corpus.
        protocol: Name of the protocol.
        num_folds: Number of folds.
        targets: Targets, each predicted separately: the dimensions of a regression, or a single target.
        score: Metric of the scores: ``uar``, in percent, or ``ccc``.
        chance: Chance level of the score.
        scores: Each store with its table of scores, see :func:`probe_layers`.
    """

    corpus: str
    protocol: str
    num_folds: int
    targets: tuple[PredictionTarget, ...]
    score: str
    chance: float
    scores: tuple[tuple[FeatureStore, pd.DataFrame], ...]


@documented("probe_stores", ProbeSettings, expand=naming("protocol", "plugin"))
def probe_stores(
    names: Sequence[str] = (),
    *,
    protocol: str | None = None,
    target: str | None = None,
    task: Task | None = None,
    label_range: tuple[float, float] | None = None,
    select: Mapping[str, str | Sequence[str]] | None = None,
    limit: int | None = None,
    corpus: str | None = None,
    plugin: str | Sequence[str] = (),
    home: str | os.PathLike[str] | None = None,
) -> LayerProbes:
    """Fit a linear probe to every layer of stores.

    Args:
        names: Names of stores; by default all stores with the layers of a model.
        home: Folder of corpora, caches and runs; by default ``$FEATCACHE_HOME``, or ``data``.

    Returns:
        The scores of every layer.

    Raises:
        FeatcacheError: no store contains the layers of a model, an extraction is unfinished, features are not finite,
            or the target cannot be predicted.
        TypeError: an option does not exist.

    Example:
        >>> from featcache.fitting.probe import probe_stores
        >>> probes = probe_stores(["wav2vec2-base"], target="emotion")
        >>> [(store, scores)] = probes.scores
        >>> store.name, list(scores.columns)
        ('wav2vec2-base', ['target', 'layer', 'fold', 'penalty', 'score'])
    """
    asked = configured(ProbeSettings, without(locals(), "names", "home"))
    cache = FeatureCache(Workspace.at(home).find_cache(asked.corpus))
    found = resolve_task(cache, layer_stores(cache, names), **values_of(asked, TargetSettings))
    for note in found.notes:
        log.info("%s", note)
    for warning in found.warnings:
        log.warning("%s", warning)
    targets = found.target.parts() if isinstance(found.target, Dimensions | Labels) else [found.target]
    return LayerProbes(
        corpus=cache.name,
        protocol=found.protocol,
        num_folds=len(found.folds),
        targets=tuple(targets),
        score=found.target.score,
        chance=found.target.chance,
        scores=tuple((store, probe_layers(store, targets, found.manifest, found.folds)) for store in found.stores),
    )


def layer_stores(cache: FeatureCache, names: Sequence[str]) -> Sequence[str]:
    """Return the names of the stores whose layers are probed.

    Args:
        cache: The cache.
        names: Names of stores; if empty, all stores with the layers of a model.

    Raises:
        StoreError: no store is named, and none contains the layers of a model.
    """
    names = names or model_stores(cache)
    if not names:
        raise StoreError(f"{cache.path} has no layers of a model; extract some with 'featcache extract --model NAME'")
    return names


def probe_layers(
    store: FeatureStore, targets: Sequence[PredictionTarget], manifest: Manifest, folds: Sequence[Fold]
) -> pd.DataFrame:
    """Score a linear classifier or regression on each single layer.

    Each utterance is represented by its mean over frames. The mean and standard deviation for standardisation come from
    the training part. The validation part chooses the penalty, separately for each target. Then the test part is
    scored. Classification is the same as with ``RidgeClassifier`` of scikit-learn.

    Args:
        store: Store whose statistics are read, once.
        targets: Targets, each predicted separately.
        manifest: The utterances.
        folds: Training, validation and test parts.

    Returns:
        Table with the columns target, layer, fold, penalty and score; one row per target, layer and fold. The score of
        the test part is UAR in percent, or CCC averaged over the dimensions.

    Raises:
        FeatureError: some means are not finite; the message lists the utterances.
    """
    import joblib
    from threadpoolctl import threadpool_limits

    ids = sorted({i for fold in folds for part in (fold.train, fold.validation, fold.test) for i in part})
    row_of = {utterance_id: row for row, utterance_id in enumerate(ids)}
    refuse_not_finite(store, ids, range(len(store.layer_names)))
    means = store.pooled("mean", ids)
    values = [np.array([target.value(manifest[utterance_id]) for utterance_id in ids]) for target in targets]
    parts = [tuple([row_of[i] for i in part] for part in (fold.train, fold.validation, fold.test)) for fold in folds]
    tasks = [(layer, fold) for layer in range(len(store.layer_names)) for fold in range(len(folds))]
    # One thread per fit: matrix products of this size are too small to be split among threads.
    title = f"Probing {counted(len(store.layer_names), 'layer')} of {store.name}"
    with threadpool_limits(1), progress(title, len(tasks), rate=_fits_per_second) as advance:
        found = []
        for results in joblib.Parallel(n_jobs=available_cores(), backend="threading", return_as="generator")(
            joblib.delayed(_probe)(means[:, layer], targets, values, *parts[fold]) for layer, fold in tasks
        ):
            found.append(results)
            advance(1)
    rows = [
        (target.name, store.layer_names[layer], fold + 1, *results[number])
        for number, target in enumerate(targets)
        for (layer, fold), results in zip(tasks, found, strict=True)
    ]
    return pd.DataFrame(rows, columns=["target", "layer", "fold", "penalty", "score"])


def _fits_per_second(done: float, took: float) -> str:
    return f"{done / took:.1f} fits per second"


def _probe(
    means: npt.NDArray[np.float32],
    targets: Sequence[PredictionTarget],
    values: Sequence[Values],
    train: list[int],
    validation: list[int],
    test: list[int],
) -> list[tuple[float, float]]:
    """Return the chosen penalty and the score of the test part, per target."""
    from sklearn.linear_model import Ridge
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(means[train])
    X_train, X_validation, X_test = (scaler.transform(means[part]) for part in (train, validation, test))
    wanted = [_columns(target, of_target[train]) for target, of_target in zip(targets, values, strict=True)]
    # All penalties and targets are fitted at once, so that the products of the features are computed once.
    columns = np.concatenate([one for one in wanted for _ in PENALTIES], axis=1)
    penalties = np.concatenate([np.full(one.shape[1], penalty) for one in wanted for penalty in PENALTIES])
    model = Ridge(alpha=penalties, solver="cholesky").fit(X_train, columns)
    ends = np.cumsum([one.shape[1] for one in wanted for _ in PENALTIES])[:-1]
    on_validation, on_test = (np.split(model.predict(part), ends, axis=1) for part in (X_validation, X_test))
    results = []
    for number, (target, of_target) in enumerate(zip(targets, values, strict=True)):
        first = number * len(PENALTIES)
        scores = [_score(target, on_validation[first + i], of_target[validation]) for i in range(len(PENALTIES))]
        best = int(np.argmax(scores))
        results.append((PENALTIES[best], _score(target, on_test[first + best], of_target[test])))
    return results


def _columns(target: PredictionTarget, values: Values) -> Values:
    """Return (num_utterances, num_outputs) regression targets; for classes, 1 for the own class and -1 for others."""
    if isinstance(target, Classes):
        return np.where(values[:, None] == np.arange(target.num_outputs), 1.0, -1.0)
    if isinstance(target, Labels):
        return 2 * values - 1
    return values


def _score(target: PredictionTarget, predicted: Values, expected: Values) -> float:
    if isinstance(target, Classes):
        return 100 * uar(expected, predicted.argmax(axis=1))
    if isinstance(target, Labels):
        scores = [uar(expected[:, i], predicted[:, i] > 0) for i in range(target.num_outputs)]
        return 100 * float(np.mean(scores))
    return float(ccc(torch.from_numpy(predicted).double(), torch.from_numpy(expected)).mean())
