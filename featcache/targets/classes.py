"""Classification: the target is one of several classes."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from featcache.corpora import Corpus
from featcache.errors import ManifestError, ProtocolError, listed, unknown_name
from featcache.evaluate.metrics import summarise
from featcache.manifest import Manifest, Utterance
from featcache.protocols import Fold
from featcache.targets import losses
from featcache.targets.base import CLASSIFICATION, PredictionTarget, Value, number_of

if TYPE_CHECKING:
    import pandas as pd

REST = "rest"
# A label with more different numbers than this is refused as a class: it is probably meant for a regression.
MOST_NUMBERS_AS_CLASSES = 20


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


def classes_target(manifest: Manifest, name: str, column: str, one: str | None, corpus: Corpus | None) -> Classes:
    """Make the target of a label with classes.

    Args:
        manifest: The utterances that take part; each has the label.
        name: Name of the target, for messages.
        column: Name of the label.
        one: Class that is predicted against all others; None for all classes.
        corpus: The corpus, which defines the order of its classes; None if unknown.

    Raises:
        ManifestError: the class does not exist, or the label has a single class or too many different numbers.
    """
    present = set(manifest.labels(column).values())
    if len(present) < 2:
        raise ManifestError(f"label {column!r} has one class only, {listed(present)}; a classifier needs two")
    check_classes(column, present)
    if one is not None:
        if one not in present:
            raise ManifestError(f"target {name!r}: {unknown_name(f'class of {column}', one, present)}")
        return Classes(name=f"{column}={one}", column=column, classes=(_rest_of(one), one), one=one)
    known = [label for label in (corpus.classes if corpus else ()) if label in present]
    return Classes(name=column, column=column, classes=tuple(known + sorted(present - set(known))))


def check_classes(column: str, labels: Collection[str]) -> None:
    """Check that labels can be classes.

    Args:
        column: Name of the label.
        labels: Its different values.

    Raises:
        ManifestError: they are too many different numbers.
    """
    if len(labels) > MOST_NUMBERS_AS_CLASSES and all(number_of(label) is not None for label in labels):
        raise ManifestError(
            f"label {column!r} has {len(labels)} different numbers such as {min(labels)!r}, too many for "
            "classes; use --task regression"
        )


def _rest_of(one: str) -> str:
    """Return the name for all other classes, which must differ from the name of the one class."""
    return REST if one != REST else f"no {REST}"
