"""Predictions of several runs → votes of every combination, and the combination with the best validation score.

Model selection uses validation data only. The combination with the highest validation UAR is chosen, computed over all
folds together and averaged over seeds. Ties go to the higher WA, then to fewer members, then to the order of the runs.
In cross-validation, other folds test the same utterances. Therefore, the UAR of choosing separately in each fold is
reported, too: it uses only validation rows of that fold, so labels of tested utterances cannot influence it.

Source: majority voting of three and five models: Gavali & Verma, Ensemble of Large Self-Supervised Transformers for
Improving Speech Emotion Recognition.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from featcache.errors import PredictionsError, listed
from featcache.evaluate.metrics import FUNCTIONS
from featcache.evaluate.predictions import checked, codes_of
from featcache.terminal.progress import long_progress

if TYPE_CHECKING:
    import pandas as pd

Numbers = NDArray[np.float64]
Codes = NDArray[np.intp]

VOTES = ("hard", "soft")
TIE_RULE = "ties go to the higher summed probability, then to the class that is listed first"
TIE_RULE_OF_SOME = (
    "ties go to the higher probability, summed over the members that have probabilities, then to the class that is "
    "listed first"
)
TIE_RULE_WITHOUT = "ties go to the class that is listed first"
_KEYS = ["seed", "fold", "utterance_id"]
_DIGITS = 9  # sums that differ only in later digits are tied


@dataclass(frozen=True, kw_only=True)
class Ballots:
    """Predictions of the members of an ensemble for the same rows.

    Attributes:
        rows: Table with the columns seed, fold, utterance_id, speaker_id and target; sorted by the first three.
        predicted: (num_members, num_rows) positions of the predicted classes.
        probabilities: (num_members, num_rows, num_classes) float64; NaN for members without probabilities.
        classes: Labels of all classes.
    """

    rows: "pd.DataFrame"
    predicted: Codes
    probabilities: Numbers
    classes: tuple[str, ...]

    @classmethod
    def of(cls, tables: "Mapping[str, pd.DataFrame]", classes: Sequence[str]) -> "Ballots":
        """Combine the tables of all members.

        Args:
            tables: Name of the member → rows of ``predictions.csv`` or ``validation_predictions.csv``.
            classes: All labels, in order.

        Raises:
            PredictionsError: rows cannot be scored, have only some of the probabilities, or differ between tables.
        """
        sorted_tables = {name: _sorted(name, table, classes) for name, table in tables.items()}
        (first_name, first), *others = sorted_tables.items()
        for name, table in others:
            _check_same(name, table, first_name, first)
        probabilities = [_probabilities(name, table, classes) for name, table in sorted_tables.items()]
        return cls(
            rows=first[[*_KEYS, "speaker_id", "target"]],
            predicted=np.stack([codes_of(table["prediction"], classes) for table in sorted_tables.values()]),
            probabilities=np.stack(probabilities),
            classes=tuple(classes),
        )

    def vote(self, members: Sequence[int], how: str) -> tuple[Codes, Numbers]:
        """Return the vote of some members.

        A ``hard`` vote is the class that most members predict; ties go to the higher probability, summed over the
        members that have probabilities, then to the class that is listed first. A ``soft`` vote is the class with the
        highest mean probability; ties go to the class that is listed first.

        Args:
            members: Positions of the members.
            how: ``hard`` or ``soft``.

        Returns:
            (num_rows,) positions of the classes, and (num_rows, num_classes) float64: the shares of the votes, or the
            mean probabilities.
        """
        chosen = list(members)
        summed = np.round(np.nansum(self.probabilities[chosen], axis=0), _DIGITS)
        if how == "soft":
            return summed.argmax(axis=1), summed / len(chosen)
        votes = (self.predicted[chosen][..., np.newaxis] == np.arange(len(self.classes))).sum(axis=0)
        tied = votes == votes.max(axis=1, keepdims=True)
        return np.where(tied, summed, -np.inf).argmax(axis=1), votes / len(chosen)

    def scores(self, predicted: Codes) -> tuple[float, float]:
        """Return UAR and WA in percent, over all folds of a seed, mean over seeds.

        Args:
            predicted: (num_rows,) positions of the predicted classes.
        """
        seeds, seed = np.unique(self.rows["seed"], return_inverse=True)
        shape = (len(seeds), len(self.classes), len(self.classes))
        cells = np.ravel_multi_index((seed, codes_of(self.rows["target"], self.classes), predicted), shape)
        counts = np.bincount(cells, minlength=int(np.prod(shape))).reshape(shape)
        uar, wa = (float(100 * FUNCTIONS[name](counts).mean()) for name in ("uar", "wa"))
        return uar, wa

    def of_fold(self, fold: Any) -> "Ballots":
        """Return the predictions for the rows of one fold."""
        here = (self.rows["fold"] == fold).to_numpy()
        return Ballots(
            rows=self.rows[here],
            predicted=self.predicted[:, here],
            probabilities=self.probabilities[:, here],
            classes=self.classes,
        )

    def table(self, members: Sequence[int], how: str) -> "pd.DataFrame":
        """Return the vote of some members as rows of a ``predictions.csv``, see :meth:`vote`."""
        predicted, probabilities = self.vote(members, how)
        told = {f"p_{label}": probabilities[:, i] for i, label in enumerate(self.classes)}
        return self.rows.assign(prediction=np.array(self.classes, dtype=object)[predicted], **told)


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The chosen combination, and all candidates.

    Attributes:
        members: Positions of the members.
        vote: ``hard`` or ``soft``.
        combinations: Table with the columns members, vote, validation_uar, validation_wa, test_uar and test_wa
            (percent), in the order of the choice; the chosen combination is the first row. Without a choice, there are
            no validation scores.
        uar_by_fold: Test UAR (percent) of choosing separately in each fold; None if no utterance is both in a test part
            and in a validation part.
    """

    members: tuple[int, ...]
    vote: str
    combinations: "pd.DataFrame"
    uar_by_fold: float | None


def choose(
    names: Sequence[str], validation: Ballots, test: Ballots, *, sizes: Sequence[int], votes: Sequence[str] = VOTES
) -> Choice:
    """Compute the votes of all combinations of members, and choose the best combination on validation.

    Args:
        names: (num_members,) names of the members.
        validation: Predictions for validation utterances.
        test: Predictions for test utterances; they do not affect the choice.
        sizes: Numbers of members in a combination.
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
    columns = ["members", "vote", "validation_uar", "validation_wa", "test_uar", "test_wa"]
    shared = set(validation.rows["utterance_id"]) & set(test.rows["utterance_id"])
    passes = 2 + (test.rows["fold"].nunique() if shared else 0)
    with long_progress("Counting votes", passes * len(candidates)) as advance:
        order = _ranking(validation, candidates, advance)
        rows = []
        for chosen, how in (candidates[i] for i in order):
            scores = (part.scores(part.vote(chosen, how)[0]) for part in (validation, test))
            rows.append([" + ".join(names[i] for i in chosen), how, *itertools.chain.from_iterable(scores)])
            advance(1)
        by_fold = _uar_by_fold(validation, test, candidates, advance) if shared else None
    chosen, how = candidates[order[0]]
    return Choice(members=chosen, vote=how, combinations=pd.DataFrame(rows, columns=columns), uar_by_fold=by_fold)


def without_choice(names: Sequence[str], test: Ballots, vote: str) -> Choice:
    """Compute the vote of all members, which needs no predictions for validation utterances.

    Args:
        names: (num_members,) names of the members.
        test: Predictions for test utterances.
        vote: ``hard`` or ``soft``.
    """
    import pandas as pd

    members = tuple(range(len(names)))
    row = [" + ".join(names), vote, *test.scores(test.vote(members, vote)[0])]
    combinations = pd.DataFrame([row], columns=["members", "vote", "test_uar", "test_wa"])
    return Choice(members=members, vote=vote, combinations=combinations, uar_by_fold=None)


def _ranking(
    validation: Ballots, candidates: Sequence[tuple[tuple[int, ...], str]], advance: Callable[[int], None]
) -> list[int]:
    """Return the positions of the candidates, best on validation first; ties keep the order of the candidates."""
    scores = []
    for candidate in candidates:
        scores.append(np.round(validation.scores(validation.vote(*candidate)[0]), _DIGITS))
        advance(1)
    return sorted(range(len(candidates)), key=lambda i: (-scores[i][0], -scores[i][1], i))


def _uar_by_fold(
    validation: Ballots,
    test: Ballots,
    candidates: Sequence[tuple[tuple[int, ...], str]],
    advance: Callable[[int], None],
) -> float:
    predicted = np.empty(len(test.rows), dtype=np.intp)
    for fold in test.rows["fold"].unique():
        best = candidates[_ranking(validation.of_fold(fold), candidates, advance)[0]]
        predicted[(test.rows["fold"] == fold).to_numpy()] = test.of_fold(fold).vote(*best)[0]
    return test.scores(predicted)[0]


def _sorted(name: str, table: "pd.DataFrame", classes: Sequence[str]) -> "pd.DataFrame":
    try:
        table = checked(table, classes=classes).table
    except PredictionsError as error:
        raise PredictionsError(f"{name}: {error}") from error
    return table.sort_values(_KEYS).reset_index(drop=True)


def _probabilities(name: str, table: "pd.DataFrame", classes: Sequence[str]) -> Numbers:
    """Return the probabilities of a table: (num_rows, num_classes); NaN if it has none."""
    columns = [f"p_{label}" for label in classes]
    missing = [column for column in columns if column not in table]
    if len(missing) == len(columns):
        return np.full((len(table), len(columns)), np.nan)
    if missing:
        raise PredictionsError(f"{name} has no probabilities {listed(missing)}; add them, or remove the others")
    values: Numbers = table[columns].to_numpy(float)
    if not np.isfinite(values).all():
        raise PredictionsError(f"{name} has probabilities that are not finite, so it cannot vote; correct them")
    return values


def _check_same(name: str, table: "pd.DataFrame", first_name: str, first: "pd.DataFrame") -> None:
    for column in ("seed", "fold", "utterance_id"):
        alone = sorted(set(table[column]) ^ set(first[column]), key=str)
        if alone:
            raise PredictionsError(
                f"{name} and {first_name} differ in {column}: only one run has {listed(alone)}; only runs of the same "
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
