"""Labels of a manifest → what heads are trained on, and their outputs → what stands in the tables."""

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from featcache.corpora import Corpus
from featcache.errors import ManifestError, ProtocolError, listed, unknown_name
from featcache.evaluate.metrics import summarise
from featcache.evaluate.predictions import columns_of
from featcache.evaluate.regression import summarise_regression
from featcache.manifest import Manifest, Utterance
from featcache.protocols import Fold
from featcache.targets import losses

if TYPE_CHECKING:
    import pandas as pd

Value = int | Sequence[float]
TASKS = CLASSIFICATION, REGRESSION = "classification", "regression"
REST = "rest"
# More are numbers that nobody called so.
MOST_NUMBERS_AS_CLASSES = 20
# Without what Python alone reads as a number: 1_000, nan, digits of other scripts.
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)
# The test part has a share in these two numbers alone: no epoch, head or C is chosen by its labels.
OWN_RANGE_NOTE = "Labels were scaled to [0, 1] by the lowest and the highest that there are, test part included: {}."


@dataclass(frozen=True, kw_only=True)
class PredictionTarget(ABC):
    """What is predicted of an utterance.

    Attributes:
        name: As it was asked for: ``emotion``, ``emotion=anger``, ``arousal,valence``.
        notes: What a reader of the results must know.
    """

    name: str
    notes: tuple[str, ...] = ()

    @property
    def short_name(self) -> str:
        """Among the parts of one target: ``anger`` of ``emotion=anger``."""
        return self.name

    @property
    @abstractmethod
    def labels(self) -> tuple[str, ...]:
        """The label columns of the manifest that it is made of."""

    @property
    @abstractmethod
    def num_outputs(self) -> int:
        """Of a head."""

    @property
    @abstractmethod
    def objective(self) -> losses.Objective:
        """What trainings minimise."""

    @property
    @abstractmethod
    def score(self) -> str:
        """The metric that validation is told in: ``uar`` or ``ccc``."""

    @property
    @abstractmethod
    def chance(self) -> float:
        """The score of guessing: UAR in percent, or CCC."""

    @abstractmethod
    def parts(self) -> "list[PredictionTarget]":
        """Each class against all others, unless there are only two, or each dimension alone."""

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """What ``config.yaml`` says of it."""

    @abstractmethod
    def value(self, utterance: Utterance) -> Value:
        """What a training takes for the utterance's label."""

    @abstractmethod
    def columns(self) -> list[str]:
        """Of ``predictions.csv``, after those that name the utterance."""

    @abstractmethod
    def cells(self, utterance: Utterance, prediction: Sequence[float]) -> list[Any]:
        """What stands in these columns.

        Args:
            prediction: (num_outputs,) probabilities, or values in [0, 1].
        """

    @abstractmethod
    def summarise(self, predictions: "pd.DataFrame") -> dict[str, Any]:
        """What ``metrics.json`` holds for the rows of ``predictions.csv``."""

    @abstractmethod
    def check_folds(self, folds: Sequence[Fold], manifest: Manifest) -> list[str]:
        """Warnings about what folds cannot learn.

        Raises:
            ProtocolError: a fold that cannot be trained at all.
        """


@dataclass(frozen=True, kw_only=True)
class Classes(PredictionTarget):
    """One of several classes.

    Attributes:
        column: The label.
        classes: In the order of the tables.
        one: The class that is told from all others, the ``rest``; None keeps them apart.
    """

    column: str
    classes: tuple[str, ...]
    one: str | None = None

    @property
    def short_name(self) -> str:
        return self.one or self.name

    @property
    def labels(self) -> tuple[str, ...]:
        return (self.column,)

    @property
    def num_outputs(self) -> int:
        return len(self.classes)

    @property
    def objective(self) -> losses.Objective:
        return losses.CLASSIFICATION

    @property
    def score(self) -> str:
        return "uar"

    @property
    def chance(self) -> float:
        return 100 / len(self.classes)

    def parts(self) -> list[PredictionTarget]:
        if len(self.classes) == 2:
            return [self]
        return [
            Classes(name=f"{self.column}={one}", column=self.column, classes=(_rest_of(one), one), one=one)
            for one in self.classes
        ]

    def settings(self) -> dict[str, Any]:
        return {"task": CLASSIFICATION, "target": self.name, "classes": list(self.classes)}

    def label(self, utterance: Utterance) -> str:
        """The class of an utterance."""
        label = utterance.labels[self.column]
        return label if self.one in (None, label) else self.classes[0]

    def value(self, utterance: Utterance) -> int:
        return self.classes.index(self.label(utterance))

    def columns(self) -> list[str]:
        return ["target", "prediction", *(f"p_{name}" for name in self.classes)]

    def cells(self, utterance: Utterance, prediction: Sequence[float]) -> list[Any]:
        predicted = self.classes[int(np.argmax(prediction))]
        return [self.label(utterance), predicted, *(f"{value:.6g}" for value in prediction)]

    def summarise(self, predictions: "pd.DataFrame") -> dict[str, Any]:
        return summarise(predictions, self.classes)

    def check_folds(self, folds: Sequence[Fold], manifest: Manifest) -> list[str]:
        warnings = []
        for fold in folds:
            trained, tested = ({self.label(manifest[i]) for i in part} for part in (fold.train, fold.test))
            if len(trained) < 2:
                raise ProtocolError(
                    f"fold {fold.name!r} trains on one class of {self.name!r} only, {listed(trained)}; "
                    "use another protocol"
                )
            if tested - trained:
                unseen = listed(sorted(tested - trained))
                warnings.append(f"fold {fold.name!r} tests classes that it never trains on: {unseen}")
        return warnings


@dataclass(frozen=True, kw_only=True)
class Dimensions(PredictionTarget):
    """One or several numbers, which heads learn scaled to [0, 1].

    Attributes:
        ranges: Label → what becomes 0 and what becomes 1, in the label's unit.
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


def labelled(manifest: Manifest, target: str) -> Manifest:
    """The utterances that carry all labels that a target needs.

    Raises:
        ManifestError: there is no such label, or no utterance that carries all of them.
    """
    columns, _ = split(manifest, target)
    together = set.intersection(*(set(manifest.labels(column)) for column in columns))
    if not together:
        raise ManifestError(f"no utterance carries all of the labels {listed(columns)}")
    return manifest.subset(tuple(together))


def split(manifest: Manifest, target: str) -> tuple[list[str], str]:
    """The labels that a target is made of, and the class that it singles out, if any.

    ``arousal,valence`` is of two labels, ``emotion=anger`` of one class; a label that is called just so is itself.

    Raises:
        ManifestError: an empty name, or one that stands twice.
    """
    if target in manifest.label_columns:
        return [target], ""
    names, _, one = target.partition("=")
    columns = [name.strip() for name in names.split(",")]
    if "" in columns or len(set(columns)) < len(columns):
        raise ManifestError(
            f"target {target!r}: expected a label, LABEL=CLASS, or different labels separated by commas"
        )
    return columns, one.strip()


def make_target(
    manifest: Manifest,
    name: str,
    corpus: Corpus | None,
    *,
    task: str | None = None,
    label_range: tuple[float, float] | None = None,
    where: Callable[[str], str] = "utterance {!r}".format,
) -> PredictionTarget:
    """Find out what there is to predict.

    Args:
        manifest: The utterances that take part; each carries the labels.
        name: A label; ``LABEL=CLASS`` for one class against all others; several numbers, separated by commas.
        corpus: Knows its classes, and which labels are numbers and between which bounds.
        task: ``classification`` or ``regression``; by default regression for several labels and for those that the
            corpus knows as numbers.
        label_range: What numbers lie between; by default what the corpus says, or else the lowest and the highest.
        where: Utterance id → what messages call it.

    Raises:
        ManifestError: an unknown task or class, one class or one value only, labels that are no numbers or lie outside
            their range, options that do not go together.
    """
    if task is not None and task not in TASKS:
        raise ManifestError(unknown_name("task", task, TASKS))
    columns, one = split(manifest, name)
    bounds = corpus.dimensions if corpus else {}
    if one and len(columns) > 1:
        raise ManifestError(f"target {name!r}: one class is of one label; expected LABEL=CLASS")
    by_default = REGRESSION if not one and (len(columns) > 1 or columns[0] in bounds) else CLASSIFICATION
    if (task or by_default) == CLASSIFICATION:
        if len(columns) > 1:
            raise ManifestError(f"target {name!r}: a classification has one label, and several are a regression")
        if label_range:
            raise ManifestError(f"--label-range is for numbers, but {name!r} is a classification")
        return _classes(manifest, name, columns[0], one or None, corpus)
    if one:
        raise ManifestError(f"target {name!r} is a class, which is no regression; leave the task out")
    if label_range and not -math.inf < label_range[0] < label_range[1] < math.inf:
        raise ManifestError(f"labels cannot lie between {label_range[0]:g} and {label_range[1]:g}")
    notes, ranges = [], {}
    for column in columns:
        values = _numbers(manifest, column, where)
        known = label_range or bounds.get(column)
        low, high = known or (min(values.values()), max(values.values()))
        for utterance_id, value in values.items():
            if not low <= value <= high:
                raise ManifestError(
                    f"label {column!r} of {where(utterance_id)} is {value:g}, expected {low:g} to {high:g}; "
                    "mend the label, or say what it lies between with --label-range"
                )
        if len(set(values.values())) < 2:
            raise ManifestError(f"label {column!r} is {low:g} in every utterance; there is nothing to learn")
        if known is None:
            notes.append(OWN_RANGE_NOTE.format(f"{column} {low:g} to {high:g}"))
        ranges[column] = (float(low), float(high))
    return Dimensions(name=",".join(columns), ranges=ranges, notes=tuple(notes))


def _classes(manifest: Manifest, name: str, column: str, one: str | None, corpus: Corpus | None) -> Classes:
    present = set(manifest.labels(column).values())
    if len(present) < 2:
        raise ManifestError(f"label {column!r} has one class only, {listed(present)}; a classifier needs two")
    if len(present) > MOST_NUMBERS_AS_CLASSES and all(_number(label) is not None for label in present):
        raise ManifestError(
            f"label {column!r} has {len(present)} different numbers such as {min(present)!r}; "
            "for numbers take --task regression"
        )
    if one is not None:
        if one not in present:
            raise ManifestError(f"target {name!r}: {unknown_name(f'class of {column}', one, present)}")
        return Classes(name=f"{column}={one}", column=column, classes=(_rest_of(one), one), one=one)
    known = [label for label in (corpus.classes if corpus else ()) if label in present]
    return Classes(name=column, column=column, classes=tuple(known + sorted(present - set(known))))


def _rest_of(one: str) -> str:
    """The name of all other classes, which must not be that of the one."""
    return REST if one != REST else f"no {REST}"


def _numbers(manifest: Manifest, column: str, where: Callable[[str], str]) -> dict[str, float]:
    values = {}
    for utterance_id, label in manifest.labels(column).items():
        value = _number(label)
        if value is None:
            raise ManifestError(f"label {column!r} of {where(utterance_id)} is {label!r}, expected a number")
        values[utterance_id] = value
    return values


def _number(label: str) -> float | None:
    """The number that a label is, if everybody who reads the predictions takes it for the same one."""
    if NUMBER.fullmatch(label.strip()) is None:
        return None
    value = float(label)
    return value if math.isfinite(value) else None
