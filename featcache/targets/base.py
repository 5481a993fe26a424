"""Labels of a manifest → training targets; outputs of heads → columns of ``predictions.csv``: the interface."""

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from featcache.manifest import Manifest, Utterance
from featcache.protocols import Fold
from featcache.targets import losses

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

Value = int | Sequence[float]
TASKS = CLASSIFICATION, REGRESSION, MULTILABEL = "classification", "regression", "multilabel"
# Stricter than float() of Python, which also accepts 1_000, nan and digits of other scripts.
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)


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
        """Split the target into each class against all others, into single dimensions, or into single labels.

        A target with two classes stays one target.
        """

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """Return the entries of ``config.yaml`` that describe the target."""

    @abstractmethod
    def value(self, utterance: Utterance) -> Value:
        """Return the training target of an utterance: position of the class, or values in [0, 1]."""

    def decided(self, utterances: Sequence[Utterance], predictions: Sequence[Sequence[float]]) -> "PredictionTarget":
        """Return the target with what one training chooses on its validation part, such as thresholds.

        Most targets choose nothing, and return themselves.

        Args:
            utterances: The utterances of the validation part.
            predictions: (num_utterances, num_outputs) predictions of the trained head for them.
        """
        return self

    def saved(self) -> "dict[str, Tensor]":
        """Return what is saved beside the weights of a head, by name: the values that :meth:`decided` chose."""
        return {}

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


def number_of(label: str) -> float | None:
    """Return the value of a label; None if it is not a finite number in a common notation."""
    if NUMBER.fullmatch(label.strip()) is None:
        return None
    value = float(label)
    return value if math.isfinite(value) else None
