"""Votes of annotators in a manifest → soft labels: the share of the votes that each class has.

The column ``votes_LABEL_CLASS`` contains the number of annotators who chose the class, or any other number that is
proportional to its share: ``votes_emotion_anger``. An empty cell counts as 0.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

from featcache.errors import ManifestError, listed
from featcache.manifest import Manifest, Utterance
from featcache.targets import losses
from featcache.targets.base import NUMBER, Value
from featcache.targets.classes import Classes
from featcache.units import counted
from featcache.utterances import VOTES

_REMEDY = (
    "run the same 'featcache extract' again, which keeps the features and adds the votes of IEMOCAP, CREMA-D and "
    "MSP-Podcast, or the columns of your own manifest.csv"
)
# Largest number of votes, so that sums are finite.
_MOST = 1e100
_NO_VOTES_NOTE = "Soft labels: {} no votes for these classes, so that the hard label was used."


@dataclass(frozen=True, kw_only=True)
class SoftClasses(Classes):
    """Classification that is trained on the votes of annotators. Scores and predictions use the hard labels.

    Attributes:
        votes: For each class, the columns whose votes count for it: one, or several for the class ``rest``.
    """

    votes: tuple[tuple[str, ...], ...]

    @property
    def objective(self) -> losses.Objective:
        return losses.SOFT_CLASSIFICATION

    def value(self, utterance: Utterance) -> Value:
        """Return the share of the votes of each class, followed by 1 for the hard class and 0 for the others."""
        hard = [0.0] * len(self.classes)
        hard[self.position(utterance)] = 1.0
        votes = self.votes_of(utterance)
        total = sum(votes)
        return [*([number / total for number in votes] if total else hard), *hard]

    def votes_of(self, utterance: Utterance) -> list[float]:
        """Return the number of votes of each class."""
        return [sum(_number(utterance, column) for column in columns) for columns in self.votes]


def soft_classes(target: Classes, manifest: Manifest) -> SoftClasses:
    """Return a classification that is trained on the votes of annotators.

    Votes for classes that are not in the label column of any utterance do not count.

    Args:
        target: The classification.
        manifest: The utterances that take part.

    Raises:
        ManifestError: columns of votes are missing, or a vote is not a number of at least 0.
    """
    labels = target.classes if target.one is None else sorted(set(manifest.labels(target.column).values()))
    columns = {label: f"{VOTES}{target.column}_{label}" for label in labels}
    missing = [column for column in columns.values() if column not in manifest.label_columns]
    if missing:
        raise ManifestError(
            f"--loss soft needs the votes of annotators for each class of {target.column!r}, but the manifest lacks "
            f"{counted(len(missing), 'column')}: {listed(missing)}; {_REMEDY}"
        )
    groups: Sequence[Sequence[str]] = [[column] for column in columns.values()]
    if target.one is not None:
        groups = [[column for label, column in columns.items() if label != target.one], [columns[target.one]]]
    shared = {one.name: getattr(target, one.name) for one in fields(Classes)}
    soft = SoftClasses(**shared, votes=tuple(map(tuple, groups)))
    without = sum(not sum(soft.votes_of(utterance)) for utterance in manifest)
    if without == len(manifest):
        raise ManifestError(f"--loss soft: no utterance has a vote in {listed(columns.values())}; {_REMEDY}")
    note = _NO_VOTES_NOTE.format(counted(without, "utterance", "have"))
    return replace(soft, notes=(*soft.notes, note)) if without else soft


def _number(utterance: Utterance, column: str) -> float:
    text = utterance.labels.get(column, "").strip()
    number = float(text or 0) if not text or NUMBER.fullmatch(text) else math.nan
    if not 0 <= number <= _MOST:
        raise ManifestError(
            f"{column} of utterance {utterance.utterance_id!r} is {text!r}, expected a number of votes from 0 to "
            f"{_MOST:g}; correct the manifest.csv beside the audio and run the same 'featcache extract' again"
        )
    return number
