"""Predictions of several runs → votes of every combination, and the one that is best on validation.

Model selection sees validation data only: the combination with the highest validation UAR is chosen, from the rows of
all folds together, averaged over seeds; between equals the higher WA, then the fewer members, then the order of the
runs. In a cross-validation other folds test those utterances, so that beside it stands the UAR of choosing fold by
fold, from the validation rows of that fold alone, which no label of a tested utterance can influence.

Source: majority voting of three and five models: Gavali & Verma, Ensemble of Large Self-Supervised Transformers for
Improving Speech Emotion Recognition.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from featcache.errors import PredictionsError, listed
from featcache.evaluate.metrics import FUNCTIONS
from featcache.evaluate.predictions import checked, codes_of

if TYPE_CHECKING:
    import pandas as pd

Numbers = NDArray[np.float64]
Codes = NDArray[np.intp]

VOTES = ("hard", "soft")
TIE_RULE = "ties go to the higher summed probability, then to the class that stands first"
_KEYS = ["seed", "fold", "utterance_id"]
_DIGITS = 9  # sums that differ by less are tied: the same numbers in another order


@dataclass(frozen=True, kw_only=True)
class Ballots:
    """What the members say of the same rows.

    Attributes:
        rows: seed, fold, utterance_id, speaker_id, target; sorted by the first three.
        predicted: (num_members, num_rows) positions of the classes.
        probabilities: (num_members, num_rows, num_classes) float64.
        classes: The labels.
    """

    rows: "pd.DataFrame"
    predicted: Codes
    probabilities: Numbers
    classes: tuple[str, ...]

    @classmethod
    def of(cls, tables: "Mapping[str, pd.DataFrame]", classes: Sequence[str]) -> "Ballots":
        """Put the members' tables side by side.

        Args:
            tables: Name → rows of ``predictions.csv`` or ``validation_predictions.csv``.
            classes: All labels, in their order.

        Raises:
            PredictionsError: rows that cannot be scored, without probabilities, or not the same in all tables.
        """
        sorted_tables = {name: _sorted(name, table, classes) for name, table in tables.items()}
        (first_name, first), *others = sorted_tables.items()
        for name, table in others:
            _check_same(name, table, first_name, first)
        columns = [f"p_{label}" for label in classes]
        probabilities = [table[columns].to_numpy(float) for table in sorted_tables.values()]
        for name, values in zip(sorted_tables, probabilities, strict=True):
            if not np.isfinite(values).all():
                raise PredictionsError(f"{name} has probabilities that are not finite, so it cannot vote; fit it again")
        return cls(
            rows=first[[*_KEYS, "speaker_id", "target"]],
            predicted=np.stack([codes_of(table["prediction"], classes) for table in sorted_tables.values()]),
            probabilities=np.stack(probabilities),
            classes=tuple(classes),
        )

    def vote(self, members: Sequence[int], how: str) -> tuple[Codes, Numbers]:
        """What these members say together.

        ``hard``: the class that most members predict; ties go to the higher summed probability, then to the class that
        stands first. ``soft``: the class with the highest mean probability, then the one that stands first.

        Returns: (num_rows,) positions of the classes, and (num_rows, num_classes) float64: the shares of the votes, or
            the mean probabilities.
        """
        chosen = list(members)
        summed = np.round(self.probabilities[chosen].sum(axis=0), _DIGITS)
        if how == "soft":
            return summed.argmax(axis=1), summed / len(chosen)
        votes = (self.predicted[chosen][..., np.newaxis] == np.arange(len(self.classes))).sum(axis=0)
        tied = votes == votes.max(axis=1, keepdims=True)
        return np.where(tied, summed, -np.inf).argmax(axis=1), votes / len(chosen)

    def scores(self, predicted: Codes) -> tuple[float, float]:
        """UAR and WA in percent, mean over seeds, the folds of each seed together."""
        seeds, seed = np.unique(self.rows["seed"], return_inverse=True)
        shape = (len(seeds), len(self.classes), len(self.classes))
        cells = np.ravel_multi_index((seed, codes_of(self.rows["target"], self.classes), predicted), shape)
        counts = np.bincount(cells, minlength=int(np.prod(shape))).reshape(shape)
        uar, wa = (float(100 * FUNCTIONS[name](counts).mean()) for name in ("uar", "wa"))
        return uar, wa

    def of_fold(self, fold: Any) -> "Ballots":
        """The rows of one fold."""
        here = (self.rows["fold"] == fold).to_numpy()
        return Ballots(
            rows=self.rows[here],
            predicted=self.predicted[:, here],
            probabilities=self.probabilities[:, here],
            classes=self.classes,
        )

    def table(self, members: Sequence[int], how: str) -> "pd.DataFrame":
        """The rows of a ``predictions.csv`` for the vote of these members."""
        predicted, probabilities = self.vote(members, how)
        told = {f"p_{label}": probabilities[:, i] for i, label in enumerate(self.classes)}
        return self.rows.assign(prediction=np.array(self.classes, dtype=object)[predicted], **told)


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The combination that was chosen, and what it was chosen from.

    Attributes:
        members: Positions of the members.
        vote: ``hard`` or ``soft``.
        combinations: members, vote, validation_uar, validation_wa, test_uar, test_wa (percent); the chosen one first,
            then as they would have been chosen.
        uar_by_fold: Test UAR of choosing fold by fold; None where no fold tests what another one validates on.
    """

    members: tuple[int, ...]
    vote: str
    combinations: "pd.DataFrame"
    uar_by_fold: float | None


def choose(
    names: Sequence[str], validation: Ballots, test: Ballots, *, sizes: Sequence[int], votes: Sequence[str] = VOTES
) -> Choice:
    """Vote in every combination of so many members, and choose one on validation.

    Args:
        names: (num_members,) what the members are called.
        validation: What they say of validation utterances.
        test: What they say of test utterances; it has no part in the choice.
        sizes: How many members vote together.
        votes: ``hard``, ``soft`` or both.
    """
    import pandas as pd

    members = range(len(names))
    candidates = [
        (chosen, how)
        for size in sorted(set(sizes))
        for chosen in itertools.combinations(members, size)
        for how in votes
    ]
    order = _ranking(validation, candidates)
    rows = [
        [
            " + ".join(names[i] for i in chosen),
            how,
            *validation.scores(validation.vote(chosen, how)[0]),
            *test.scores(test.vote(chosen, how)[0]),
        ]
        for chosen, how in (candidates[i] for i in order)
    ]
    columns = ["members", "vote", "validation_uar", "validation_wa", "test_uar", "test_wa"]
    chosen, how = candidates[order[0]]
    shared = set(validation.rows["utterance_id"]) & set(test.rows["utterance_id"])
    return Choice(
        members=chosen,
        vote=how,
        combinations=pd.DataFrame(rows, columns=columns),
        uar_by_fold=_uar_by_fold(validation, test, candidates) if shared else None,
    )


def _ranking(validation: Ballots, candidates: Sequence[tuple[tuple[int, ...], str]]) -> list[int]:
    """The best on validation first; the candidates stand by size and order of the runs already."""
    scores = [np.round(validation.scores(validation.vote(*candidate)[0]), _DIGITS) for candidate in candidates]
    return sorted(range(len(candidates)), key=lambda i: (-scores[i][0], -scores[i][1], i))


def _uar_by_fold(validation: Ballots, test: Ballots, candidates: Sequence[tuple[tuple[int, ...], str]]) -> float:
    predicted = np.empty(len(test.rows), dtype=np.intp)
    for fold in test.rows["fold"].unique():
        best = candidates[_ranking(validation.of_fold(fold), candidates)[0]]
        predicted[(test.rows["fold"] == fold).to_numpy()] = test.of_fold(fold).vote(*best)[0]
    return test.scores(predicted)[0]


def _sorted(name: str, table: "pd.DataFrame", classes: Sequence[str]) -> "pd.DataFrame":
    missing = [f"p_{label}" for label in classes if f"p_{label}" not in table]
    if missing:
        raise PredictionsError(f"{name} has no probabilities {listed(missing)}; fit it again")
    try:
        table = checked(table, classes=classes).table
    except PredictionsError as error:
        raise PredictionsError(f"{name}: {error}") from error
    return table.sort_values(_KEYS).reset_index(drop=True)


def _check_same(name: str, table: "pd.DataFrame", first_name: str, first: "pd.DataFrame") -> None:
    for column in ("seed", "fold", "utterance_id"):
        alone = sorted(set(table[column]) ^ set(first[column]), key=str)
        if alone:
            raise PredictionsError(
                f"{name} and {first_name} differ in {column}: only one has {listed(alone)}; only runs of the same "
                "utterances, folds and seeds can vote"
            )
    if len(table) != len(first) or (table[_KEYS] != first[_KEYS]).any(axis=None):
        raise PredictionsError(
            f"{name} and {first_name} do not have the same utterances in every seed and fold; "
            "only runs of one protocol can vote"
        )
    differing = table.loc[table["target"] != first["target"], "utterance_id"].unique()
    if len(differing):
        raise PredictionsError(f"{name} and {first_name} have different targets for {listed(differing)}")
