"""Stored means of each layer → a regularised linear classifier per layer and fold; no frame is read."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from featcache.cache.reader import FeatureStore
from featcache.evaluate.metrics import uar
from featcache.protocols import Fold
from featcache.threads import available_cores

# Of ridge regression on standardised features; the best on the validation part is taken.
PENALTIES = (10.0, 100.0, 1_000.0, 10_000.0)


def probe_layers(store: FeatureStore, targets: Mapping[str, str], folds: Sequence[Fold]) -> pd.DataFrame:
    """Tell how well a linear classifier does on each layer alone.

    Each utterance is its mean over frames. Means and deviations for standardising come from the training part, the
    penalty is chosen by the validation part's UAR, and only then is the test part predicted.

    Args:
        store: Whose statistics are read.
        targets: Utterance id → class.
        folds: What trains, validates and tests.

    Returns:
        layer, fold, penalty, uar (in percent, of the test part); one row per layer and fold.
    """
    import joblib
    from threadpoolctl import threadpool_limits

    ids = sorted({i for fold in folds for part in (fold.train, fold.validation, fold.test) for i in part})
    row_of = {utterance_id: row for row, utterance_id in enumerate(ids)}
    means = store.pooled("mean", ids)
    labels = np.array([targets[utterance_id] for utterance_id in ids])
    parts = [tuple([row_of[i] for i in part] for part in (fold.train, fold.validation, fold.test)) for fold in folds]
    tasks = [(layer, fold) for layer in range(len(store.layer_names)) for fold in range(len(folds))]
    # a thread per fit: shared among threads, products of this size would mostly wait
    with threadpool_limits(1):
        found = joblib.Parallel(n_jobs=available_cores(), backend="threading")(
            joblib.delayed(_probe)(means[:, layer], labels, *parts[fold]) for layer, fold in tasks
        )
    rows = [(store.layer_names[layer], fold + 1, *result) for (layer, fold), result in zip(tasks, found, strict=True)]
    return pd.DataFrame(rows, columns=["layer", "fold", "penalty", "uar"])


def _probe(
    means: npt.NDArray[np.float32],
    labels: npt.NDArray[np.str_],
    train: list[int],
    validation: list[int],
    test: list[int],
) -> tuple[float, float]:
    """The penalty that was chosen, and the test part's UAR in percent."""
    from sklearn.linear_model import RidgeClassifier
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(means[train])
    known, unseen, tested = (scaler.transform(means[part]) for part in (train, validation, test))
    best: tuple[float, float, float] = (-1.0, 0.0, 0.0)
    for penalty in PENALTIES:
        classifier = RidgeClassifier(alpha=penalty, solver="cholesky").fit(known, labels[train])
        score = uar(labels[validation], classifier.predict(unseen))
        if score > best[0]:
            best = (score, penalty, 100 * uar(labels[test], classifier.predict(tested)))
    return best[1:]
