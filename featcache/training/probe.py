"""Stored means of each layer → a regularised linear model per layer and fold; no frame is read."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from featcache.cache.reader import FeatureStore
from featcache.evaluate.metrics import uar
from featcache.manifest import Manifest
from featcache.protocols import Fold
from featcache.threads import available_cores
from featcache.training.losses import ccc
from featcache.training.targets import Classes, Target

# Of ridge regression on standardised features; the best on the validation part is taken.
PENALTIES = (10.0, 100.0, 1_000.0, 10_000.0)


def probe_layers(store: FeatureStore, target: Target, manifest: Manifest, folds: Sequence[Fold]) -> pd.DataFrame:
    """Tell how well a linear model does on each layer alone: a classifier, or a regression.

    Each utterance is its mean over frames. Means and deviations for standardising come from the training part, the
    penalty is chosen by the validation part's score, and only then is the test part predicted.

    Args:
        store: Whose statistics are read.
        target: What is predicted.
        manifest: The utterances.
        folds: What trains, validates and tests.

    Returns:
        layer, fold, penalty, and the test part's score: ``uar`` in percent, or ``ccc``, the mean of the dimensions; one
        row per layer and fold.
    """
    import joblib
    from threadpoolctl import threadpool_limits

    ids = sorted({i for fold in folds for part in (fold.train, fold.validation, fold.test) for i in part})
    row_of = {utterance_id: row for row, utterance_id in enumerate(ids)}
    means = store.pooled("mean", ids)
    values = np.array([target.value(manifest[utterance_id]) for utterance_id in ids])
    fit = _probe_classes if isinstance(target, Classes) else _probe_values
    parts = [tuple([row_of[i] for i in part] for part in (fold.train, fold.validation, fold.test)) for fold in folds]
    tasks = [(layer, fold) for layer in range(len(store.layer_names)) for fold in range(len(folds))]
    # a thread per fit: shared among threads, products of this size would mostly wait
    with threadpool_limits(1):
        found = joblib.Parallel(n_jobs=available_cores(), backend="threading")(
            joblib.delayed(_probe)(fit, means[:, layer], values, *parts[fold]) for layer, fold in tasks
        )
    rows = [(store.layer_names[layer], fold + 1, *result) for (layer, fold), result in zip(tasks, found, strict=True)]
    return pd.DataFrame(rows, columns=["layer", "fold", "penalty", target.score])


def _probe(
    fit: Any,
    means: npt.NDArray[np.float32],
    values: npt.NDArray[Any],
    train: list[int],
    validation: list[int],
    test: list[int],
) -> tuple[float, float]:
    """The penalty that was chosen, and the test part's score."""
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(means[train])
    known, unseen, tested = (scaler.transform(means[part]) for part in (train, validation, test))
    best = (-np.inf, 0.0, 0.0)
    for penalty in PENALTIES:
        score = fit(penalty, known, values[train])
        found = score(unseen, values[validation])
        if found > best[0]:
            best = (found, penalty, score(tested, values[test]))
    return best[1:]


def _probe_classes(penalty: float, known: npt.NDArray[np.float32], classes: npt.NDArray[Any]) -> Any:
    """Fit, and give what tells the UAR in percent of other utterances."""
    from sklearn.linear_model import RidgeClassifier

    model = RidgeClassifier(alpha=penalty, solver="cholesky").fit(known, classes)
    return lambda means, expected: 100 * uar(expected, model.predict(means))


def _probe_values(penalty: float, known: npt.NDArray[np.float32], values: npt.NDArray[Any]) -> Any:
    """Fit, and give what tells the CCC of other utterances."""
    from sklearn.linear_model import Ridge

    model = Ridge(alpha=penalty, solver="cholesky").fit(known, values)
    return lambda means, expected: float(
        ccc(torch.from_numpy(model.predict(means).reshape(expected.shape)).double(), torch.from_numpy(expected)).mean()
    )
