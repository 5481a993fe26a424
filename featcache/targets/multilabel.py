"""Multilabel classification: each utterance has any number of several labels."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from featcache.corpora import Corpus
from featcache.errors import ManifestError, ProtocolError, listed, unknown_name
from featcache.evaluate.label_sets import CHANCE, label_columns_of, summarise_labels
from featcache.labels import lookalikes
from featcache.manifest import Manifest, Utterance
from featcache.protocols import Fold
from featcache.runs.identity import LABEL_NAMES, THRESHOLDS
from featcache.targets.base import MULTILABEL, PredictionTarget
from featcache.targets.losses import Objective
from featcache.targets.thresholds import DEFAULT, best_threshold

if TYPE_CHECKING:
    import pandas as pd

# Text of an utterance that was annotated and has none of the labels. An empty text means that it was not annotated.
NONE = "none"
SEPARATOR = ";"
THRESHOLD_NOTE = "Thresholds of the labels were chosen on the validation part of each training."


def uar_of_labels(outputs: Tensor, targets: Tensor) -> float:
    """Return the UAR of each label at a probability of 0.5, averaged over the labels.

    Args:
        outputs: (num_utterances, num_labels) logits.
        targets: (num_utterances, num_labels) 1 if the utterance has the label, otherwise 0.
    """
    from featcache.evaluate.metrics import uar

    expected, predicted = targets.cpu().numpy() > 0, outputs.cpu().numpy() >= 0
    return float(np.mean([uar(expected[:, i], predicted[:, i]) for i in range(expected.shape[1])]))


MULTILABEL_OBJECTIVE = Objective(
    loss=nn.functional.binary_cross_entropy_with_logits,
    score=uar_of_labels,
    predictions=torch.sigmoid,
)


@dataclass(frozen=True, kw_only=True)
class Labels(PredictionTarget):
    """Multilabel classification: the targets are several labels that do not exclude each other.

    Attributes:
        columns_of_labels: Columns of the manifest: one per label with 0 or 1, or one that lists the labels.
        names: Names of the labels, in the order of all tables.
        listing: Whether the only column lists the labels of an utterance, ``a;b``.
        thresholds: Lowest probability at which each label is predicted, in the order of ``names``; empty for 0.5.
    """

    columns_of_labels: tuple[str, ...]
    names: tuple[str, ...]
    listing: bool
    thresholds: tuple[float, ...] = ()

    @property
    def short_name(self) -> str:
        return self.names[0] if len(self.names) == 1 else self.name

    @property
    def labels(self) -> tuple[str, ...]:
        return self.columns_of_labels

    @property
    def num_outputs(self) -> int:
        return len(self.names)

    @property
    def objective(self) -> Objective:
        return MULTILABEL_OBJECTIVE

    @property
    def score(self) -> str:
        return "uar"

    @property
    def chance(self) -> float:
        return CHANCE

    def parts(self) -> list[PredictionTarget]:
        if len(self.names) == 1:
            return [self]
        if self.listing:
            [column] = self.columns_of_labels
            return [replace(self, name=f"{column}={one}", names=(one,), thresholds=()) for one in self.names]
        return [replace(self, name=one, names=(one,), columns_of_labels=(one,), thresholds=()) for one in self.names]

    def settings(self) -> dict[str, Any]:
        return {"task": MULTILABEL, "target": self.name, LABEL_NAMES: list(self.names)}

    def value(self, utterance: Utterance) -> list[float]:
        if self.listing:
            present = read_list(utterance.labels[self.columns_of_labels[0]])
            return [float(name in present) for name in self.names]
        return [float(utterance.labels[name].strip()) for name in self.names]

    def decided(self, utterances: Sequence[Utterance], predictions: Sequence[Sequence[float]]) -> "Labels":
        targets = np.array([self.value(utterance) for utterance in utterances])
        probabilities = np.array(predictions)
        chosen = (best_threshold(probabilities[:, i], targets[:, i]) for i in range(len(self.names)))
        return replace(self, thresholds=tuple(chosen))

    def saved(self) -> dict[str, Tensor]:
        return {THRESHOLDS: torch.tensor(self.thresholds, dtype=torch.float32)}

    def columns(self) -> list[str]:
        return label_columns_of(self.names)

    def cells(self, utterance: Utterance, prediction: Sequence[float]) -> list[Any]:
        cells: list[Any] = []
        thresholds = self.thresholds or [DEFAULT] * len(self.names)
        for target, probability, threshold in zip(self.value(utterance), prediction, thresholds, strict=True):
            cells += [int(target), int(probability >= threshold), f"{probability:.6g}"]
        return cells

    def summarise(self, predictions: "pd.DataFrame") -> dict[str, Any]:
        return summarise_labels(predictions, self.names)

    def check_folds(self, folds: Sequence[Fold], manifest: Manifest) -> list[str]:
        warnings = [f"labels {listed(group)} look alike but are different labels" for group in lookalikes(self.names)]
        for fold in folds:
            trained, tested = (np.array([self.value(manifest[i]) for i in part]) for part in (fold.train, fold.test))
            constant = [name for name, same in zip(self.names, np.ptp(trained, axis=0) == 0, strict=True) if same]
            if len(constant) == len(self.names):
                raise ProtocolError(
                    f"fold {fold.name!r} trains on one value of {listed(constant)} only; use another protocol"
                )
            present = tested.max(axis=0) > 0 if len(tested) else [False] * len(self.names)
            unseen = [
                name
                for name, known, occurs in zip(self.names, trained.max(axis=0) > 0, present, strict=True)
                if occurs and not known
            ]
            if unseen:
                warnings.append(f"fold {fold.name!r} tests labels that are not in its training part: {listed(unseen)}")
        return warnings


def read_list(text: str) -> frozenset[str]:
    """Return the labels in ``a;b``; none for ``none``.

    Raises:
        ValueError: the text contains ``none`` and other labels, or no label.
    """
    names = [name.strip() for name in text.split(SEPARATOR)]
    found = frozenset(filter(None, names))
    none = {name for name in found if name.casefold() == NONE}
    if not found or (none and len(found) > len(none)):
        raise ValueError(f"expected labels such as anger{SEPARATOR}joy, or {NONE}")
    return found - none


def labels_target(
    manifest: Manifest,
    columns: Sequence[str],
    one: str | None,
    corpus: Corpus | None,
    *,
    where: Callable[[str], str],
) -> Labels:
    """Make the target of several labels that do not exclude each other.

    Args:
        manifest: The utterances that take part; each has a text in all columns.
        columns: Columns with 0 and 1, or a single column that lists the labels of each utterance, ``a;b``.
        one: The only label of a list that is predicted; None for all.
        corpus: The corpus, which defines the order of its classes; None if unknown.
        where: Utterance id → description of the utterance in messages.

    Raises:
        ManifestError: a text is not 0 or 1, or not a list; a label does not exist; or all utterances have the same
            labels.
    """
    texts = {column: manifest.labels(column) for column in columns}
    listing = len(columns) == 1 and not {text.strip() for text in texts[columns[0]].values()} <= {"0", "1"}
    if not listing:
        if one is not None:
            raise ManifestError(
                f"target {columns[0]}={one}: {columns[0]!r} contains 0 and 1, not names; give {columns[0]}"
            )
        for column, values in texts.items():
            for utterance_id, text in values.items():
                if text.strip() not in ("0", "1"):
                    raise ManifestError(
                        f"label {column!r} of {where(utterance_id)} is {text!r}, expected 0 or 1; for a column that "
                        f"lists labels such as anger{SEPARATOR}joy, give only that column"
                    )
        found = Labels(
            name=",".join(columns),
            columns_of_labels=tuple(columns),
            names=tuple(columns),
            listing=False,
            notes=(THRESHOLD_NOTE,),
        )
    else:
        found = _listed_labels(texts[columns[0]], columns[0], one, corpus, where)
    if len({tuple(found.value(utterance)) for utterance in manifest}) < 2:
        raise ManifestError(f"target {found.name!r}: all utterances have the same labels; expected different ones")
    return found


def _listed_labels(
    texts: dict[str, str], column: str, one: str | None, corpus: Corpus | None, where: Callable[[str], str]
) -> Labels:
    present: set[str] = set()
    for utterance_id, text in texts.items():
        try:
            present |= read_list(text)
        except ValueError as error:
            raise ManifestError(f"label {column!r} of {where(utterance_id)} is {text!r}, {error}") from None
    if one is not None:
        if one not in present:
            raise ManifestError(f"target {column}={one}: {unknown_name(f'label in {column}', one, present)}")
        return Labels(
            name=f"{column}={one}", columns_of_labels=(column,), names=(one,), listing=True, notes=(THRESHOLD_NOTE,)
        )
    known = [label for label in (corpus.classes if corpus else ()) if label in present]
    names = tuple(known + sorted(present - set(known)))
    return Labels(name=column, columns_of_labels=(column,), names=names, listing=True, notes=(THRESHOLD_NOTE,))
