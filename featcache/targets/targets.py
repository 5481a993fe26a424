"""Labels of a manifest → training targets; outputs of heads → columns of ``predictions.csv``."""

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
# A label with more different numbers than this is refused as a class: it is probably meant for a regression.
MOST_NUMBERS_AS_CLASSES = 20
# Stricter than float() of Python, which also accepts 1_000, nan and digits of other scripts.
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)
# The labels of the test part are used for these two values only, never to choose an epoch, a head or C.
OWN_RANGE_NOTE = "Labels were scaled to [0, 1] by their lowest and highest value, test part included: {}."


@dataclass(frozen=True, kw_only=True)
class PredictionTarget(ABC):
    """Labels that a head predicts.

    Attributes:
        name: Name as in the option ``--target``: ``emotion``, ``emotion=anger``, ``arousal,valence``.
        notes: Notes for the report.
    """

    name: str
    notes: tuple[str, ...] = ()

    @property
    def short_name(self) -> str:
        """Name within one label: ``anger`` for ``emotion=anger``."""
        return self.name

    @property
    @abstractmethod
    def labels(self) -> tuple[str, ...]:
        """Label columns of the manifest that the target uses."""

    @property
    @abstractmethod
    def num_outputs(self) -> int:
        """Number of outputs of a head."""

    @property
    @abstractmethod
    def objective(self) -> losses.Objective:
        """Loss that training minimises, and validation score."""

    @property
    @abstractmethod
    def score(self) -> str:
        """Metric of the validation score: ``uar`` or ``ccc``."""

    @property
    @abstractmethod
    def chance(self) -> float:
        """Chance level: UAR in percent, or CCC."""

    @abstractmethod
    def parts(self) -> "list[PredictionTarget]":
        """Split the target into each class against all others, or into single dimensions.

        A target with two classes stays one target.
        """

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """Return the entries of ``config.yaml`` that describe the target."""

    @abstractmethod
    def value(self, utterance: Utterance) -> Value:
        """Return the training target of an utterance: position of the class, or values in [0, 1]."""

    @abstractmethod
    def columns(self) -> list[str]:
        """Return the columns of ``predictions.csv`` that contain labels and predictions."""

    @abstractmethod
    def cells(self, utterance: Utterance, prediction: Sequence[float]) -> list[Any]:
        """Return the values of these columns for one utterance.

        Args:
            utterance: The utterance.
            prediction: (num_outputs,) probabilities, or values in [0, 1].
        """

    @abstractmethod
    def summarise(self, predictions: "pd.DataFrame") -> dict[str, Any]:
        """Compute the content of ``metrics.json`` from the rows of ``predictions.csv``."""

    @abstractmethod
    def check_folds(self, folds: Sequence[Fold], manifest: Manifest) -> list[str]:
        """Return warnings about classes that a fold tests but does not train on.

        Raises:
            ProtocolError: a training part has a single class or value.
        """


@dataclass(frozen=True, kw_only=True)
class Classes(PredictionTarget):
    """Classification: the target is one of several classes.

    Attributes:
        column: Name of the label.
        classes: Names of the classes, in the order of all tables.
        one: Class that is predicted against all others, which form the class ``rest``; None to predict all classes.
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
        """Return the class of an utterance."""
        label = utterance.labels[self.column]
        return label if self.one in (None, label) else self.classes[0]

    def position(self, utterance: Utterance) -> int:
        """Return the position of the class of an utterance."""
        return self.classes.index(self.label(utterance))

    def value(self, utterance: Utterance) -> Value:
        return self.position(utterance)

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
                warnings.append(f"fold {fold.name!r} tests classes that are not in its training part: {unseen}")
        return warnings


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


def labelled(manifest: Manifest, target: str) -> Manifest:
    """Return the utterances that have all labels of a target.

    Raises:
        ManifestError: the label does not exist, or no utterance has all of them.
    """
    columns, _ = split(manifest, target)
    together = set.intersection(*(set(manifest.labels(column)) for column in columns))
    if not together:
        raise ManifestError(f"no utterance has all of the labels {listed(columns)}")
    return manifest.subset(tuple(together))


def split(manifest: Manifest, target: str) -> tuple[list[str], str]:
    """Split the name of a target into its labels and the class after ``=``, which is empty if there is none.

    ``arousal,valence`` gives two labels, ``emotion=anger`` a label and a class. An exact label name takes precedence.

    Raises:
        ManifestError: a name is empty or is given twice.
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
    """Make the target that a name stands for.

    Args:
        manifest: The utterances that take part; each has the labels.
        name: A label; ``LABEL=CLASS`` for one class against all others; dimensional labels, separated by commas.
        corpus: The corpus, which defines its classes and the ranges of its dimensional labels; None if unknown.
        task: ``classification`` or ``regression``; by default regression for several labels and for the dimensional
            labels of the corpus.
        label_range: Lowest and highest possible value; by default as the corpus defines, otherwise as found.
        where: Utterance id → description of the utterance in messages.

    Returns:
        The target, with notes for the report.

    Raises:
        ManifestError: an unknown task or class, a single class or value, labels that are not numbers or are outside
            their range, or options that exclude each other.
    """
    if task is not None and task not in TASKS:
        raise ManifestError(unknown_name("task", task, TASKS))
    columns, one = split(manifest, name)
    bounds = corpus.dimensions if corpus else {}
    if one and len(columns) > 1:
        raise ManifestError(f"target {name!r}: a class belongs to one label; expected LABEL=CLASS")
    by_default = REGRESSION if not one and (len(columns) > 1 or columns[0] in bounds) else CLASSIFICATION
    if (task or by_default) == CLASSIFICATION:
        if len(columns) > 1:
            raise ManifestError(f"target {name!r}: a classification has one label; use --task regression for several")
        if label_range:
            raise ManifestError(f"--label-range is for regression, but {name!r} is a classification")
        return _classes(manifest, name, columns[0], one or None, corpus)
    if one:
        raise ManifestError(f"target {name!r} is a class, so it cannot be a regression; remove --task")
    if label_range and not -math.inf < label_range[0] < label_range[1] < math.inf:
        raise ManifestError(f"--label-range {label_range[0]:g},{label_range[1]:g}: expected the lowest value first")
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


def _classes(manifest: Manifest, name: str, column: str, one: str | None, corpus: Corpus | None) -> Classes:
    present = set(manifest.labels(column).values())
    if len(present) < 2:
        raise ManifestError(f"label {column!r} has one class only, {listed(present)}; a classifier needs two")
    if len(present) > MOST_NUMBERS_AS_CLASSES and all(_number(label) is not None for label in present):
        raise ManifestError(
            f"label {column!r} has {len(present)} different numbers such as {min(present)!r}, too many for "
            "classes; use --task regression"
        )
    if one is not None:
        if one not in present:
            raise ManifestError(f"target {name!r}: {unknown_name(f'class of {column}', one, present)}")
        return Classes(name=f"{column}={one}", column=column, classes=(_rest_of(one), one), one=one)
    known = [label for label in (corpus.classes if corpus else ()) if label in present]
    return Classes(name=column, column=column, classes=tuple(known + sorted(present - set(known))))


def _rest_of(one: str) -> str:
    """Return the name for all other classes, which must differ from the name of the one class."""
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
    """Return the value of a label; None if it is not a finite number in a common notation."""
    if NUMBER.fullmatch(label.strip()) is None:
        return None
    value = float(label)
    return value if math.isfinite(value) else None
