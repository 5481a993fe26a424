"""Probabilities and labels of the validation part → one threshold per label."""

import numpy as np
import numpy.typing as npt

DEFAULT = 0.5
"""Threshold of a label that the validation part does not determine."""


def best_threshold(probabilities: npt.ArrayLike, targets: npt.ArrayLike) -> float:
    """Return the threshold with the highest F1; a label is predicted if its probability reaches the threshold.

    Thresholds lie halfway between two neighbouring probabilities. If several have the highest F1, the one closest to
    0.5 is chosen. Without any positive label, every threshold has an F1 of 0, so that 0.5 is kept. It is also kept if a
    probability is not finite.

    Args:
        probabilities: (num_utterances,) float32 probabilities of a label.
        targets: (num_utterances,) 1 if the utterance has the label, otherwise 0.

    Returns:
        The threshold, a float32 value.

    Source: Lipton et al. 2014, Optimal Thresholding of Classifiers to Maximize F1 Measure: the threshold that
    maximises F1 on held-out data.
    """
    values, labels = np.asarray(probabilities, dtype=np.float32), np.asarray(targets, dtype=np.float64)
    if not labels.any() or not np.isfinite(values).all():
        return DEFAULT
    order = np.argsort(-values, kind="stable")
    values, labels = values[order], labels[order]
    ends = np.append(np.flatnonzero(np.diff(values)), len(values) - 1)  # the last utterance of each probability
    f1 = 2 * np.cumsum(labels)[ends] / (ends + 1 + labels.sum())
    above = values[ends]  # the lowest probability that is predicted
    below = np.append(values[ends[:-1] + 1], np.float32(-np.inf))
    thresholds = [_between(low, high) for low, high in zip(below, above, strict=True)]
    best = np.flatnonzero(f1 == f1.max())
    return min((thresholds[i] for i in best), key=lambda threshold: abs(threshold - DEFAULT))


def _between(low: np.float32, high: np.float32) -> float:
    """Return a float32 value above ``low`` and up to ``high``: 0.5 if it lies there, otherwise the middle."""
    if low < DEFAULT <= high:
        return DEFAULT
    middle = high if np.isinf(low) else (low + high) / np.float32(2)
    return float(middle if middle > low else high)
