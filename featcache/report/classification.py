"""Predicted classes → classification report and confusion matrices, as text, tables and a figure."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from featcache.evaluate.predictions import checked, codes_of
from featcache.evaluate.sums import mean, ratio
from featcache.evaluate.variance import Numbers
from featcache.files.regular import replace_file
from featcache.report import figures
from featcache.report.captions import CONFUSION
from featcache.terminal.escape import escaped

if TYPE_CHECKING:
    import pandas as pd

REPORT = "classification_report"
MEANS = ("accuracy", "macro avg", "weighted avg")


def write_classification_report(
    predictions: "pd.DataFrame", folder: str | os.PathLike[str], *, classes: Sequence[str] = ()
) -> None:
    """Write the classification report and the confusion matrices of a run.

    All values are means over seeds. For each seed, the predictions of all folds are scored together.

    ``classification_report.txt`` and ``.csv``: precision, recall and F1 of each class in percent, and its support
    (number of test utterances); then the accuracy, the unweighted mean over classes (``macro avg``) and the mean
    weighted by support (``weighted avg``).
    ``confusion_matrix.csv``: number of utterances of each target class (rows) per predicted class (columns).
    ``confusion_matrix_normalised.csv``: the same in percent of the row; cells of a class without utterances are empty.
    ``confusion_matrix.png`` and ``.svg``: counts and percentages in one figure.

    Args:
        predictions: Rows of ``predictions.csv``.
        folder: Output folder.
        classes: All labels, in the order of the tables; by default the labels in ``predictions``, sorted.

    Raises:
        PredictionsError: The rows cannot be scored.
    """
    found = checked(predictions, classes=classes)
    folder, labels = Path(folder), list(found.classes)
    of_seeds = [rows for _, rows in found.table.groupby("seed")]
    targets, predicted = (set(found.table[column]) for column in ("target", "prediction"))
    never = [label for label in labels if label in predicted - targets]
    counts_of_seeds = [_counts(rows, labels) for rows in of_seeds]
    report = _mean([_report(counts, never) for counts in counts_of_seeds])
    replace_file(folder / f"{REPORT}.csv", report.to_csv(index_label="class").encode())
    seeds = "1 seed" if len(of_seeds) == 1 else f"mean over {len(of_seeds)} seeds"
    text = report.rename(index=escaped).to_string(float_format=lambda value: f"{value:.1f}", na_rep="-")
    replace_file(folder / f"{REPORT}.txt", f"{text}\n\nPrecision, recall and F1 in percent; {seeds}.\n".encode())
    counts = _mean(counts_of_seeds)
    replace_file(folder / f"{CONFUSION}.csv", counts.to_csv(index_label="target").encode())
    normalised = 100 * counts.div(counts.sum(axis=1).replace(0, np.nan), axis=0)
    replace_file(folder / f"{CONFUSION}_normalised.csv", normalised.to_csv(index_label="target").encode())
    figures.save(figures.confusion_matrix(counts.to_numpy(), labels), folder / CONFUSION)


def _report(counts: "pd.DataFrame", never: list[str]) -> "pd.DataFrame":
    """Return the report of one seed.

    A class in ``never`` is predicted in some seed but is never the target, so its F1 is 0 in every seed.
    """
    import pandas as pd

    numbers = counts.to_numpy()
    correct, support, predicted = np.diagonal(numbers), numbers.sum(axis=1), numbers.sum(axis=0)
    total = numbers.sum()
    scores = [ratio(correct, predicted), ratio(correct, support), ratio(2 * correct, support + predicted)]
    weighted = [_weighted(score, support) for score in scores]
    scores[2] = np.where(np.isin(counts.index, never), 0.0, scores[2])
    rows = [
        *np.transpose([*scores, support]),
        [np.nan, np.nan, correct.sum() / total, total],
        [*(mean(score) for score in scores), total],
        [*weighted, total],
    ]
    table = pd.DataFrame(rows, [*counts.index, *MEANS], ["precision", "recall", "f1", "support"], dtype=float)
    table.iloc[:, :3] *= 100
    return table


def _weighted(values: Numbers, weights: NDArray[np.int64]) -> float:
    """Return the weighted mean of the values that are not NaN; the plain mean if all weights are 0."""
    defined = ~np.isnan(values)
    values, weights = values[defined], weights[defined]
    return float(np.average(values, weights=weights if weights.any() else None)) if len(values) else np.nan


def _counts(rows: "pd.DataFrame", labels: list[str]) -> "pd.DataFrame":
    import pandas as pd

    shape = (len(labels), len(labels))
    cells = np.ravel_multi_index([codes_of(rows[column], labels) for column in ("target", "prediction")], shape)
    counts = np.bincount(cells, minlength=len(labels) ** 2).reshape(shape)
    return pd.DataFrame(counts, index=labels, columns=labels)


def _mean(tables: "Sequence[pd.DataFrame]") -> "pd.DataFrame":
    """Return the mean of each cell over the tables in which the cell is defined."""
    import pandas as pd

    stacked = np.ma.masked_invalid([table.to_numpy(float) for table in tables])
    return pd.DataFrame(stacked.mean(axis=0).filled(np.nan), index=tables[0].index, columns=tables[0].columns)
