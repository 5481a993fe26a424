"""Predictions of several labels → UAR and F1 over labels, folds and seeds.

All scores are computed from confusion counts of each label, (…, num_labels, 2, 2): rows are targets, columns are
predictions, without and with the label. UAR of a label is its balanced accuracy: the mean of the recall of utterances
with the label, and of those without it. F1 of a label is that of utterances with the label.

As with classes, the labels over which F1 averages are determined once, from all seeds and folds: a label that is never
the target, but is predicted in some seed, has an F1 of 0; a label that is neither has none, and is left out.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from featcache.evaluate.predictions import Predictions, checked
from featcache.evaluate.scores import SCORES
from featcache.evaluate.sums import Sums, mean, ratio
from featcache.evaluate.variance import Numbers

if TYPE_CHECKING:
    import pandas as pd

LABEL_SCORES = ("uar", "macro_f1", "micro_f1")
CHANCE = 50.0
"""UAR in percent of predictions that do not depend on the utterance."""
_OF_LABEL = ("f1", "uar")
_NUM_COUNTS = 4


def summarise_labels(predictions: "pd.DataFrame", labels: Sequence[str]) -> dict[str, Any]:
    """Compute the content of ``metrics.json`` for several labels, with all scores in percent.

    ``uar`` and ``macro_f1`` are means over the labels. ``micro_f1`` is the F1 of all labels together. ``per_label``
    contains ``f1`` and ``uar`` of each label, and its ``support``: the number of utterances with the label. Seeds,
    folds and intervals are as in :func:`~featcache.evaluate.metrics.summarise`.

    Args:
        predictions: Rows of ``predictions.csv``: ``target_<label>`` and ``prediction_<label>``, which are 0 or 1.
        labels: Names of the labels, in the order of the tables.

    Returns:
        Numbers, text, lists and dictionaries that can be written as JSON, without NaN.

    Raises:
        PredictionsError: rows cannot be scored, see :func:`~featcache.evaluate.predictions.checked`.
    """
    found = checked(predictions, labels=labels)
    summary = _sums(found, of_labels=True).summary()
    first = found.table.drop_duplicates("utterance_id")
    per_label = {
        label: {score: summary.pop(_name(score, label)) for score in _OF_LABEL}
        | {"support": int(first[f"target_{label}"].sum())}
        for label in found.labels
    }
    return summary | {"per_label": per_label, "chance_uar": CHANCE}


def label_sums(predictions: Predictions) -> Sums:
    """Return the confusion counts of several labels as (num_labels · 4) sums.

    Args:
        predictions: Checked predictions of several labels.
    """
    return _sums(predictions, of_labels=False)


def label_columns_of(labels: Sequence[str]) -> list[str]:
    """Return the columns of target, prediction and probability of several labels."""
    return [f"{kind}_{name}" for name in labels for kind in ("target", "prediction", "p")]


def _sums(predictions: Predictions, *, of_labels: bool) -> Sums:
    from scipy import sparse

    table, labels = predictions.table, predictions.labels
    target, prediction = (
        table[[f"{kind}_{name}" for name in labels]].to_numpy(int) for kind in ("target", "prediction")
    )
    number = len(labels)
    cells = np.arange(number) * _NUM_COUNTS + 2 * target + prediction
    shape = (len(table), number * _NUM_COUNTS)
    places = np.repeat(np.arange(len(table)), number)
    rows = sparse.csr_array((np.ones(cells.size), (places, cells.ravel())), shape=shape)
    counts = np.asarray(rows.sum(axis=0)).reshape(number, 2, 2)
    never = (counts[:, 1].sum(axis=1) == 0) & (counts[:, 0, 1] > 0)

    def score(sums: Numbers) -> Numbers:
        return _scores(sums.reshape(*sums.shape[:-1], number, 2, 2), never, of_labels=of_labels)

    names: tuple[str, ...] = LABEL_SCORES
    if of_labels:
        names += tuple(_name(one, label) for one in _OF_LABEL for label in labels)
    return Sums.of(table, rows, score, names, (SCORES["uar"].bounds,) * len(names))


def _name(score: str, label: str) -> str:
    """Return the name of a score of one label, which no score of all labels has."""
    return f"{score} of {label}"


def _scores(counts: NDArray[Any], never: NDArray[np.bool_], *, of_labels: bool) -> Numbers:
    """Return (…, num_scores) in percent, from (…, num_labels, 2, 2) counts."""
    recalls = ratio(np.diagonal(counts, axis1=-2, axis2=-1), counts.sum(axis=-1))
    balanced = mean(recalls)
    f1 = np.where(never, 0.0, _f1(counts))
    scores = np.stack([mean(balanced), mean(f1), _f1(counts.sum(axis=-3))], axis=-1)
    return 100 * (np.concatenate([scores, f1, balanced], axis=-1) if of_labels else scores)


def _f1(counts: NDArray[Any]) -> Numbers:
    """Return the F1 of utterances with a label, (…), from (…, 2, 2) counts; NaN without targets and predictions."""
    correct = counts[..., 1, 1]
    return ratio(2 * correct, 2 * correct + counts[..., 0, 1] + counts[..., 1, 0])
