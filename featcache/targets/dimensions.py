"""Regression: the targets are one or several dimensional labels, scaled to [0, 1] for training."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from featcache.corpora import Corpus
from featcache.errors import ManifestError, ProtocolError, listed
from featcache.evaluate.predictions import columns_of
from featcache.evaluate.regression import summarise_regression
from featcache.manifest import Manifest, Utterance
from featcache.protocols import Fold
from featcache.targets import losses
from featcache.targets.base import REGRESSION, PredictionTarget, number_of

if TYPE_CHECKING:
    import pandas as pd

# The labels of the test part are used for these two values only, never to choose an epoch, a head or C.
OWN_RANGE_NOTE = "Labels were scaled to [0, 1] by their lowest and highest value, test part included: {}."


@dataclass(frozen=True, kw_only=True)
class Dimensions(PredictionTarget):
    """Regression: the targets are one or several dimensional labels, scaled to [0, 1] for training.

    Attributes:
        ranges: Label → the values that are scaled to 0 and to 1, in the unit of the label.
    """

    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(self.ranges)

    @property
    def num_outputs(self) -> int:
        return len(self.ranges)

    @property
    def objective(self) -> losses.Objective:
        return losses.REGRESSION

    @property
    def score(self) -> str:
        return "ccc"

    @property
    def chance(self) -> float:
        return 0.0

    def parts(self) -> list[PredictionTarget]:
        return [Dimensions(name=name, ranges={name: bounds}) for name, bounds in self.ranges.items()]

    def settings(self) -> dict[str, Any]:
        ranges = {name: list(bounds) for name, bounds in self.ranges.items()}
        return {"task": REGRESSION, "target": self.name, "label_ranges": ranges}

    def value(self, utterance: Utterance) -> list[float]:
        return [(float(utterance.labels[name]) - low) / (high - low) for name, (low, high) in self.ranges.items()]

    def columns(self) -> list[str]:
        return columns_of(list(self.ranges))

    def cells(self, utterance: Utterance, prediction: Sequence[float]) -> list[Any]:
        cells = []
        for (name, (low, high)), value in zip(self.ranges.items(), prediction, strict=True):
            cells += [utterance.labels[name], f"{low + (high - low) * value:.7g}"]
        return cells

    def summarise(self, predictions: "pd.DataFrame") -> dict[str, Any]:
        return summarise_regression(predictions, list(self.ranges), ranges=self.ranges)

    def check_folds(self, folds: Sequence[Fold], manifest: Manifest) -> list[str]:
        for fold in folds:
            for name in self.ranges:
                values = {float(manifest[i].labels[name]) for i in fold.train}
                if len(values) < 2:
                    raise ProtocolError(
                        f"fold {fold.name!r} trains on one value of {name!r} only, {listed(values)}; "
                        "use another protocol"
                    )
        return []


def dimensions_target(
    manifest: Manifest,
    columns: Sequence[str],
    corpus: Corpus | None,
    *,
    label_range: tuple[float, float] | None,
    where: Callable[[str], str],
) -> Dimensions:
    """Make the target of dimensional labels.

    Args:
        manifest: The utterances that take part; each has the labels.
        columns: Names of the labels.
        corpus: The corpus, which defines the ranges of its dimensional labels; None if unknown.
        label_range: Lowest and highest possible value; None for the corpus's range, otherwise as found.
        where: Utterance id → description of the utterance in messages.

    Raises:
        ManifestError: a label is not a number, is outside its range, or has a single value.
    """
    if label_range and not -math.inf < label_range[0] < label_range[1] < math.inf:
        raise ManifestError(f"--label-range {label_range[0]:g},{label_range[1]:g}: expected the lowest value first")
    bounds = corpus.dimensions if corpus else {}
    notes, ranges = [], {}
    for column in columns:
        values = _numbers(manifest, column, where)
        known = label_range or bounds.get(column)
        low, high = known or (min(values.values()), max(values.values()))
        for utterance_id, value in values.items():
            if not low <= value <= high:
                raise ManifestError(
                    f"label {column!r} of {where(utterance_id)} is {value:g}, expected {low:g} to {high:g}; "
                    "correct the label, or give the possible range with --label-range"
                )
        if len(set(values.values())) < 2:
            raise ManifestError(f"label {column!r} is {low:g} in every utterance; expected at least two values")
        if known is None:
            notes.append(OWN_RANGE_NOTE.format(f"{column} {low:g} to {high:g}"))
        ranges[column] = (float(low), float(high))
    return Dimensions(name=",".join(columns), ranges=ranges, notes=tuple(notes))


def _numbers(manifest: Manifest, column: str, where: Callable[[str], str]) -> dict[str, float]:
    values = {}
    for utterance_id, label in manifest.labels(column).items():
        value = number_of(label)
        if value is None:
            raise ManifestError(f"label {column!r} of {where(utterance_id)} is {label!r}, expected a number")
        values[utterance_id] = value
    return values
