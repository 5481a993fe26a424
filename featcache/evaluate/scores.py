"""Name of a score in ``metrics.json`` → its label, unit, digits, range and direction."""

import math
from collections.abc import Container, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Score:
    """A score in ``metrics.json``.

    Attributes:
        name: Key in ``metrics.json``. ``<name>_<dimension>`` is the same score of one dimension.
        label: Short name, for tables, axes and sentences.
        title: Full name, for reports.
        unit: ``%``, or empty.
        digits: Number of printed decimal places.
        bounds: Lowest and highest possible value.
        higher_is_better: Whether higher values are better.
        of_dimensions: Whether the score belongs to regression, where each dimension has its own.
    """

    name: str
    label: str
    title: str
    unit: str = ""
    digits: int
    bounds: tuple[float, float]
    higher_is_better: bool = True
    of_dimensions: bool

    @property
    def heading(self) -> str:
        """Label with unit: ``UAR (%)``, ``CCC``."""
        return f"{self.label} ({self.unit})" if self.unit else self.label


def _percentage(name: str, label: str, title: str) -> Score:
    return Score(name=name, label=label, title=title, unit="%", digits=1, bounds=(0.0, 100.0), of_dimensions=False)


def _correlation(name: str, label: str, title: str) -> Score:
    return Score(name=name, label=label, title=title, digits=3, bounds=(-1.0, 1.0), of_dimensions=True)


def _error(name: str, label: str, title: str) -> Score:
    return Score(
        name=name,
        label=label,
        title=title,
        digits=3,
        bounds=(0.0, math.inf),
        higher_is_better=False,
        of_dimensions=True,
    )


SCORES = {
    score.name: score
    for score in (
        _percentage("uar", "UAR", "Unweighted average recall (UAR)"),
        _percentage("wa", "WA", "Weighted accuracy (WA)"),
        _percentage("macro_f1", "Macro-F1", "Macro-F1"),
        _percentage("micro_f1", "Micro-F1", "Micro-F1"),
        _correlation("ccc", "CCC", "Concordance correlation coefficient (CCC)"),
        _correlation("pearson", "Pearson", "Pearson correlation"),
        _error("rmse", "RMSE", "Root mean squared error (RMSE), in the labels' unit"),
        _error("scaled_rmse", "RMSE, labels in [0, 1]", "RMSE, labels scaled to [0, 1]"),
    )
}


# Scores by which runs are compared: of classes or several labels, and of dimensions.
MAIN_SCORES = ("uar", "ccc")


def find_score(name: str) -> tuple[Score, str]:
    """Find a score by its key in ``metrics.json``.

    Args:
        name: ``uar``, ``ccc``, ``ccc_valence``, …

    Returns:
        The score, and the dimension; the dimension is empty for a score of all dimensions, or of classes or labels.

    Raises:
        KeyError: no score has this name.
    """
    if name in SCORES:
        return SCORES[name], ""
    for score in SCORES.values():
        if score.of_dimensions and name.startswith(f"{score.name}_"):
            return score, name.removeprefix(f"{score.name}_")
    raise KeyError(name)


def name_of_main_score(there: Container[str], prefix: str = "") -> str | None:
    """Return the score by which runs are compared, ``uar`` or ``ccc``: the first one that is there; None for neither.

    Args:
        there: Names of scores, or of columns.
        prefix: Text before the score in these names, such as ``validation_``.
    """
    return next((name for name in MAIN_SCORES if prefix + name in there), None)


def is_score(name: str) -> bool:
    """Check whether a key of ``metrics.json`` is the name of a score."""
    try:
        find_score(name)
    except KeyError:
        return False
    return True


def label_of(name: str) -> str:
    """Return the short label of a key in ``metrics.json``: ``UAR``, ``CCC valence``."""
    score, dimension = find_score(name)
    return f"{score.label} {dimension}".rstrip()


def heading_of(name: str) -> str:
    """Return the label with its unit: ``UAR (%)``, ``CCC valence``."""
    score, dimension = find_score(name)
    return f"{score.heading} {dimension}".rstrip()


def chance_of(metrics: Mapping[str, Any]) -> str:
    """Return the chance level of the UAR in ``metrics.json`` as text; empty for a regression.

    Args:
        metrics: Content of ``metrics.json``, with ``chance_uar`` for a classification.
    """
    return f"chance level: UAR {metrics['chance_uar']:.1f}" if "chance_uar" in metrics else ""


def digits_of(name: str) -> int:
    """Return the number of printed decimal places of a score."""
    return find_score(name)[0].digits
