"""Outputs of several heads → mean, standard deviation and predicted classes of each utterance, as a table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from featcache.manifest import Utterance
from featcache.prediction.members import HARD
from featcache.targets.targets import CLASSIFICATION, MULTILABEL

if TYPE_CHECKING:
    import pandas as pd

Array = npt.NDArray[np.float64]

_DIGITS = 9  # sums that differ only in later digits are tied


@dataclass(frozen=True, kw_only=True)
class Combined:
    """Outputs of all heads for one utterance.

    Attributes:
        mean: (num_outputs,) float64 mean probabilities or values; shares of the heads' votes for a hard vote.
        std: (num_outputs,) float64 standard deviation over heads (ddof=1); NaN for a single head.
        position: Position of the predicted class.
        present: (num_outputs,) bool, whether each label is predicted: its mean probability reaches the mean threshold
            of the same heads; empty for other tasks.
    """

    mean: Array
    std: Array
    position: int
    present: npt.NDArray[np.bool_]


def combine(outputs: Array, vote: str | None, thresholds: Array | None = None) -> Combined:
    """Combine the outputs of heads.

    Args:
        outputs: (num_heads, num_outputs) float64.
        vote: ``hard`` if each head votes for one class; otherwise probabilities or values are averaged.
        thresholds: (num_heads, num_outputs) float64 thresholds of several labels; None for other tasks.
    """
    values = outputs
    if vote == HARD:
        values = np.eye(outputs.shape[1])[outputs.argmax(axis=1)]
    mean = values.mean(axis=0)
    std = values.std(axis=0, ddof=1) if len(values) > 1 else np.full(values.shape[1], np.nan)
    summed = np.round(outputs.sum(axis=0), _DIGITS)
    if vote is None:
        position = int(mean.argmax())
    elif vote == HARD:  # ties as in featcache.evaluate.voting
        votes = values.sum(axis=0)
        position = int(np.where(votes == votes.max(), summed, -np.inf).argmax())
    else:
        position = int(summed.argmax())
    present = np.zeros(0, dtype=bool) if thresholds is None else mean >= thresholds.mean(axis=0)
    return Combined(mean=mean, std=std, position=position, present=present)


def prediction_table(
    utterances: Sequence[Utterance], combined: Mapping[str, Combined], outputs: Sequence[str], task: str
) -> "pd.DataFrame":
    """Return the table of predictions.

    Args:
        utterances: The requested utterances, in the order of the rows.
        combined: Utterance id → outputs; utterances without outputs are left out.
        outputs: Names of the classes, dimensions or labels.
        task: ``classification``, ``regression`` or ``multilabel``.

    Returns:
        The columns path, utterance_id, start and end (seconds; NaN for the beginning and the end of the file), then for
        classes: prediction, ``p_<class>`` and ``std_<class>``; for dimensions: their values and ``std_<dimension>``;
        for labels: ``prediction_<label>`` (0 or 1), ``p_<label>`` and ``std_<label>``.
    """
    import pandas as pd

    rows = [(u, combined[u.utterance_id]) for u in utterances if u.utterance_id in combined]
    columns: dict[str, Any] = {
        "path": [u.path for u, _ in rows],
        "utterance_id": [u.utterance_id for u, _ in rows],
        "start": np.array([np.nan if u.start is None else u.start for u, _ in rows], dtype=np.float64),
        "end": np.array([np.nan if u.end is None else u.end for u, _ in rows], dtype=np.float64),
    }
    prefix = ""
    if task == CLASSIFICATION:
        columns["prediction"] = [outputs[one.position] for _, one in rows]
        prefix = "p_"
    if task == MULTILABEL:
        columns |= {f"prediction_{name}": [int(one.present[i]) for _, one in rows] for i, name in enumerate(outputs)}
        prefix = "p_"
    columns |= {f"{prefix}{name}": [one.mean[i] for _, one in rows] for i, name in enumerate(outputs)}
    columns |= {f"std_{name}": [one.std[i] for _, one in rows] for i, name in enumerate(outputs)}
    return pd.DataFrame(columns)
